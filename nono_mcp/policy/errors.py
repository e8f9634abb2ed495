"""The two ways a policy fails: it isn't one, or it can't be kept.

Both print as one line, whatever bytes a path holds.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+:@%,=~")


class PolicyError(Exception):
    """A policy that isn't well formed, or that names what isn't there."""

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.hint = hint

    def __str__(self) -> str:
        where = "" if self.file is None else quoted(self.file)
        if where and self.line is not None:
            where = f"{where}:{self.line}"
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class RefusedError(Exception):
    """A policy that is well formed and can't be expressed, or not enforced on this machine."""

    def __init__(self, message: str, *, code: str, path: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.path = path
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


def quoted(path: str) -> str:
    """Return *path* as one would type it in a shell, on one line and printable.

    A name that isn't UTF-8 holds lone surrogates; they come out as the bytes they stand for.
    """
    if path and _SAFE.issuperset(path) and not path.startswith("-"):
        return path
    if path.isprintable():
        return "'" + path.replace("'", "'\\''") + "'"
    shown = "".join(_escaped(character) for character in path)
    return f"$'{shown}'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
