"""Why a command may have failed: what it named that the policy closes.

Nothing watches what a program tries, and where it writes to a terminal its last words are read
for names alone. So these are guesses; but each is a path or host that the policy does close.

Architecture invariant: a name the program wrote only ever picks what is judged, and at most
`CAUSES_MAX` are told.
"""

from __future__ import annotations

import os

from nono_mcp.policy import load
from nono_mcp.policy.decide import Deny
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.paths import PATH_CHARACTERS_MAX, covers
from nono_sandbox.confinement import CLOSED

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
NETWORK_REFUSALS = (
    "could not resolve",
    "couldn't resolve",
    "name resolution",
    "name or service not known",
    "network is unreachable",
    "eai_again",
    "enetunreach",
    "failed to lookup address",
)
_TRIMMED = "\"'`()[]{}<>,;:!?\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"


def causes(prepared: Prepared, argv: tuple[str, ...], tail: bytes, *, not_found: bool) -> list[str]:
    """Return what may be behind the failure of *argv*, the likeliest first.

    Args:
        prepared: The policy it ran under.
        argv: The command.
        tail: The last of what it wrote, where that is known.
        not_found: There was no such program.
    """
    if not_found and "/" not in argv[0]:
        return _program(prepared, argv[0])
    found: dict[str, None] = {}
    here = os.getcwd()
    for name, operation in names(argv, tail, here):
        cause = _closed(prepared, name, operation)
        if cause:
            found.setdefault(cause)
    if _network(prepared, argv, tail):
        found.setdefault("the network is closed; to open it: --open-net")
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


def _network(prepared: Prepared, argv: tuple[str, ...], tail: bytes) -> bool:
    """Tell whether the command seems to want a network that it hasn't got."""
    if prepared.confinement.network.mode != CLOSED or prepared.document.network.mode == "proxy":
        return False
    words = tail.decode("utf-8", "replace").lower()
    return any("://" in word for word in argv) or any(text in words for text in NETWORK_REFUSALS)
