"""Credentials, fetched when they are needed and held briefly.

Architecture invariant: no value is ever printed, logged or put in an error.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable

from nono_proxy.errors import CredentialUnavailableError, Refusal
from nono_proxy.scrub import CREDENTIAL_OCTETS_MIN, forms

Lookup = Callable[[str], Awaitable[bytes]]

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
        self.spellings = forms((value, *parts))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


# A credential, and until when it's held.
Lent = tuple[Credential, float]


class Vault:
    """Holds credentials for a while, so that not every request asks for them."""

    def __init__(self, lookup: Lookup, hold_s: float) -> None:
        self._lookup = lookup
        self._hold_s = hold_s
        self._held: dict[str, Lent] = {}
        self._asked: dict[str, asyncio.Task[Lent]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def held(self, name: str, now: float) -> Lent | None:
        """Return a credential if it's at hand, and until when it is."""
        found = self._held.get(name)
        return found if found is not None and now < found[1] else None

    def sweep(self, now: float) -> None:
        """Forget what was held for long enough."""
        for name in [name for name, (_, until) in self._held.items() if now >= until]:
            del self._held[name]

    def forget(self) -> None:
        """Forget everything."""
        self._held.clear()

    async def fetch(self, name: str) -> Lent:
        """Return a credential, and until when it's held; many who ask at once ask once.

        Raises:
            Refusal: It can't be had; the request must not go out without it.
        """
        task = self._asked.get(name)
        if task is None:
            task = asyncio.create_task(self._ask(name))
            self._asked[name] = task
            task.add_done_callback(lambda _: self._asked.pop(name, None))
        try:
            return await asyncio.shield(task)
        except CredentialUnavailableError as error:
            raise Refusal("credential-unavailable", str(error)) from error

    async def _ask(self, name: str) -> Lent:
        credential = Credential(await self._lookup(name))
        found = (credential, asyncio.get_running_loop().time() + self._hold_s)
        self._held[name] = found
        return found
