"""The SBPL text of a `Confinement`: a pure function, deterministic to the byte.

The text is a sequence of groups of rules, each from one function below, each sorted. What decides
in Seatbelt is the last rule that matches, except that a rule naming an operation outright beats
one naming it by a wildcard wherever either stands (seen by users: github.com/GreyhavenHQ/greywall
pull 20, github.com/nolabs-ai/nono pull 697; `evaluator` has both readings). So denials come last
*and* name every operation that any allowance names, and the two readings agree on every text.

A path is written under each of its `spelling.spellings`. Where an equal name could be made later,
in a writable directory, a denial also has a pattern of all equal names; elsewhere `places` sees to
it that what is denied is named as it is stored.

Hard links are never allowed (`file-link` is named nowhere): whether Seatbelt checks the old name
or the new isn't documented, and a link would lend a read-only file a writable name. Clones
(`file-clone`) likewise; programs fall back to copying.

Architecture invariant: no I/O, no clock; equal confinements give equal bytes.
"""

from __future__ import annotations

from itertools import chain

from nono_sandbox.confinement import CLOSED, OPEN, PORTS, READ, WRITE, Confinement
from nono_sandbox.seatbelt import fixed
from nono_sandbox.seatbelt.expressible import refuse_inexpressible
from nono_sandbox.seatbelt.rules import (
    READ_OPERATIONS,
    SEEN_OPERATIONS,
    WRITE_OPERATIONS,
    denied,
    equal_patterns,
    granted,
    patterns,
    root_of,
    rule,
    sockets,
    texts,
    writable_roots,
)
from nono_sandbox.seatbelt.sbpl import Pattern, RefusedError, Text, write_rule
from nono_sandbox.seatbelt.spelling import ancestors, canonical, spellings
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.seatbelt.rules import Rules

PROFILE_BYTES_MAX = 512 * 1024
"""`sandbox-exec -p` takes the text as an argument, and ARG_MAX is 1 MiB."""

FAMILIES = ("AF_INET", "AF_INET6")


class Group(Value):
    """Rules that stand together in the text, under their name."""

    name: str
    rules: Callable[[Confinement], Rules]


def profile(confinement: Confinement) -> str:
    """Return the profile that enforces *confinement*.

    Raises:
        RefusedError: Seatbelt can't express an item of it, which the message names.
    """
    refuse_inexpressible(confinement)
    lines = ["(version 1)", "(deny default)"]
    for group in GROUPS:
        rules = group.rules(confinement)
        if rules:
            lines += ["", f"; {group.name}", *(write_rule(one) for one in rules)]
    text = "\n".join(lines) + "\n"
    if len(text.encode()) > PROFILE_BYTES_MAX:
        raise RefusedError(f"the profile is longer than {PROFILE_BYTES_MAX} bytes")
    return text


def _process(_: Confinement) -> Rules:
    # "same-sandbox" is this one run of sandbox-exec: two calls can't signal each other.
    return [
        ("allow", "process-fork"),
        ("allow", "process-info*", ("target", "same-sandbox")),
        ("allow", "signal", ("target", "same-sandbox")),
    ]


def _sysctl(confinement: Confinement) -> Rules:
    prefixes = list(fixed.SYSCTL_PREFIXES)
    if confinement.network.mode != CLOSED:
        prefixes += fixed.NETWORK_SYSCTL_PREFIXES
    read = texts("sysctl-name", fixed.SYSCTLS) + texts("sysctl-name-prefix", prefixes)
    return [
        *rule("allow", ["sysctl-read"], read),
        *rule("allow", ["sysctl-write"], texts("sysctl-name", fixed.SYSCTLS_ASKED_IN_WRITING)),
    ]


def _mach(confinement: Confinement) -> Rules:
    services = [name for name, _ in fixed.MACH_SERVICES]
    if confinement.network.mode != CLOSED:
        services += [name for name, _ in fixed.CONFIGURATION_SERVICES]
    if confinement.network.mode == OPEN:
        services += [name for name, _ in fixed.NETWORK_SERVICES]
    return rule("allow", ["mach-lookup"], texts("global-name", services))


def _ipc(_: Confinement) -> Rules:
    shared = [("ipc-posix-name-regex", Pattern(fixed.SHARED_MEMORY))]
    return [
        *rule("allow", ["ipc-posix-sem"], [("ipc-posix-name-regex", Pattern(fixed.SEMAPHORES))]),
        *rule("allow", ["ipc-posix-shm*"], shared),
    ]


def _devices(_: Confinement) -> Rules:
    written = texts("literal", fixed.DEVICES_WRITTEN) + texts("subpath", [fixed.DESCRIPTORS])
    # The loader lists the root directory before anything runs (github.com/jdx/mise pull 12263).
    read = texts("literal", ["/", *fixed.DEVICES_READ])
    return [
        *rule("allow", SEEN_OPERATIONS, texts("literal", chain(*map(spellings, fixed.SEEN)))),
        *rule("allow", ["file-read*", "file-test-existence"], read),
        *rule("allow", ["file-read*", "file-test-existence", "file-write-data"], written),
    ]


def _terminals(_: Confinement) -> Rules:
    slaves = ("regex", Pattern(fixed.TERMINAL_SLAVES))
    own = ("require-all", slaves, ("extension", Text(fixed.OWN_TERMINAL)))
    opened = [*texts("literal", fixed.TERMINALS), own]
    # A slave that was handed in can be asked for its size; none but an own one can be opened.
    return [
        ("allow", "pseudo-tty"),
        *rule("allow", ["file-read*", "file-test-existence", "file-write-data"], opened),
        *rule("allow", ["file-ioctl"], [*texts("literal", fixed.TERMINALS), slaves]),
    ]


def _leading(confinement: Confinement) -> Rules:
    """Let realpath(3) and getcwd(3) walk to what is granted, seeing nothing beside the way."""
    seen = {link.path for link in confinement.links}
    for grant in confinement.grants:
        seen.update(ancestors(canonical(grant.path)))
    return rule("allow", SEEN_OPERATIONS, texts("literal", chain(*map(spellings, seen))))


def _reads(confinement: Confinement) -> Rules:
    operations = ["file-map-executable", "file-read*", "file-test-existence", "process-exec*"]
    return rule("allow", operations, granted(confinement, READ))


def _writes(confinement: Confinement) -> Rules:
    filters = granted(confinement, WRITE)
    return [*rule("allow", SEEN_OPERATIONS, filters), *rule("allow", ["file-write*"], filters)]


def _unix_sockets(confinement: Confinement) -> Rules:
    filters = granted(confinement, WRITE)
    if not filters:
        return []
    return [
        ("allow", "system-socket", ("socket-domain", "AF_UNIX")),
        *sockets("allow", filters),
    ]


def _internet() -> Rules:
    return [("allow", "system-socket", ("socket-domain", family)) for family in FAMILIES]


def _ports(confinement: Confinement) -> Rules:
    network = confinement.network
    if network.mode != PORTS:
        return []
    # "localhost" is any address of this machine; Seatbelt takes that or "*" and no other. Servers
    # bind to none in particular, which isn't one of them (github.com/bazelbuild/bazel pull 30865):
    # "*" of what is bound is no more than the machine's own addresses.
    bound: Rules = [("local", "tcp", Text(f"*:{port}")) for port in network.bind_ports]
    local: Rules = [("local", "tcp", Text(f"localhost:{port}")) for port in network.bind_ports]
    remote: Rules = [("remote", "tcp", Text(f"localhost:{port}")) for port in network.connect_ports]
    return [
        *_internet(),
        *rule("allow", ["network-bind"], bound),
        *rule("allow", ["network-inbound"], local),
        *rule("allow", ["network-outbound"], remote),
    ]


def _open_network(confinement: Confinement) -> Rules:
    if confinement.network.mode != OPEN:
        return []
    # "ip" leaves unix sockets out; a rule without a filter would open every one of them.
    resolver = ("remote", "unix-socket", ("literal", Text(fixed.RESOLVER_SOCKET)))
    control = ("require-all", ("socket-domain", "AF_SYSTEM"), ("socket-protocol", "2"))
    return [
        *_internet(),
        ("allow", "system-socket", control),
        ("allow", "network-bind", "network-inbound", ("local", "ip", Text("*:*"))),
        ("allow", "network-outbound", ("remote", "ip", Text("*:*")), resolver),
    ]


def _launchd_sockets(_: Confinement) -> Rules:
    return sockets("deny", patterns([fixed.LAUNCHD_SOCKETS]))


def _set_id(_: Confinement) -> Rules:
    return [("deny", "file-write-setugid")]


def _held_roots(confinement: Confinement) -> Rules:
    """Keep a writable grant where it is: elsewhere its path would name something else."""
    roots = writable_roots(confinement)
    held = [
        spelling
        for grant in confinement.grants
        if grant.access & WRITE
        and root_of(canonical(grant.path), roots) in (None, canonical(grant.path))
        for spelling in spellings(grant.path)
    ]
    return rule("deny", ["file-write-unlink"], texts("literal", held))


def _denied_reads(confinement: Confinement) -> Rules:
    # What can be moved out of a denial can be read where it arrives.
    return rule("deny", [*READ_OPERATIONS, "file-write-unlink"], denied(confinement, READ))


def _denied_writes(confinement: Confinement) -> Rules:
    return rule("deny", WRITE_OPERATIONS, denied(confinement, WRITE))


def _denied_sockets(confinement: Confinement) -> Rules:
    return sockets("deny", denied(confinement, READ | WRITE))


def _held_parents(confinement: Confinement) -> Rules:
    """Keep every writable directory above a denial: renamed, it would take the rest with it."""
    roots = writable_roots(confinement)
    above = {
        parent
        for denial in confinement.denials
        for parent in ancestors(canonical(denial.path))
        if root_of(parent, roots)
    }
    filters = [
        form
        for parent in above
        for form in (
            *texts("literal", spellings(parent)),
            *patterns(equal_patterns(roots, parent, "$")),
        )
    ]
    return rule("deny", ["file-write-unlink"], filters)


GROUPS = (
    Group("processes: its own alone", _process),
    Group("what the machine is", _sysctl),
    Group("mach services", _mach),
    Group("named semaphores and shared memory", _ipc),
    Group("devices", _devices),
    Group("terminals", _terminals),
    Group("what leads to a grant: its metadata", _leading),
    Group("grants: read and execute", _reads),
    Group("grants: write", _writes),
    Group("grants: unix sockets", _unix_sockets),
    Group("network: ports of this machine", _ports),
    Group("network: open", _open_network),
    Group("never: sockets of launchd", _launchd_sockets),
    Group("never: set-id bits", _set_id),
    Group("never: a grant's root moved away", _held_roots),
    Group("denials: read and execute", _denied_reads),
    Group("denials: write", _denied_writes),
    Group("denials: unix sockets", _denied_sockets),
    Group("denials: their parents moved away", _held_parents),
)
"""In the order of the text. Denials come after every allowance."""
