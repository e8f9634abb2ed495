"""A policy written as TOML, as `nono policy show` prints it.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy.bounds import UNITS
from nono_mcp.policy.document import SECTIONS, Document
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.keys import FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTH = 88


def emit(document: Document) -> str:
    """Return *document* as TOML; parsed, it's the same document.

    Raises:
        PolicyError: A path isn't UTF-8, and TOML has no way to write it.
    """
    lines = []
    if document.description:
        lines.append(f"description = {_string(document.description)}")
    if document.extends is not None:
        lines.append(f"extends = {_list(map(_string, document.extends), 'extends')}")
    for section in SECTIONS:
        body = _section(section, getattr(document, section))
        if body:
            lines += ["", f"[{section}]", *body]
    return "\n".join(lines).lstrip("\n") + "\n"


def _section(section: str, values: object) -> list[str]:
    lines = []
    for field in FIELDS:
        value = getattr(values, field.name()) if field.section == section else None
        if value is not None and value != ():
            lines.append(f"{field.key} = {_value(field.key, field.kind, value)}")
    return lines


def _value(key: str, kind: str, value: object) -> str:
    if kind == "routes" and isinstance(value, tuple):
        rows = (f"{_string(name)} = {_row(row)}" for name, row in value)
        return "{ " + ", ".join(rows) + " }"
    if kind in ("variables", "sources") and isinstance(value, tuple):
        pairs = (f"{_string(name)} = {_string(text)}" for name, text in value)
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, tuple):
        return _list((_string(one) if isinstance(one, str) else str(one) for one in value), key)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int) and kind == "size":
        return _size(value)
    # Python's spelling of a bool or float is TOML's, but for the case.
    return repr(value).lower()


def _row(row: object) -> str:
    given = {key: value for key, value in vars(row).items() if value is not None and value != ()}
    return "{ " + ", ".join(f"{key} = {_value('', '', one)}" for key, one in given.items()) + " }"


def _size(value: int) -> str:
    for unit, factor in reversed(UNITS.items()):
        if value % factor == 0 and value // factor < 10**6:
            return f'"{value // factor}{unit}"'
    return str(value)


def _list(elements: Iterable[str], key: str) -> str:
    written = list(elements)
    line = f"[{', '.join(written)}]"
    if len(key) + len(line) <= _WIDTH:
        return line
    return "[\n" + "".join(f"  {element},\n" for element in written) + "]"


def _string(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PolicyError(f"TOML can't hold {quoted(text)}: it isn't UTF-8") from None
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    # TOML forbids control characters in strings; others are escaped for the terminal's sake.
    return character if character.isprintable() else f"\\U{ord(character):08x}"
