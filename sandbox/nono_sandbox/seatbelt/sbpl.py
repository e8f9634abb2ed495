"""SBPL, the language of Seatbelt profiles: as much of it as this package writes.

A form is a symbol (`str`), a quoted string (`Text`), a raw pattern (`Pattern`) or a tuple of
forms. `write` and `reader.read` are inverses: what can't be written so that it reads back as
itself is refused, so a path can never add a form.

Apple documents no grammar. SBPL is a dialect of Scheme read by TinyScheme ("The Apple Sandbox",
D. Blazakis, 2011; "Apple Sandbox Guide v1.0", fG!, 2011). Of a string's escapes only the two that
every Scheme has are used, backslash and quote; what would need another one is refused.

Architecture invariant: no I/O.
"""

from __future__ import annotations

from functools import lru_cache

from nono_sandbox.errors import ConfinementError
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

TEXT_BYTES_MAX = 8192
"""Longest string or pattern; a path can't exceed 1024 bytes, its pattern a few times that."""
_SYMBOL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-*_")
_CONTROL = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))
_SURROGATES = frozenset(map(chr, range(0xD800, 0xE000)))


class RefusedError(ConfinementError):
    """A confinement that Seatbelt can't express; the message names the item. Nothing ran."""


class Text(Value):
    """A quoted string."""

    value: str


class Pattern(Value):
    """A pattern between `#"` and `"`, where a backslash belongs to the pattern."""

    value: str


if TYPE_CHECKING:
    Form: TypeAlias = str | Text | Pattern | tuple["Form", ...]


# Filters are written to be sorted, and again in their rule.
@lru_cache(maxsize=4096)
def write(form: Form) -> str:
    """Return *form* as text.

    Raises:
        RefusedError: A string or symbol of it can't be spelled.
    """
    if isinstance(form, Text):
        value = _checked(form.value)
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(form, Pattern):
        value = _checked(form.value)
        # How a raw string would hold a quote is written down nowhere; and a final backslash
        # would take the closing quote with it.
        if '"' in value or value.endswith("\\"):
            raise RefusedError(f"a quote can't be spelled in an SBPL pattern: {form.value!r}")
        return f'#"{value}"'
    if isinstance(form, str):
        if not form or not _SYMBOL.issuperset(form):
            raise RefusedError(f"not an SBPL symbol: {form!r}")
        return form
    return "(" + " ".join(write(part) for part in form) + ")"


def write_rule(rule: tuple[Form, ...]) -> str:
    """Return *rule* as text, one filter a line."""
    head = [form for form in rule if not isinstance(form, tuple)]
    filters = [form for form in rule if isinstance(form, tuple)]
    first = "(" + " ".join(write(form) for form in head)
    return "\n  ".join([first, *(write(form) for form in filters)]) + ")"


def _checked(value: str) -> str:
    if not value:
        raise RefusedError("an empty string means nothing in SBPL")
    if not _CONTROL.isdisjoint(value):
        raise RefusedError(f"control character in {value!r}")
    if not _SURROGATES.isdisjoint(value):
        raise RefusedError(f"not UTF-8, which every name on macOS is: {value!r}")
    if len(value.encode()) > TEXT_BYTES_MAX:
        raise RefusedError(f"longer than {TEXT_BYTES_MAX} bytes: {value[:64]!r}...")
    return value
