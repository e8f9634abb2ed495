"""What a Seatbelt profile allows, decided without macOS.

Covers the operations and filters that `profile` emits, and refuses any other. Semantics, and
where each is known from:

- `(deny default)` decides what no rule matches; a rule without filters matches always, several
  filters are alternatives, `require-all` wants each of its own ("Apple Sandbox Guide v1.0", fG!,
  2011, sections 3 and 5; Chromium's "Mac Sandbox V2 Design Doc", appendix).
- An operation with a star stands for all that begin so: `file-read*` for `file-read-data` (ibid.).
- The last rule that matches decides (fG!, section 3; github.com/nolabs-ai/nono pull 971, seen on
  macOS 26). But a rule that names the operation outright has been seen to win over a later one
  with a star (github.com/GreyhavenHQ/greywall pull 20; nolabs-ai/nono pull 697). Both readings
  are here, `Reading.SOURCE` and `Reading.SPECIFIC`; a profile is good if they agree.
- `literal` is the path itself, `subpath` the path and all beneath it by components, `regex` an
  extended regular expression searched in the path (fG!, section 5). Paths are those the kernel
  reports for the vnode: symlinks are gone, case is as stored (Chromium's document; the caller of
  `decide` gives such a path).
- An address is "host:port" where host is "*" or "localhost" and nothing else, and "localhost" is
  any address of the machine (the compiler's own message, quoted in github.com/openai/codex
  issue 42925). `tcp` and `udp` name a protocol, `ip` both; none of them is a unix socket.
- `(target same-sandbox)` is a process of the same application of a profile; `extension` a token
  the kernel gave the process, for a terminal's slave the one it opened (fG!; Apple's system.sb).

What nobody has checked on a Mac: all of it. This is what is publicly said, not what was seen.

Architecture invariant: no I/O; it shares with the generator the syntax tree and nothing else.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache

from nono_sandbox.seatbelt.reader import MalformedError, read
from nono_sandbox.seatbelt.sbpl import Pattern, Text
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.seatbelt.sbpl import Form

    Predicate = Callable[["Query"], bool]


class Reading(enum.Enum):
    """Which of the rules that match decides."""

    SOURCE = "the last"
    SPECIFIC = "the last of those that name the operation most closely"


class Query(Value):
    """One thing a process attempts; only what the operation takes is set."""

    operation: str
    path: str | None = None
    """Of a file, or of a unix socket if the operation is one of the network's."""
    protocol: str | None = None
    port: int | None = None
    here: bool = True
    """The address is one of this machine's."""
    name: str | None = None
    """Of a mach service, a sysctl, a semaphore."""
    same_sandbox: bool = False
    extension: str | None = None
    domain: str | None = None
    domain_protocol: int | None = None


class Verdict(Value):
    """Whether a query is allowed, and the rule that decided; None is the default."""

    allowed: bool
    rule: tuple[Form, ...] | None = None


class Rule(Value):
    """A rule, ready to be asked."""

    source: tuple[Form, ...]
    allows: bool
    operations: tuple[str, ...]
    filters: tuple[Predicate, ...]

    def matches(self, query: Query) -> bool:
        """Return whether any filter, or no filter at all, matches *query*."""
        return not self.filters or any(matches(query) for matches in self.filters)


class Profile:
    """The rules of one text."""

    def __init__(self, text: str) -> None:
        version, default, *rules = read(text)
        # Without the first, sandbox-exec refuses the text; without the second, what no rule
        # names would be left to a default that has changed between releases.
        if version != ("version", "1"):
            raise MalformedError("a profile begins with its version")
        if default != ("deny", "default"):
            raise MalformedError("a profile denies by default")
        self.rules = tuple(_rule(form) for form in rules)

    def decide(self, query: Query, reading: Reading = Reading.SOURCE) -> Verdict:
        """Return what this profile says to *query*."""
        for rule in self._naming(query.operation, reading):
            if rule.matches(query):
                return Verdict(rule.allows, rule.source)
        return Verdict(allowed=False)

    def _naming(self, operation: str, reading: Reading) -> list[Rule]:
        """Return the rules that name *operation*; of those that match, the first decides."""
        named = [one for one in reversed(self.rules) if _closeness(one.operations, operation)]
        if reading is Reading.SPECIFIC:
            # Of rules that are as close, the sort leaves the last in front.
            named.sort(key=lambda one: -_closeness(one.operations, operation))
        return named


@lru_cache(maxsize=4096)
def _closeness(patterns: tuple[str, ...], operation: str) -> int:
    """Return how closely *patterns* name *operation*: 0 not at all, more is closer."""
    return max(_closeness_of_one(pattern, operation) for pattern in patterns)


def _closeness_of_one(pattern: str, operation: str) -> int:
    if pattern == operation:
        return len(pattern) + 1
    stem = pattern.removesuffix("*")
    return len(stem) if stem != pattern and operation.startswith(stem) else 0


def _rule(form: Form) -> Rule:
    if not isinstance(form, tuple) or len(form) < 2 or form[0] not in ("allow", "deny"):  # noqa: PLR2004 - an action and an operation
        raise MalformedError(f"not a rule: {form!r}")
    operations = tuple(part for part in form[1:] if isinstance(part, str))
    filters = form[1 + len(operations) :]
    if not operations or any(isinstance(part, str) for part in filters):
        raise MalformedError(f"operations come before filters: {form!r}")
    return Rule(form, form[0] == "allow", operations, tuple(_filter(part) for part in filters))


def _filter(form: Form) -> Predicate:
    match form:
        case (str(kind), Text(value=value)) if kind in _BY_TEXT:
            return _BY_TEXT[kind](value)
        case (str(kind), Pattern(value=value)) if kind in _BY_PATTERN:
            return _BY_PATTERN[kind](_searcher(value))
        case (str(kind), str(symbol)) if kind in _BY_SYMBOL:
            return _BY_SYMBOL[kind](symbol)
        case ("require-all", *parts):
            each = [_filter(part) for part in parts]
            return lambda query: all(matches(query) for matches in each)
        case (str(end), "unix-socket", inner) if end in _ENDS:
            on_path = _filter(inner)
            return lambda query: query.operation in _ENDS[end] and on_path(query)
        case (str(end), str(protocol), Text(value=value)) if end in _ENDS:
            return _address(_ENDS[end], protocol, value)
        case _:
            raise MalformedError(f"not a filter that is emitted: {form!r}")


def _subpath(path: str) -> Predicate:
    inside = path if path.endswith("/") else path + "/"
    return lambda query: (
        query.path is not None and (query.path == path or query.path.startswith(inside))
    )


_ENDS = {
    "local": ("network-bind", "network-inbound"),
    "remote": ("network-outbound",),
}
_PROTOCOLS = {"ip": ("tcp", "udp"), "tcp": ("tcp",), "udp": ("udp",)}
_BY_TEXT: dict[str, Callable[[str], Predicate]] = {
    "literal": lambda path: lambda query: query.path == path,
    "subpath": _subpath,
    "extension": lambda name: lambda query: query.extension == name,
    "global-name": lambda name: lambda query: query.name == name,
    "sysctl-name": lambda name: lambda query: query.name == name,
    "sysctl-name-prefix": lambda name: lambda query: (query.name or "").startswith(name),
}
_BY_PATTERN: dict[str, Callable[[Callable[[str], bool]], Predicate]] = {
    "regex": lambda found: lambda query: query.path is not None and found(query.path),
    "ipc-posix-name-regex": lambda found: (
        lambda query: query.name is not None and found(query.name)
    ),
}
_BY_SYMBOL: dict[str, Callable[[str], Predicate]] = {
    "target": lambda symbol: lambda query: symbol == "same-sandbox" and query.same_sandbox,
    "socket-domain": lambda symbol: lambda query: query.domain == symbol,
    "socket-protocol": lambda symbol: lambda query: query.domain_protocol == int(symbol),
}


def _address(operations: tuple[str, ...], protocol: str, value: str) -> Predicate:
    parsed = re.fullmatch(r"(\*|localhost):(\*|[1-9][0-9]{0,4})", value, re.ASCII)
    if parsed is None or protocol not in _PROTOCOLS:
        raise MalformedError(f"not an address Seatbelt takes: {protocol} {value!r}")
    host, port = parsed.groups()
    return lambda query: (
        query.operation in operations
        and query.protocol in _PROTOCOLS[protocol]
        and (host == "*" or query.here)
        and (port == "*" or query.port == int(port))
    )


def _searcher(pattern: str) -> Callable[[str], bool]:
    # Python's $ also matches before a final newline, which a file's name may have.
    anchored = re.sub(r"(\\.)|\$", lambda found: found[1] or r"\Z", pattern, flags=re.DOTALL)
    # Compiled when it's first asked, as most aren't: that costs more than all else of a rule.
    return lambda text: re.search(anchored, text, re.ASCII) is not None
