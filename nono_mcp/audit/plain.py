"""What can go into a record as it is, which nearly everything can: asked before it's cleaned.

Architecture invariant: this module does no I/O and reads no clock.
"""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from nono_mcp.audit.canonical import INTEGER_MAX

HEAD_CHARS_MAX: Final = 1024
ITEMS_MAX: Final = 20_000
DEPTH_MAX: Final = 32
INNOCENT_MAX: Final = 512
INNOCENT_CHARS_MAX: Final = 200


class Commitment(dict[str, object]):
    """What stands for a value: made here, and so not cleaned again."""


class Plain:
    """Knows the strings of earlier records in which nothing was found: most come again."""

    def __init__(self) -> None:
        self._innocent: set[str] = set()
        self._names: set[str] = set()

    def fresh(self, fields: dict[str, object]) -> list[str] | None:
        """Return the strings of *fields* that are still to be looked at.

        None says that *fields* can't be encoded as they are, whatever the strings hold.
        """
        found: list[str] = []
        return found if self._object(fields, found, 0) else None

    def remember(self, strings: Iterable[str]) -> None:
        """Note that nothing was found in *strings*."""
        _remember(self._innocent, strings)

    def _value(self, value: object, found: list[str], depth: int) -> bool:
        if isinstance(value, str):
            if value in self._innocent:
                return True
            found.append(value)
            return len(value) <= HEAD_CHARS_MAX and value.isascii()
        if isinstance(value, int):
            return abs(value) <= INTEGER_MAX
        if isinstance(value, dict | list | tuple):
            return isinstance(value, Commitment) or self._container(value, found, depth)
        return value is None

    def _container(
        self,
        value: dict[Any, object] | list[object] | tuple[object, ...],
        found: list[str],
        depth: int,
    ) -> bool:
        if depth >= DEPTH_MAX:
            return False
        if isinstance(value, dict):
            return self._object(value, found, depth)
        return len(value) <= ITEMS_MAX and all(
            self._value(item, found, depth + 1) for item in value
        )

    def _object(self, value: dict[Any, object], found: list[str], depth: int) -> bool:
        for name, item in value.items():
            if name not in self._names:
                if not isinstance(name, str) or member_name(name) != name:
                    return False
                _remember(self._names, [name])
            if name not in self._innocent:
                found.append(name)
            if not self._value(item, found, depth + 1):
                return False
        return True


def _remember(known: set[str], strings: Iterable[str]) -> None:
    if len(known) > INNOCENT_MAX:
        known.clear()
    known.update(one for one in strings if len(one) <= INNOCENT_CHARS_MAX)


def member_name(name: str) -> str:
    """Return *name* as a record may have it."""
    if name.isascii() and name.isprintable() and not name.startswith("$"):
        return name
    return "".join(
        char
        if char.isascii() and char.isprintable() and char not in "$%"
        else quote(char.encode(errors="surrogatepass"), safe="")
        for char in name
    )
