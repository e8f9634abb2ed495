"""A credential's value, which shows itself only when told to.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Never

VALUE_BYTES_MAX: Final = 16 * 1024
_FINGERPRINT_BYTES: Final = 8


class CredentialError(Exception):
    """There is no credential to be had; the message says why, and never holds its value."""


class Secret:
    """One value. It prints, formats and logs as nothing, and isn't copied by serialising."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the value."""
        return self._text

    def fingerprint(self, key: bytes) -> str:
        """Return what tells this value from another to who knows *key*, and nothing to others."""
        mac = hmac.new(key, self._text.encode(), hashlib.sha256)
        return mac.digest()[:_FINGERPRINT_BYTES].hex()

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> Never:
        raise TypeError("a secret isn't serialised")


def secret(data: bytes | str, what: str) -> Secret:
    r"""Return the value that *data* is, less one line break at its end; *what* names its source.

    Raises:
        CredentialError: It's empty, too long, not UTF-8, or holds a control character: a line
            break in a header would begin another.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        size = len(text.encode())
    except UnicodeError:
        raise CredentialError(f"{what}: not text in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise CredentialError(f"{what}: empty")
    if size > VALUE_BYTES_MAX:
        raise CredentialError(f"{what}: over {VALUE_BYTES_MAX} bytes")
    if not text.isprintable() or text != text.strip():
        raise CredentialError(f"{what}: holds a control character, or blanks around it")
    return Secret(text)
