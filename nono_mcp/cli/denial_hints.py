"""Why a command may have failed: what it named that the policy closes.

Of what a program tries only connections are seen, and not everywhere; where it writes to a
terminal its last words are read for names alone. So these are guesses; but each is a path or host
that the policy does close.

Architecture invariant: a name the program wrote only ever picks what is judged, and at most
`CAUSES_MAX` are told.
"""

from __future__ import annotations

import os

from nono_mcp.policy import load, unreachable
from nono_mcp.policy.decide import Deny
from nono_mcp.policy.egress import PROXY
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.paths import PATH_CHARACTERS_MAX, covers
from nono_sandbox.confinement import CLOSED, NAMESPACES, OPEN
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nono_mcp.policy.request import Prepared

CAUSES_MAX = 3
NAMES_MAX = 64
"""How many names are judged."""

REFUSALS = ("denied", "no such file", "not permitted", "read-only file system", "enoent", "eacces")
"""What a line says, in lower case, in which a name is looked for."""
WRITE_REFUSALS = ("denied", "not permitted", "read-only file system", "eacces", "erofs")
_BY_PROXY = "all that leaves goes by the proxy, and what doesn't ask that reaches nobody"
_HOST_OR_ALL = "--allow-domain HOST for one by HTTP, or all of it: --open-net"
_SOME_PORTS = "of the network only some ports are open"
_HERE = ("localhost", "127.0.0.1")
_HTTPS = "443"
_PORTS = {"https": _HTTPS, "http": "80"}
_OF_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_TRIMMED = "\"'`()[]{}<>,;:!?\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"


class Seen(Value):
    """What is known of a command that failed."""

    argv: tuple[str, ...]
    tail: bytes
    """The last of what it wrote, where that is known."""
    status: int
    led_out: bool
    """It was seen to connect to a host elsewhere."""
    not_found: bool
    """There was no such program."""


def causes(prepared: Prepared, seen: Seen) -> list[str]:
    """Return what may be behind the failure that was *seen*, the likeliest first."""
    argv, tail = seen.argv, seen.tail
    if seen.not_found and "/" not in argv[0]:
        return _program(prepared, argv[0])
    found: dict[str, None] = {}
    here = os.getcwd()
    for name, operation in names(argv, tail, here):
        cause = _closed(prepared, name, operation)
        if cause:
            found.setdefault(cause)
    cause = _network(prepared, seen)
    if cause:
        found.setdefault(cause)
    ran_in = prepared.confinement.cwd
    if not found and not covers(here, ran_in) and _closed(prepared, here, "read"):
        found.setdefault(
            f"it ran in {quoted(ran_in)}, since {quoted(here)} isn't granted; "
            "to allow it: --allow-cwd"
        )
    return list(found)[:CAUSES_MAX]


def _program(prepared: Prepared, name: str) -> list[str]:
    """Look for a program where the person would have found it."""
    for directory in os.environ.get("PATH", "").split(":"):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK):
            cause = _closed(prepared, os.path.realpath(path), "execute")
            return [cause] if cause else []
    return []


def names(argv: tuple[str, ...], tail: bytes, here: str) -> Iterator[tuple[str, str]]:
    """Yield absolute paths that the command or its last words name, and what was tried there."""
    words = [word for text in argv for word in _words(text)]
    for name in _there(words[:NAMES_MAX], here):
        yield name, "read"
    for line in tail.decode("utf-8", "surrogateescape").splitlines():
        lowered = line.lower()
        if not any(text in lowered for text in REFUSALS):
            continue
        names = list(_there(_words(line)[:NAMES_MAX], here))
        for name in names:
            yield name, "read"
        if any(text in lowered for text in WRITE_REFUSALS):
            for name in names:
                yield name, "write"


def _words(text: str) -> list[str]:
    """Return the words of *text* that may name something: of `--file=X` or `if=X`, X."""
    words = [word.strip(_TRIMMED) for word in text[: 64 * PATH_CHARACTERS_MAX].split()]
    values = [word.partition("=")[2] for word in words]
    return [word for word in (*words, *values) if word and not word.startswith("-")]


def _there(words: list[str], here: str) -> Iterator[str]:
    """Yield as absolute paths the words that are there, or could be: their directory is."""
    for word in words:
        if len(word) > PATH_CHARACTERS_MAX or "\0" in word or "://" in word:
            continue
        path = os.path.normpath(os.path.join(here, os.path.expanduser(word)))
        if os.path.lexists(path) or ("/" in word and os.path.isdir(os.path.dirname(path))):
            yield path


def _closed(prepared: Prepared, path: str, operation: str) -> str:
    """Return why *operation* at *path* is refused and what would allow it, or nothing."""
    try:
        _, verdict = load.explain(prepared, path, operation)
    except PolicyError:
        return ""
    if not isinstance(verdict, Deny):
        return ""
    return f"{verdict.reason}; to allow it: {verdict.remedy}" if verdict.remedy else verdict.reason


def _network(prepared: Prepared, seen: Seen) -> str:
    """Return why a host is out of reach, and what would open it, if the command wanted one."""
    network = prepared.confinement.network
    if network.mode == OPEN:
        return ""
    if prepared.document.network.mode == PROXY:
        # Of what came to the proxy that has told.
        return _BY_PROXY if seen.led_out else ""
    told = unreachable.says(seen.tail.decode("utf-8", "replace"))
    ended = unreachable.is_told_by(seen.status, seen.argv)
    # Where each connection is seen, a host that is only named wasn't what it failed by.
    named = prepared.confinement.tier != NAMESPACES and any("://" in word for word in seen.argv)
    if not (seen.led_out or told or ended or named):
        return ""
    hosts = _hosts(seen.argv)
    here = [port for host, port in hosts if host in _HERE]
    why = "the network is closed" if network.mode == CLOSED else _SOME_PORTS
    if here:
        return f"{why}; to open that port of this machine: --connect-port {here[0]}"
    if network.mode != CLOSED:
        return f"{why}; to open it: --open-net"
    rules = [host if port == _HTTPS else f"{host}:{port}" for host, port in hosts]
    options = " ".join(f"--allow-domain {rule}" for rule in rules)
    remedy = f"{options}, or all of it: --open-net" if options else _HOST_OR_ALL
    return f"{why}; to open it: {remedy}"


def _hosts(argv: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the hosts of the URLs in *argv* that have a name, and their ports."""
    found: dict[tuple[str, str], None] = {}
    for word in (word for text in argv for word in _words(text)):
        scheme, _, rest = word.partition("://")
        port = _PORTS.get(scheme.lower())
        if port is None:
            continue
        for end in "/?#":
            rest = rest.partition(end)[0]
        host, _, given = rest.rpartition("@")[2].lower().partition(":")
        is_name = "." in host and not {*host} - _OF_NAMES and not host[-1].isdecimal()
        if (is_name or host in _HERE) and (not given or given.isdecimal()):
            found.setdefault((host, given or port))
    return list(found)[:CAUSES_MAX]
