"""Heads that were judged before, octet for octet: judging one again is a look-up.

Agents ask for the same in the same words. A head that was judged, and what was made of it, is kept
for as long as judging it anew would come to the same: under one configuration, one set of calls,
until a token or the credential in it runs out. Whatever changes one of these forgets everything.

What is looked up is a whole head by a keyed hash of it, so that how long it takes says nothing of
a token in one that differs.

Architecture invariant: no I/O and no clock. Nothing is kept that was refused, nor what the time of
day, a body, a rate or a resolver has a say in; an address is never kept.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from nono_proxy.config import SigV4
from nono_proxy.credential import Credential, Lent
from nono_proxy.grammar import Request, Response
from nono_proxy.plan import Plan

HEAD_BYTES_MAX = 4096
HEADS_MAX = 128
ANSWER_BYTES_MAX = 2048
ANSWERS_MAX = 32
SHAPES_MAX = 16

Key = tuple[Hashable, bytes]


class Opening(NamedTuple):
    """An answer's head as it was read, and what was written for it."""

    response: Response
    head: bytes
    chunks: bool
    closes: bool


class Openings:
    """How answers began, to requests that their beginnings can't differ for."""

    __slots__ = ("_kept", "until")

    def __init__(self, until: float) -> None:
        self._kept: dict[bytes, Opening] = {}
        self.until = until

    def find(self, head: bytes) -> Opening | None:
        """Return what was made of that head."""
        return self._kept.get(head)

    def keep(self, head: bytes, opening: Opening) -> None:
        """Keep what was made of it."""
        if len(head) > ANSWER_BYTES_MAX:
            return
        if len(self._kept) >= ANSWERS_MAX:
            self._kept.clear()
        self._kept[head] = opening


@dataclass(slots=True)
class Judged:
    """A request that was allowed, and what was made of it."""

    key: Key
    plan: Plan
    request: Request
    generation: int
    head: bytes = field(default=b"", repr=False)
    """What went upstream; empty unless this is kept."""
    credential: Credential | None = None
    until: float = 0.0


class Memory:
    """What is kept, within bounds."""

    def __init__(self) -> None:
        self.generation = 0
        self._kept: dict[Key, Judged] = {}
        self._openings: dict[Hashable, Openings] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._kept)} heads>"

    def find(self, key: Key, now: float) -> Judged | None:
        """Return what was made of that head, if that would be made of it now."""
        found = self._kept.get(key)
        return found if found is not None and now < found.until else None

    def keep(self, judged: Judged, head: bytes, lent: Lent | None) -> None:
        """Keep what went upstream for a request, with the credential that it was lent until then.

        It isn't kept if something has changed since it was judged.
        """
        if judged.generation != self.generation or not _lasts(judged):
            return
        if max(len(judged.key[1]), len(head)) > HEAD_BYTES_MAX:
            return
        if len(self._kept) >= HEADS_MAX:
            self._kept.clear()
        judged.head = head
        judged.until = judged.plan.until
        judged.credential = None
        if lent is not None:
            judged.credential = lent[0]
            judged.until = min(judged.until, lent[1])
        self._kept[judged.key] = judged

    def openings(self, request: Request, lent: Lent | None) -> Openings:
        """Return how answers began to requests of the same framing that were lent the same."""
        credential, until = lent if lent is not None else (None, inf)
        shape = (credential, request.modern, request.keep_alive, request.method == b"HEAD")
        found = self._openings.get(shape)
        if found is None:
            if len(self._openings) >= SHAPES_MAX:
                self._openings.clear()
            found = self._openings[shape] = Openings(until)
        return found

    def forget(self) -> None:
        """Forget everything: what was judged by has changed."""
        self.generation += 1
        self._kept.clear()
        self._openings.clear()

    def sweep(self, now: float) -> None:
        """Forget what has run out: credentials stand in it."""
        for key in [key for key, each in self._kept.items() if now >= each.until]:
            del self._kept[key]
        for shape in [shape for shape, each in self._openings.items() if now >= each.until]:
            del self._openings[shape]


def _lasts(judged: Judged) -> bool:
    """Tell whether the same head is judged in the same way for a while."""
    plan, request = judged.plan, judged.request
    if plan.in_body or request.upgrade is not None or request.expects:
        return False
    if plan.route is not None and plan.route.requests_per_minute_max is not None:
        return False
    return not any(isinstance(each.placement, SigV4) for each in plan.found)
