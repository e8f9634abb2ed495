"""The path of a request: what is refused before any rule looks, and how a rule looks.

What was judged is what is sent: nothing is decoded, normalised or collapsed on the way.

Architecture invariant: no I/O.
"""

import re
from collections.abc import Sequence

from nono_proxy.errors import GrammarError

_PLAIN = re.compile(rb"/(?:[A-Za-z0-9_~@:!$&'()*+,=-][A-Za-z0-9._~@:!$&'()*+,=-]*+/?+)*+")
_PATH = re.compile(rb"/(?:[A-Za-z0-9._~@:!$&'()*+,;=/|^{}\[\]`\"<>-]|%[0-9A-Fa-f]{2})*+")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_DOTS = (b".", b"..")
_ROUNDS_MAX = 8


def _decoded(segment: bytes) -> bytes:
    """Undo percent-encoding until nothing changes."""
    for _ in range(_ROUNDS_MAX):
        once = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), segment)
        if once == segment:
            return once
        segment = once
    raise GrammarError("a path is encoded too often")


def verify_path(path: bytes) -> None:
    """Refuse a path that two readers could read differently.

    Raises:
        GrammarError: Dot segments in any encoding, NUL, control characters, ``#`` or a backslash.
    """
    if _PLAIN.fullmatch(path) is not None:
        return
    if _PATH.fullmatch(path) is None:
        raise GrammarError("a path has characters that no path has")
    for segment in path.split(b"/"):
        plain = _decoded(segment)
        if any(octet < 0x20 or octet in b"\\#\x7f" for octet in plain):  # noqa: PLR2004 - below space
            raise GrammarError("a path has encoded control characters")
        # `;` starts parameters, which some servers cut off before they resolve dots.
        for part in plain.replace(b"?", b"/").split(b"/"):
            if part.partition(b";")[0].strip(b" ") in _DOTS:
                raise GrammarError("a path has dot segments")


def _one(pattern: bytes, segment: bytes) -> bool:
    if pattern == b"*":
        return bool(segment) and b"/" not in _decoded(segment)
    return pattern == segment


def matches(pattern: Sequence[bytes], path: Sequence[bytes]) -> bool:
    """Tell whether raw segments match: ``*`` is one segment, ``**`` any number of them."""
    reached = {0}
    for segment in path:
        following: set[int] = set()
        for at in _closure(pattern, reached):
            if at == len(pattern):
                continue
            if pattern[at] == b"**":
                following.add(at)
            elif _one(pattern[at], segment):
                following.add(at + 1)
        reached = following
    return len(pattern) in _closure(pattern, reached)


def _closure(pattern: Sequence[bytes], reached: set[int]) -> set[int]:
    """Add the places that are reached by letting ``**`` stand for nothing."""
    grown = set(reached)
    for at in sorted(reached):
        step = at
        while step < len(pattern) and pattern[step] == b"**":
            step += 1
            grown.add(step)
    return grown
