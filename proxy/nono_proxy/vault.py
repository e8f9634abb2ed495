"""Credentials, fetched when they are needed and held briefly.

Architecture invariant: no value is ever printed, logged or put in an error.
"""

import asyncio
from collections.abc import Awaitable, Callable

from nono_proxy.credential import Credential, Lent
from nono_proxy.errors import CredentialUnavailableError, Refusal

Lookup = Callable[[str], Awaitable[bytes]]


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
        held = self.held(name, asyncio.get_running_loop().time())
        if held is not None:
            return held
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
