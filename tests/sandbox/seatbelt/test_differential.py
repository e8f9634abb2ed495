"""The profile's text, evaluated, against two judges that know no SBPL.

One is the policy's own answer, which `nono why` gives; it is asked what it has words for, of paths
as macOS stores them. The other, here, decides every operation, and knows the other names of a
path. Both decide from the confinement alone. Invariant: for every confinement and query, both
readings of Seatbelt's rule order give the judges' answer.
"""

from __future__ import annotations

import functools
import random
import unicodedata
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import decide
from nono_mcp.policy.document import Document
from nono_mcp.policy.protection import Catalogue
from nono_mcp.policy.request import Prepared
from nono_sandbox.confinement import (
    CLOSED,
    OPEN,
    PORTS,
    READ,
    SEATBELT,
    WRITE,
    Confinement,
    Denial,
    Grant,
    Link,
    Network,
)
from nono_sandbox.seatbelt import profile as generator
from nono_sandbox.seatbelt import rules
from nono_sandbox.seatbelt.evaluator import Profile, Query, Reading, Rule
from nono_sandbox.seatbelt.spelling import spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nono_sandbox.seatbelt.sbpl import Form

CASES = 10_000
CHUNKS = 10
QUERIES = 2
"""How many cases are of one confinement."""
CASES_TO_FIND_A_CUT = 3_000
HOME = "/Users/u"
DATA = "/System/Volumes/Data"

READING = ("file-read-data", "file-read-xattr", "file-map-executable", "process-exec")
WRITING = ("file-write-data", "file-write-create", "file-write-mode", "file-write-xattr")
SEEING = ("file-read-metadata", "file-test-existence")
NEVER = ("file-link", "file-clone", "file-mount", "file-write-setugid", "file-chroot")

# What stands in every profile, by hand: name of the node, whether it can be written.
NODES = {
    "/": False,
    "/dev/random": False,
    "/dev/urandom": False,
    "/dev/null": True,
    "/dev/stdin": True,
    "/dev/stdout": True,
    "/dev/stderr": True,
    "/dev/zero": True,
    "/dev/fd": True,
    "/dev/fd/1": True,
    "/dev/ptmx": True,
    "/dev/tty": True,
}
SEEN = ("/dev", "/Library/Internet Plug-Ins")
NAMED = {
    "mach-lookup": {"com.apple.bsd.dirhelper", "com.apple.system.opendirectoryd.libinfo"},
    "sysctl-read": {"hw.ncpu", "hw.optional.arm64", "kern.osrelease"},
    "sysctl-write": {"kern.grade_cputype"},
    "ipc-posix-sem": {"/mp-4x_z8", "/loky-12-x_1"},
    "ipc-posix-shm-write-create": {"/psm_1f2e", "/__KMP_REGISTERED_LIB_12"},
}
NAMED_OF_NETWORKS = {
    "mach-lookup": {"com.apple.SystemConfiguration.configd"},
    "sysctl-read": {"net.routetable.0.0.3.0"},
}
TERMINALS = ("/dev/ptmx", "/dev/tty", "/dev/ttys003")
SLAVE = "/dev/ttys003"
PTY = "com.apple.sandbox.pty"


def canonical(path: str) -> str:
    if path.startswith(DATA + "/"):
        path = path[len(DATA) :]
    if path.split("/")[1] in ("tmp", "var", "etc"):
        path = "/private" + path
    return path


def parts(path: str) -> list[str]:
    return [part for part in canonical(path).split("/") if part]


def folded(path: str) -> list[str]:
    names = parts(path)
    return [
        unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
        for name in names
    ]


def inside(path: list[str], root: list[str]) -> bool:
    return path[: len(root)] == root


class Reference:
    """What the confinement means."""

    def __init__(self, confinement: Confinement) -> None:
        self.confinement = confinement
        self.writable = [
            parts(grant.path)
            for grant in confinement.grants
            if grant.access & WRITE and not grant.exact
        ]

    def granted(self, path: str, access: int) -> bool:
        return any(
            parts(path) == parts(grant.path)
            if grant.exact
            else inside(parts(path), parts(grant.path))
            for grant in self.confinement.grants
            if grant.access & access
        )

    def covers(self, path: str, denied: str) -> bool:
        """Return whether *path* is *denied* or in it, by any name that could be made."""
        if inside(parts(path), parts(denied)):
            return True
        return any(
            inside(parts(path), root)
            and inside(parts(denied), root)
            and inside(folded(path), folded(denied))
            for root in self.writable
        )

    def denied(self, path: str, access: int) -> bool:
        return any(
            denial.access & access and self.covers(path, denial.path)
            for denial in self.confinement.denials
        )

    def leads_to_grant(self, path: str) -> bool:
        links = [parts(link.path) for link in self.confinement.links]
        return parts(path) in links or any(
            inside(parts(grant.path), parts(path)) for grant in self.confinement.grants
        )

    def holds_denial(self, path: str) -> bool:
        """Return whether a denial lies beneath *path*, by any name that could be made."""
        return any(
            inside(parts(denial.path), parts(path))
            or any(
                inside(parts(path), root)
                and inside(parts(denial.path), root)
                and inside(folded(denial.path), folded(path))
                for root in self.writable
            )
            for denial in self.confinement.denials
        )

    def is_root(self, path: str) -> bool:
        """Return whether *path* is a writable grant that lies in no other writable directory."""
        own = parts(path)
        above = [root for root in self.writable if inside(own, root) and root != own]
        return not above and any(
            own == parts(grant.path) for grant in self.confinement.grants if grant.access & WRITE
        )

    def file(self, operation: str, path: str, extension: str | None) -> bool:
        mine = path == SLAVE and extension == PTY
        if operation in NEVER:
            return False
        if operation == "file-ioctl":
            return path in TERMINALS and not self.denied(path, WRITE)
        if operation in (*WRITING, "file-write-unlink"):
            node = operation == "file-write-data" and (NODES.get(path, False) or mine)
            # Moved away, what can't be read could be read elsewhere.
            held = operation == "file-write-unlink" and (
                self.is_root(path) or self.holds_denial(path) or self.denied(path, READ)
            )
            allowed = self.granted(path, WRITE) or node
            return allowed and not held and not self.denied(path, WRITE)
        if self.denied(path, READ):
            return False
        if operation in ("file-map-executable", "process-exec"):
            return self.granted(path, READ)
        seen = operation in SEEING and (
            self.granted(path, WRITE) or self.leads_to_grant(path) or canonical(path) in SEEN
        )
        return self.granted(path, READ) or path in NODES or mine or seen

    def unix_socket(self, operation: str, path: str) -> bool:
        resolver = self.confinement.network.mode == OPEN and operation == "network-outbound"
        granted = self.granted(path, WRITE) and not canonical(path).startswith(
            "/private/tmp/com.apple.launchd."
        )
        allowed = granted or (resolver and path == "/private/var/run/mDNSResponder")
        return allowed and not self.denied(path, READ | WRITE)

    def internet(self, query: Query) -> bool:
        network = self.confinement.network
        ports = network.connect_ports
        if query.operation != "network-outbound":
            ports = network.bind_ports
        # Nobody can bind to another machine's address; what isn't of here is any address.
        here = query.here or query.operation == "network-bind"
        local = query.protocol == "tcp" and here and query.port in ports
        return network.mode == OPEN or (network.mode == PORTS and local)

    def socket(self, query: Query) -> bool:
        network = self.confinement.network.mode
        if query.domain == "AF_UNIX":
            return any(grant.access & WRITE for grant in self.confinement.grants)
        if query.domain in ("AF_INET", "AF_INET6"):
            return network != CLOSED
        return network == OPEN and query.domain == "AF_SYSTEM" and query.domain_protocol == 2

    def other(self, query: Query) -> bool:
        if query.operation in ("signal", "process-info-pidinfo"):
            return query.same_sandbox
        if query.operation in ("process-fork", "pseudo-tty"):
            return True
        names = set(NAMED.get(query.operation, ()))
        if self.confinement.network.mode != CLOSED:
            names |= NAMED_OF_NETWORKS.get(query.operation, set())
        if self.confinement.network.mode == OPEN and query.operation == "mach-lookup":
            names.add("com.apple.trustd.agent")
        return query.name in names

    def decide(self, query: Query) -> bool:
        if query.operation.startswith("network-"):
            if query.path is not None:
                return self.unix_socket(query.operation, query.path)
            return self.internet(query)
        if query.operation == "system-socket":
            return self.socket(query)
        if query.path is not None:
            return self.file(query.operation, query.path, query.extension)
        return self.other(query)


ROOTS = (
    "/Users/u",
    "/Users/u/ws",
    "/Users/u/wsx",
    "/private/tmp/t",
    "/tmp/t",  # noqa: S108 - a symlink of macOS
    "/etc/ssl",
    "/usr",
    "/Volumes/café",
    "/Users/u/we(ird) [x]*.\\",
)
NAMES = (".env", ".git", "hooks", "src", "données", "straße", "a.b", "axb", "KEYS", "ﬁles", "文")
OPERATIONS = (*READING, *WRITING, *SEEING, *NEVER, "file-write-unlink", "file-ioctl")
ELSEWHERE = (
    "/",
    "/dev",
    "/dev/null",
    "/dev/fd/1",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/ttys003",
    "/Library/Internet Plug-Ins",
    "/Library/Internet Plug-Ins/x",
    "/dev/random",
    "/dev/disk0",
    "/private/etc/master.passwd",
    "/Users/v/.ssh",
)
MACH = (
    "com.apple.bsd.dirhelper",
    "com.apple.system.opendirectoryd.libinfo",
    "com.apple.trustd.agent",
    "com.apple.SystemConfiguration.configd",
    "com.apple.SecurityServer",
    "com.apple.securityd.xpc",
    "com.apple.pasteboard.1",
    "com.apple.lsd.mapdb",
    "com.apple.coreservices.appleevents",
    "com.apple.mDNSResponder",
)
OTHERS = (
    *(Query("mach-lookup", name=name) for name in MACH),
    *(
        Query("sysctl-read", name=name)
        for name in (
            *("hw.ncpu", "hw.optional.arm64", "kern.osrelease", "net.routetable.0.0.3.0"),
            *("kern.proc.all", "kern.proc.pid.1", "kern.procargs2.1", "kern.hw."),
        )
    ),
    Query("sysctl-write", name="hw.ncpu"),
    Query("sysctl-write", name="kern.grade_cputype"),
    Query("ipc-posix-sem", name="/mp-4x_z8"),
    Query("ipc-posix-sem", name="/mp-4x_z8\n"),
    Query("ipc-posix-sem", name="/loky-12-x_1"),
    Query("ipc-posix-sem", name="/loky-x_1"),
    Query("ipc-posix-sem", name="/other"),
    Query("ipc-posix-shm-write-create", name="/psm_1f2e"),
    Query("ipc-posix-shm-write-create", name="/__KMP_REGISTERED_LIB_12"),
    Query("ipc-posix-shm-write-create", name="apple.cfprefs.501"),
    Query("signal", same_sandbox=True),
    Query("signal"),
    Query("process-info-pidinfo", same_sandbox=True),
    Query("process-info-pidinfo"),
    Query("process-fork"),
    Query("pseudo-tty"),
    Query("iokit-open"),
    Query("appleevent-send"),
    Query("mach-priv-task-port", same_sandbox=True),
    Query("lsopen"),
    Query("user-preference-write"),
    Query("system-socket", domain="AF_UNIX"),
    Query("system-socket", domain="AF_INET"),
    Query("system-socket", domain="AF_INET6"),
    Query("system-socket", domain="AF_ROUTE"),
    Query("system-socket", domain="AF_SYSTEM", domain_protocol=2),
    Query("system-socket", domain="AF_SYSTEM", domain_protocol=1),
)


class Draw:
    """Random confinements and queries near what they name."""

    def __init__(self, seed: int) -> None:
        # Reproducible cases are wanted, not unpredictable ones.
        self.random = random.Random(seed)  # noqa: S311

    def path(self) -> str:
        names = [self.random.choice(NAMES) for _ in range(self.random.choice((0, 0, 1, 1, 2, 3)))]
        return "/".join([self.random.choice(ROOTS), *names])

    def confinement(self) -> Confinement:
        pick = self.random
        grants = [
            Grant(self.path(), pick.choice((READ, WRITE, READ | WRITE)), pick.random() < 0.2)
            for _ in range(pick.randrange(4))
        ]
        if pick.random() < 0.05:
            grants.append(Grant("/", pick.choice((READ, READ | WRITE))))
        if pick.random() < 0.2:
            grants.append(Grant("/private/tmp", READ | WRITE))
        denials = []
        for _ in range(pick.randrange(4)):
            near = pick.choice(grants).path if grants and pick.random() < 0.8 else self.path()
            path = "/".join([near.rstrip("/"), *pick.sample(NAMES, pick.randrange(3))]) or "/dev"
            denials.append(Denial(path, pick.choice((READ, WRITE, READ | WRITE, READ | WRITE))))
        if pick.random() < 0.2:
            closed = pick.choice(("/dev", "/dev/null", "/dev/tty", SLAVE))
            denials.append(Denial(closed, pick.choice((READ, WRITE, READ | WRITE))))
        network = Network(
            pick.choice((CLOSED, PORTS, OPEN)),
            tuple(pick.sample((80, 443, 8080), pick.randrange(3))),
            tuple(pick.sample((80, 3000), pick.randrange(2))),
        )
        links = (Link("/tmp", "private/tmp"),) if pick.random() < 0.3 else ()  # noqa: S108 - a symlink of macOS
        return Confinement(
            "/Users/u/ws",
            tuple(grants),
            tuple(denials),
            links=links,
            network=network,
            tier=SEATBELT,
        )

    def near(self, confinement: Confinement) -> str:
        """Return a path that something in *confinement* could be wrong about."""
        pick = self.random
        named = [grant.path for grant in confinement.grants]
        named += [denial.path for denial in confinement.denials]
        named += [link.path for link in confinement.links]
        if not named or pick.random() < 0.2:
            return pick.choice(ELSEWHERE) if pick.random() < 0.5 else self.path()
        path = pick.choice(named)
        for _ in range(pick.randrange(3)):
            path = pick.choice(SHIFTS)(path, pick)
        return path or "/"

    def stored(self, confinement: Confinement) -> str:
        """Return a path as it would be stored: no alias, and no other case.

        The root and /dev are left out: what macOS needs of them to start a program, policy
        tells of neither.
        """
        pick = self.random
        while True:
            named = [grant.path for grant in confinement.grants]
            named += [denial.path for denial in confinement.denials]
            path = canonical(pick.choice([*named, self.path()]))
            for _ in range(pick.randrange(3)):
                path = pick.choice((_parent, _child, _sibling))(path, pick)
            if path != "/" and not path.startswith("/dev"):
                return canonical(path)

    def query(self, confinement: Confinement) -> Query:
        pick = self.random
        chance = pick.random()
        if chance < 0.15:
            return pick.choice(OTHERS)
        if chance < 0.30:
            return Query(
                pick.choice(("network-outbound", "network-bind", "network-inbound")),
                protocol=pick.choice(("tcp", "tcp", "udp")),
                port=pick.choice((80, 443, 3000, 8080)),
                here=pick.random() < 0.7,
            )
        if chance < 0.45:
            sockets = (
                "/private/var/run/mDNSResponder",
                "/private/tmp/com.apple.launchd.x/s",
                "/tmp/com.apple.launchd.x/s",  # noqa: S108 - where launchd puts them
                f"{DATA}/private/tmp/com.apple.launchd.x/s",
            )
            path = pick.choice(sockets) if pick.random() < 0.3 else self.near(confinement)
            return Query(
                pick.choice(("network-outbound", "network-bind", "network-inbound")), path=path
            )
        extension = PTY if pick.random() < 0.3 else None
        operation = pick.choice((*OPERATIONS, "file-write-unlink", "file-write-unlink"))
        path = self.near(confinement)
        if operation == "file-write-unlink" and confinement.denials and pick.random() < 0.5:
            path = _recased(_parent(pick.choice(confinement.denials).path, pick), pick)
        if operation in ("file-ioctl", "file-write-data") and pick.random() < 0.5:
            path = pick.choice(("/dev/null", "/dev/fd/1", *TERMINALS))
        if operation in SEEING and pick.random() < 0.2:
            path = pick.choice(SEEN)
        return Query(operation, path=path, extension=extension)


def _parent(path: str, _: random.Random) -> str:
    return path.rpartition("/")[0] or "/"


def _child(path: str, pick: random.Random) -> str:
    return f"{path.rstrip('/')}/{pick.choice(NAMES)}"


def _sibling(path: str, pick: random.Random) -> str:
    return path + pick.choice(("x", ".bak", " ", "\n")) if path != "/" else path


def _alias(path: str, pick: random.Random) -> str:
    path = canonical(path)
    if path.startswith(("/private/tmp", "/private/var", "/private/etc")) and pick.random() < 0.5:
        return path[len("/private") :]
    return path if path == "/" or path.startswith("/dev") else DATA + path


def _recased(path: str, pick: random.Random) -> str:
    change: Callable[[str], str] = pick.choice(
        (
            str.upper,
            str.lower,
            str.casefold,
            lambda text: unicodedata.normalize("NFD", text),
            lambda text: unicodedata.normalize("NFC", text),
            lambda text: text.replace("s", "\u017f").replace("k", "\u212a"),
            lambda text: text.replace("ss", "ß"),
            lambda text: text.replace(".", "x"),
        )
    )
    # The first names are those of existing directories: their spelling is the stored one.
    head, tail = path.split("/")[:4], path.split("/")[4:]
    return "/".join([*head, *(change(name) for name in tail)])


SHIFTS = (_parent, _child, _child, _sibling, _alias, _recased, _recased)


class Policy:
    """The answers of `nono why`, on a Mac, where `resolve` gives the stored path."""

    def __init__(self, confinement: Confinement) -> None:
        stored = confinement.replace(
            grants=tuple(one.replace(path=canonical(one.path)) for one in confinement.grants),
            denials=tuple(one.replace(path=canonical(one.path)) for one in confinement.denials),
        )
        self.prepared = Prepared(stored, (), Document(), HOME)

    def path(self, operation: str, path: str) -> bool:
        return isinstance(decide.decide(self.prepared, path, operation), decide.Allow)

    def host(self, host: str, port: int) -> bool:
        network = self.prepared.confinement.network
        return isinstance(decide.decide_host(network, host, port), decide.Allow)


# What a word of the policy is in Seatbelt's. Removal isn't among them: a writable grant's root,
# and what is above a denial, can be written and not moved away.
WORDS = {
    "read": ("file-read-data", "file-read-xattr"),
    "list": ("file-read-data",),
    "execute": ("process-exec", "file-map-executable"),
    "write": ("file-write-data", "file-write-create", "file-write-mode", "file-write-xattr"),
}
DEVICE_WORDS = {"read": "file-read-data", "write": "file-write-data"}
"""What policy tells of devices: nobody makes or changes one."""
DEVICES = (*NODES, SLAVE, "/dev/disk0", "/dev/null/x", "/dev/ttyx")
HOSTS = {"localhost": True, "127.0.0.1": True, "::1": True, "example.org": False}
ASKED_A_CASE = 2


def agree_with_policy(confinement: Confinement, profile: Profile, draw: Draw) -> None:
    policy = Policy(confinement)
    for _ in range(ASKED_A_CASE):
        word = draw.random.choice(tuple(WORDS))
        path = draw.stored(confinement)
        expected = policy.path(word, path)
        for operation in WORDS[word]:
            agree(profile, Query(operation, path=path), confinement, expected=expected)
    word, path = draw.random.choice(tuple(DEVICE_WORDS)), draw.random.choice(DEVICES)
    if path != "/":
        query = Query(DEVICE_WORDS[word], path=path)
        agree(profile, query, confinement, expected=policy.path(word, path))
    host, port = draw.random.choice(tuple(HOSTS)), draw.random.choice((80, 443, 8080))
    query = Query("network-outbound", protocol="tcp", port=port, here=HOSTS[host])
    agree(profile, query, confinement, expected=policy.host(host, port))


def agree(profile: Profile, query: Query, confinement: Confinement, *, expected: bool) -> None:
    for reading in Reading:
        verdict = profile.decide(query, reading)
        assert verdict.allowed is expected, (
            f"{reading}: {query!r}\nwanted {expected}, by {verdict.rule!r}\n{confinement!r}"
        )


def cases(seed: int, count: int) -> Iterator[tuple[Confinement, Query]]:
    draw = Draw(seed)
    for _ in range(count):
        confinement = draw.confinement()
        yield confinement, draw.query(confinement)


HEAD = "(version 1)\n(deny default)\n"


@functools.lru_cache(256)
def rules_of(group: str) -> tuple[Rule, ...]:
    return Profile(HEAD + group).rules


def evaluated(text: str) -> Profile:
    """Return `Profile(text)`, for which a group that stands in many texts is read once."""
    head, *groups = text.split("\n; ")
    profile = Profile(head)
    profile.rules = tuple(rule for group in groups for rule in rules_of("; " + group))
    return profile


def test_read_by_groups_a_text_is_what_it_is_as_a_whole() -> None:
    for confinement, _ in cases(0, 200):
        text = generator.profile(confinement)
        by_groups, whole = evaluated(text).rules, Profile(text).rules
        assert [one.source for one in by_groups] == [one.source for one in whole]


def compare(seed: int, count: int) -> None:
    """Raise AssertionError at the first difference."""
    draw, policy_draw = Draw(seed), Draw(seed + 1_000_000)
    for _ in range(count // QUERIES):
        confinement = draw.confinement()
        # To write and to read a text takes longer than to ask it.
        profile, reference = evaluated(generator.profile(confinement)), Reference(confinement)
        for _ in range(QUERIES):
            query = draw.query(confinement)
            agree(profile, query, confinement, expected=reference.decide(query))
            agree_with_policy(confinement, profile, policy_draw)


def differs(named: Iterable[str] = ("*",)) -> bool:
    """Return whether a query that *named* (stars at the end) name shows a difference."""
    asked = tuple(named)
    for confinement, query in cases(0, CASES_TO_FIND_A_CUT):
        if any(fnmatchcase(query.operation, one) for one in asked):
            profile = evaluated(generator.profile(confinement))
            expected = Reference(confinement).decide(query)
            if any(profile.decide(query, one).allowed is not expected for one in Reading):
                return True
    return False


def operations(rule: tuple[Form, ...]) -> tuple[str, ...]:
    return tuple(part for part in rule[1:] if isinstance(part, str))


def named_by(group: generator.Group) -> set[str]:
    """Return the operations that *group* names in some confinement."""
    made = [group.rules(confinement) for confinement, _ in cases(0, 200)]
    return {one for some in made for rule in some for one in operations(rule)}


@pytest.mark.parametrize("operation", ["network-inbound", "network-outbound"])
def test_a_denial_in_a_whole_root_holds_by_an_alias_however_that_is_spelled(operation: str) -> None:
    denial = Denial("/private/var/t/donn\u00e9es")
    confinement = Confinement(
        "/Users/u/ws", (Grant("/", READ | WRITE),), (denial,), network=Network(OPEN), tier=SEATBELT
    )
    profile = Profile(generator.profile(confinement))
    for top in ("/private/var", "/var", "/VAR"):
        query = Query(operation, path=f"{top}/t/DONNE\u0301ES/s")
        agree(profile, query, confinement, expected=False)
    agree(profile, Query(operation, path="/var/t/donne"), confinement, expected=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(CHUNKS))
def test_the_text_says_what_the_confinement_means(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Made for every answer, and always of the same home.
    catalogue = Catalogue(HOME, {})
    monkeypatch.setattr(decide, "Catalogue", lambda *_: catalogue)
    compare(seed, CASES // CHUNKS)


def test_the_random_cases_reach_both_answers_of_every_operation_that_has_two() -> None:
    seen = Counter[tuple[str, bool]]()
    for seed in range(100, 103):
        for confinement, query in cases(seed, 2000):
            seen[query.operation, Reference(confinement).decide(query)] += 1
    for operation in (*READING, *WRITING, *SEEING, "file-write-unlink", "file-ioctl"):
        assert seen[operation, True], operation
        assert seen[operation, False], operation
    assert sum(count for (_, allowed), count in seen.items() if allowed) > 1000


@pytest.mark.parametrize("cut", generator.GROUPS, ids=lambda group: group.name)
def test_a_rule_group_cut_out_shows_as_a_difference(
    cut: generator.Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = tuple(group for group in generator.GROUPS if group is not cut)
    monkeypatch.setattr(generator, "GROUPS", rest)
    assert differs(named_by(cut))


def head(rule: tuple[Form, ...]) -> tuple[Form, ...]:
    """Return a rule without its filters."""
    return tuple(part for part in rule if isinstance(part, str))


def without(group: generator.Group, cut: tuple[Form, ...]) -> generator.Group:
    return group.replace(
        rules=lambda confinement: [one for one in group.rules(confinement) if head(one) != cut]
    )


RICH = Confinement(
    "/Users/u/ws",
    (Grant("/Users/u/ws", READ | WRITE),),
    (Denial("/Users/u/ws/.git/hooks"),),
    network=Network(PORTS, (80,), (3000,)),
)
RULES = [
    (group, cut)
    for group in generator.GROUPS
    for heads in [dict.fromkeys(head(one) for one in group.rules(RICH))]
    for cut in heads
    if len(heads) > 1
]


@pytest.mark.parametrize(
    ("group", "cut"), RULES, ids=lambda one: " ".join(one) if isinstance(one, tuple) else one.name
)
def test_a_rule_cut_out_of_its_group_shows_as_a_difference(
    group: generator.Group, cut: tuple[Form, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = (without(one, cut) if one is group else one for one in generator.GROUPS)
    monkeypatch.setattr(generator, "GROUPS", tuple(rest))
    assert differs(operations(cut))


DENIALS = [group for group in generator.GROUPS if group.name.startswith(("denials", "never"))]


@pytest.mark.parametrize("moved", DENIALS, ids=lambda group: group.name)
def test_a_denial_moved_before_what_it_denies_shows_as_a_difference(
    moved: generator.Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = (group for group in generator.GROUPS if group is not moved)
    monkeypatch.setattr(generator, "GROUPS", (moved, *rest))
    assert differs(named_by(moved))


DENIED = [
    *(("READ_OPERATIONS", name) for name in rules.READ_OPERATIONS),
    *(("WRITE_OPERATIONS", name) for name in rules.WRITE_OPERATIONS),
]


@pytest.mark.parametrize(("table", "operation"), DENIED)
def test_an_operation_left_out_of_denials_shows_as_a_difference(
    table: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: tuple[str, ...] = getattr(rules, table)
    rest = tuple(name for name in whole if name != operation)
    monkeypatch.setattr(generator, table, rest)
    assert differs([operation])


def test_a_forgotten_spelling_shows_as_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    for lost in ("/System", "/tmp", "/etc", "/private"):  # noqa: S108 - a symlink of macOS

        def forgetful(path: str, lost: str = lost) -> tuple[str, ...]:
            return tuple(one for one in spellings(path) if not one.startswith(lost))

        with monkeypatch.context() as patch:
            patch.setattr(rules, "spellings", forgetful)
            assert differs(), lost


def test_forgotten_equal_names_show_as_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "equal_patterns", lambda *_: [])
    assert differs()
