"""What a session's credentials are, fetched when they're first needed and held briefly.

Architecture invariant: one fetch at a time for each name, whoever asks; a failure is told to all
who waited for it and held too, so that a locked keychain isn't asked once a request.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nono_mcp.credentials.fetch import Sources, fetch
from nono_mcp.credentials.secret import CredentialError, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nono_mcp.credentials.source import Source

HELD_S: Final = 60.0
FAILURE_HELD_S: Final = 2.0
EARLY_S: Final = 30.0
"""So long before a token's end it's replaced."""


@dataclass(frozen=True, slots=True)
class Use:
    """What may be told of a credential: where it is from, and which value it was."""

    source: str
    fingerprint: str


@dataclass(slots=True)
class _Held:
    value: Secret | CredentialError
    until_s: float


class Vault:
    """The credentials of one session, by name."""

    def __init__(
        self,
        named: Mapping[str, Source],
        sources: Sources,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._named = dict(named)
        self._sources = sources
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._locks = {name: threading.Lock() for name in named}
        # Of this session: the same value has another fingerprint in the next one's records.
        self._key = os.urandom(32)

    def get(self, name: str) -> Secret:
        """Return a credential's value; blocks while its source is asked.

        Raises:
            CredentialError: There is none to be had.
        """
        if name not in self._named:
            raise CredentialError(f"no credential {name!r} in this policy")
        with self._locks[name]:
            held = self._held.get(name)
            if held is None or self._clock() >= held.until_s:
                held = self._held[name] = self._fetched(self._named[name])
        if isinstance(held.value, CredentialError):
            raise CredentialError(str(held.value))
        return held.value

    def use(self, name: str) -> Use:
        """Return what may be told of the credential *name* as it was last fetched."""
        held = self._held.get(name)
        value = held.value if held is not None else None
        print_ = value.fingerprint(self._key) if isinstance(value, Secret) else ""
        return Use(str(self._named[name]), print_)

    def forget(self) -> None:
        """Let go of every value."""
        self._held.clear()

    def _fetched(self, source: Source) -> _Held:
        began_at = self._clock()
        try:
            found = fetch(source, self._sources)
        except CredentialError as error:
            return _Held(error, self._clock() + FAILURE_HELD_S)
        lifetime_s = HELD_S
        if found.lifetime_s is not None:
            lifetime_s = max(found.lifetime_s - EARLY_S, 0.0)
        return _Held(found.value, began_at + lifetime_s)
