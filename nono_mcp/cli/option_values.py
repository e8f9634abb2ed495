"""What the value of an option says: a number, a port, a time, a size; or why it says none."""

from __future__ import annotations

from nono_mcp.cli.options import UsageError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from nono_mcp.cli.options import Parsed

    T = TypeVar("T")

NUMBER_CHARACTERS_MAX = 32


def given(parsed: Parsed, name: str, read: Callable[[str, str], T]) -> T | None:
    """Return what *read* makes of the value of the option *name*, or None if it isn't given."""
    text = parsed.one(name)
    return None if text is None else read(text, name)


def as_policy(name: str, read: Callable[..., T], *texts: str) -> T:
    """Return what *read*, which a policy's files are read by too, makes of an option's value.

    Raises:
        UsageError: It refuses that; the error names the option.
    """
    from nono_mcp.policy.errors import PolicyError

    try:
        return read(*texts)
    except PolicyError as error:
        raise UsageError(f"{name}: {error.message}", error.hint) from None


def whole(text: str, name: str, most: int) -> int:
    """Return the number from 1 to *most* that *text* says, the value of the option *name*.

    Raises:
        UsageError: It says none.
    """
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 0 < int(text) <= most:
        return int(text)
    raise UsageError(f"{name} {shown(text)} isn't a number", f"a whole one from 1 to {most}")


def count(text: str, name: str) -> int:
    """Return the count that *text* says, the value of the option *name*.

    Raises:
        UsageError: It says none.
    """
    from nono_mcp.policy.bounds import COUNT_MAX

    return whole(text, name, COUNT_MAX)


def port(text: str, name: str) -> int:
    """Return the TCP port that *text* says, the value of the option *name*.

    Raises:
        UsageError: It says none.
    """
    from nono_mcp.policy.bounds import PORT_MAX

    try:
        return whole(text, name, PORT_MAX)
    except UsageError as error:
        raise UsageError(f"{name} {shown(text)} isn't a port", error.hint) from None


def seconds(text: str, name: str) -> float:
    """Return the time that *text* says, the value of the option *name*.

    Raises:
        UsageError: It says none.
    """
    from nono_mcp.policy.bounds import SECONDS_MAX

    # Not float() alone, which also takes "nan", "1_0" and digits that aren't ASCII.
    digits = text.replace(".", "", 1)
    plain = digits.isascii() and digits.isdigit() and len(text) <= NUMBER_CHARACTERS_MAX
    if plain and 0 < float(text) <= SECONDS_MAX:
        return float(text)
    raise UsageError(f"{name} {shown(text)} isn't a time", f"seconds, over 0 up to {SECONDS_MAX}")


def size(text: str, name: str) -> int:
    """Return the bytes that *text* says, the value of the option *name*.

    Raises:
        UsageError: It says none.
    """
    from nono_mcp.policy import bounds

    return as_policy(name, bounds.size, text)
