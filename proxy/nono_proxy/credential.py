"""A credential, as it's held.

Architecture invariant: no I/O; no value is ever printed.
"""

import re

from nono_proxy.errors import CredentialUnavailableError
from nono_proxy.spellings import CREDENTIAL_OCTETS_MIN, Spellings

# What can stand in a header field without ending it; blanks inside only.
_VALUE = re.compile(rb"[\x21-\x7e]+(?: +[\x21-\x7e]+)*")


class Credential:
    """A credential's value and the spellings by which it's known when it comes back."""

    __slots__ = ("spellings", "value")

    def __init__(self, value: bytes) -> None:
        if _VALUE.fullmatch(value) is None or len(value) < CREDENTIAL_OCTETS_MIN:
            raise CredentialUnavailableError(
                f"the credential isn't {CREDENTIAL_OCTETS_MIN} or more visible ASCII characters"
            )
        self.value = value
        parts = [part for part in value.split(b":")[1:] if len(part) >= CREDENTIAL_OCTETS_MIN]
        self.spellings = Spellings((value, *parts))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


# A credential, and until when it's held.
Lent = tuple[Credential, float]
