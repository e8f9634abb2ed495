"""How macOS spells one file: aliases of a path, and the names its file systems hold equal.

Seatbelt compares the path the kernel reports for a vnode, byte by byte. The same file can be
reported, or asked for, under more than one spelling:

- `/tmp`, `/var` and `/etc` are symlinks into `/private` (hier(7) of macOS);
- the data volume is mounted at `/System/Volumes/Data` and joined into `/` by firmlinks
  (firmlinks(5); `/usr/share/firmlinks`), so `/Users/u` is `/System/Volumes/Data/Users/u` too;
- APFS as shipped is insensitive to case and to normal form: names are equal if
  NFD(casefold(NFD(name))) is ("Apple File System Reference", j_drec_hashed_key_t; that the case
  folding is the full one, where an eszett equals two s, is reported by users of APFS).

A name that exists is reported as it is stored; a name that doesn't can be made in any spelling
that is equal, which is why a denial needs a pattern of them all.

Not held: HFS+ ignores some invisible characters within names; no pattern here covers those.

Architecture invariant: no I/O; a function of its arguments.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from nono_sandbox.seatbelt.sbpl import RefusedError

PATH_BYTES_MAX = 1024
"""PATH_MAX of macOS."""
SEGMENT_CHARS_MAX = 8
"""Longest run of letters whose ligatures overlap (`ffffffff`) that a pattern spells out."""

DATA_VOLUME = "/System/Volumes/Data"
# Named, not used: the symlinks that macOS has in its root.
_ALIASED = ("/etc", "/tmp", "/var")  # noqa: S108
_META = frozenset("\\.^$*+?()[]{}|")

ASCII_FOLDS = {
    ";": "\u037e",
    "`": "\u1fef",
    "k": "K\u212a",
    "s": "S\u017f",
    "ff": "\ufb00",
    "ffi": "\ufb03",
    "ffl": "\ufb04",
    "fi": "\ufb01",
    "fl": "\ufb02",
    "ss": "\u00df\u1e9e",
    "st": "\ufb05\ufb06",
}
"""What folds to ASCII beside the capital letters, so that the usual path needs no search."""


def checked(path: str) -> str:
    """Return *path* if it is absolute, normal and short enough; its characters are `sbpl`'s.

    Raises:
        RefusedError: It isn't.
    """
    parts = path.split("/")
    if path != "/" and (parts[0] or any(part in ("", ".", "..") for part in parts[1:])):
        raise RefusedError(f"not an absolute path without '.', '..' and empty parts: {path!r}")
    if len(path.encode("utf-8", "surrogateescape")) > PATH_BYTES_MAX:
        raise RefusedError(f"longer than {PATH_BYTES_MAX} bytes: {path[:64]!r}...")
    return path


def beneath(path: str, root: str) -> bool:
    """Return whether *path* is *root* or lies within it, by components."""
    return root in (path, "/") or path.startswith(root + "/")


def canonical(path: str) -> str:
    """Return the one spelling of *path* that stands for all of `spellings`."""
    if beneath(path, DATA_VOLUME):
        path = path[len(DATA_VOLUME) :] or "/"
    if any(beneath(path, alias) for alias in _ALIASED):
        path = "/private" + path
    return path


def spellings(path: str) -> tuple[str, ...]:
    """Return every alias of *path*, sorted.

    Raises:
        RefusedError: It isn't an absolute, normal path.
    """
    path = canonical(checked(path))
    found = {path}
    if any(beneath(path, "/private" + alias) for alias in _ALIASED):
        found.add(path[len("/private") :])
    if path != "/" and not beneath(path, "/System"):
        found.add(DATA_VOLUME + path)
    return tuple(sorted(found))


def ancestors(path: str) -> tuple[str, ...]:
    """Return the proper ancestors of *path*, the root first."""
    if path == "/":
        return ()
    parts = path.split("/")[1:-1]
    return ("/", *("/" + "/".join(parts[: count + 1]) for count in range(len(parts))))


def fold(name: str) -> str:
    """Return what APFS compares in place of *name*."""
    decomposed = unicodedata.normalize("NFD", name)
    return unicodedata.normalize("NFD", decomposed.casefold())


@cache
def folds() -> dict[str, str]:
    """Return, for every folded sequence, the single characters that fold to it.

    Hangul is left to `equal_names`, which composes it; ideographs fold only from the
    compatibility blocks, which are searched. Costs 30 ms, once, where a denial isn't ASCII.
    """
    found: dict[str, str] = {}
    for first, last in ((0xA0, 0x3400), (0xA000, 0xAC00), (0xF900, 0x1F000), (0x2F800, 0x2FA20)):
        for code in range(first, last):
            char = chr(code)
            folded = fold(char)
            if folded != char:
                found[folded] = found.get(folded, "") + char
    for code in range(0x41, 0x5B):
        found[chr(code + 32)] = chr(code) + found.get(chr(code + 32), "")
    return found


def escaped(text: str) -> str:
    """Return a pattern that matches *text* and nothing else."""
    return "".join("\\" + char if char in _META else char for char in text)


def equal_names(path: str) -> str:
    """Return a pattern of all that APFS holds equal to *path*, a part of a path.

    Raises:
        RefusedError: It can't be spelled out.
    """
    folded = fold(path)
    table = None if folded.isascii() else folds()
    marks = [bool(unicodedata.combining(char)) for char in folded]
    # Two marks on a letter may come in either order, and a composed letter may hold either.
    if any(mark and marks[at - 1] for at, mark in enumerate(marks) if at):
        raise RefusedError(f"two combining marks on one letter in a denial: {path!r}")
    pattern: list[str] = []
    at = 0
    while at < len(folded):
        end = _segment_end(folded, at, table)
        if end - at > SEGMENT_CHARS_MAX:
            raise RefusedError(f"too many spellings of {folded[at:end]!r} in {path!r}")
        pattern.append(_segment(folded, at, end, table))
        at = end
    return "".join(pattern)


def _spelled(part: str, table: dict[str, str] | None) -> str:
    """Return the single characters that stand for *part*, itself included if it is one."""
    if table is None:
        also = ASCII_FOLDS.get(part, part.upper() if part.isalpha() and len(part) == 1 else "")
    else:
        also = table.get(part, "")
    composed = unicodedata.normalize("NFC", part)
    own = part if len(part) == 1 else ""
    return "".join(sorted({*own, *also, *(composed if len(composed) == 1 else "")}))


def _segment_end(folded: str, at: int, table: dict[str, str] | None) -> int:
    """Return the first place after *at* that no character of any spelling straddles."""
    end = at + 1
    start = at
    while start < end:
        for width in (4, 3, 2):
            part = folded[start : start + width]
            if len(part) == width and _spelled(part, table):
                end = max(end, start + width)
        start += 1
    return end


def _segment(folded: str, at: int, end: int, table: dict[str, str] | None) -> str:
    if at == end:
        return ""
    ways: dict[str, list[str]] = {}
    for width in (1, 2, 3, 4):
        if at + width <= end:
            rest = _segment(folded, at + width, end, table)
            chars = [escaped(char) for char in _spelled(folded[at : at + width], table)]
            ways.setdefault(rest, []).extend(chars)
    texts = [_either(chars) + rest for rest, chars in ways.items() if chars]
    return texts[0] if len(texts) == 1 else "(" + "|".join(texts) + ")"


def _either(chars: list[str]) -> str:
    if len(chars) == 1:
        return chars[0]
    if all(len(char) == 1 and char.isascii() for char in chars):
        return "[" + "".join(chars) + "]"
    # Alternation, for a class would have to know that several bytes are one character.
    return "(" + "|".join(chars) + ")"
