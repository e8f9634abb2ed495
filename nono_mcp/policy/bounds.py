"""The bounds of what a policy holds, and its sizes and names, wherever they are written.

Architecture invariant: this module does no I/O and needs no parser: the command line shares it.
"""

from __future__ import annotations

from nono_mcp.policy.errors import PolicyError, quoted

ITEMS_MAX = 10_000
"""Elements of one list."""
TEXT_BYTES_MAX = 1024 * 1024
"""Size of one policy."""
SECONDS_MAX = 30 * 24 * 3600
BYTES_MAX = 2**63 - 1
COUNT_MAX = 2**22
"""PID_MAX_LIMIT of a 64-bit Linux."""
PORT_MAX = 65535
DESCRIPTION_CHARACTERS_MAX = 500

PATTERN_CHARACTERS_MAX = 1000

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_UNIT_DIGITS_MAX = 6
_PLAIN_DIGITS_MAX = 18

PROFILE_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789._-"
PROFILE_NAME_CHARACTERS_MAX = 64


def size(text: str) -> int:
    """Return the bytes that a size such as "512M" says.

    Raises:
        PolicyError: It isn't a size.
    """
    digits, factor, digits_max = text, 1, _PLAIN_DIGITS_MAX
    if text[-1:] in UNITS:
        digits, factor, digits_max = text[:-1], UNITS[text[-1]], _UNIT_DIGITS_MAX
    well_formed = digits.isascii() and digits.isdigit() and len(digits) <= digits_max
    if not well_formed or digits[0] == "0":
        raise PolicyError(
            f"{quoted(text[:64])} isn't a size", hint='bytes, or a number and K, M, G or T: "2G"'
        )
    return int(digits) * factor


def check_pattern(text: str) -> None:
    """Raise PolicyError unless *text* can say what snapshots leave out."""
    parts = text.removeprefix("/").removesuffix("/").split("/")
    if len(text) > PATTERN_CHARACTERS_MAX or "\0" in text or not {"", ".", ".."}.isdisjoint(parts):
        raise PolicyError(
            f"{quoted(text[:64])} isn't a pattern of paths in the workspace",
            hint='"node_modules" is meant anywhere, "/build" at the root; *, ?, [..], ** are known',
        )


def check_profile_name(name: str) -> None:
    """Raise PolicyError unless *name* can name a profile."""
    allowed = set(PROFILE_NAME_CHARACTERS)
    if (
        not 0 < len(name) <= PROFILE_NAME_CHARACTERS_MAX
        or not allowed.issuperset(name)
        or not name[0].isalnum()
    ):
        raise PolicyError(
            f"{quoted(name[:64])} isn't a profile's name",
            hint="lower-case letters, digits, dot, _ and -, a letter or digit first",
        )
