"""Records for people and models: one line each, with nothing in it that acts on a reader.

What a record says was chosen by an agent, a host or a file name. Terminal escapes, text that
runs backwards, NUL, line breaks and characters nobody sees are shown as what they are.

Architecture invariant: this module does no I/O and reads no clock.
"""

from typing import Final

from nono_mcp.audit.record import Record

TEXT_CHARS_MAX: Final = 400
LINE_CHARS_MAX: Final = 1000


def escape(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    r"""Return *text* with every character that doesn't print as \xNN, \uNNNN or \U...."""
    shown = text[:chars_max]
    if not shown.isprintable() or "\\" in shown:
        shown = "".join(_escaped(char) for char in shown)
    return shown if len(text) <= chars_max else f"{shown}... ({len(text)} characters)"


def _escaped(char: str) -> str:
    if char == "\\":
        # So that an escape can't be mistaken for the text it stands for.
        return "\\\\"
    if char.isprintable():
        return char
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004 - one byte
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - two bytes


def escape_all(value: object, chars_max: int = TEXT_CHARS_MAX) -> object:
    """Return a JSON value with `escape` applied to every string in it, names included."""
    if isinstance(value, str):
        return escape(value, chars_max)
    if isinstance(value, dict):
        return {
            escape(str(name), chars_max): escape_all(item, chars_max)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [escape_all(item, chars_max) for item in value]
    return value


def one_line(record: Record) -> str:
    """Return a record as one line of at most `LINE_CHARS_MAX` characters."""
    parts = [str(record.seq), record.time, record.session[:8], record.kind]
    parts += [f"{name}={_short(value)}" for name, value in _interesting(record)]
    line = " ".join(parts)
    return line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - 3] + "..."


_HIDDEN: Final = frozenset({"state", "key", "next", "meta", "boundary", "keystores", "ratchets"})
_FIRST: Final = ("call", "tool", "decision", "outcome", "argv", "command", "target", "host", "code")


def _interesting(record: Record) -> list[tuple[str, object]]:
    data = record.data
    first = [(name, data[name]) for name in _FIRST if name in data]
    rest = [(escape(n), v) for n, v in data.items() if n not in _FIRST and n not in _HIDDEN]
    return first + rest


def _short(value: object) -> str:
    if isinstance(value, str):
        text = escape(value)
        return text if text and " " not in text else f'"{text}"'
    if isinstance(value, list):
        return "[" + " ".join(_short(item) for item in value[:50]) + "]"
    if isinstance(value, dict):
        inner = " ".join(f"{escape(str(n))}={_short(v)}" for n, v in list(value.items())[:50])
        return "{" + inner + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
