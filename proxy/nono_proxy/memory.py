"""Heads that were judged before, octet for octet: judging one again is a look-up.

Agents ask for the same in the same words. A head that was judged, and what was made of it, is kept
for as long as judging it anew would come to the same: under one configuration, one set of calls,
until a token or the credential in it runs out. Whatever changes one of these forgets everything.

Of heads that differ in what nobody looks at (`sifting`) the rest is looked up: the number that a
client gives each request, or how long its body is, changes nothing but itself.

What is looked up is a whole head by a keyed hash of it, so that how long it takes says nothing of
a token in one that differs.

Architecture invariant: no I/O and no clock. Nothing is kept that was refused, nor what the time of
day, a body, a rate or a resolver has a say in; an address is never kept.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from nono_proxy.config import Header, Route, SigV4
from nono_proxy.credential import Credential, Lent
from nono_proxy.grammar import Field, Request, Response
from nono_proxy.placements import Found
from nono_proxy.plan import Plan
from nono_proxy.sifting import Sifted, Sifter

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


class Alike(NamedTuple):
    """What was made of a head, and can be made of those like it."""

    judged: Judged
    plan: Plan
    """As it is with those fields that are looked at first, and in their order."""
    fields: list[Field]
    """The fields of its request that are looked at."""
    head: Sifted
    """What went upstream."""


class Memory:
    """What is kept, within bounds."""

    def __init__(self) -> None:
        self.generation = 0
        self._sifter = Sifter(())
        self._kept: dict[Key, Judged] = {}
        self._alike: dict[tuple[Key, bool], Alike] = {}
        self._openings: dict[Hashable, Openings] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._kept)} heads>"

    def find(self, key: Key, now: float) -> Judged | None:
        """Return what was made of that head, if that would be made of it now."""
        found = self._kept.get(key)
        if found is not None and now < found.until:
            return found
        if not self._alike or len(key[1]) > HEAD_BYTES_MAX:
            return None
        return self._find_alike(key, now)

    def _find_alike(self, key: Key, now: float) -> Judged | None:
        sifted = self._sifter.sift(key[1])
        if sifted is None:
            return None
        found = self._alike.get(((key[0], sifted.looked_at), sifted.length > 0))
        if found is None or now >= found.judged.until:
            return None
        like = found.judged
        fields = [*found.fields, *sifted.others]
        request = like.request._replace(fields=fields, length=sifted.length)
        head = found.head.with_others(sifted)
        return Judged(key, found.plan, request, self.generation, head, like.credential, like.until)

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
        if head:
            self._keep_alike(judged, head)

    def _keep_alike(self, judged: Judged, head: bytes) -> None:
        """Keep what was made of a head for those like it, if the rest of it was just passed on."""
        where, came = judged.key
        sifted, made = self._sifter.sift(came), self._sifter.sift(head)
        if sifted is None or made is None or sifted[1:] != made[1:]:
            return
        if len(self._alike) >= HEADS_MAX:
            self._alike.clear()
        names = {name for name, _ in sifted.others}
        fields = judged.request.fields
        order = [at for at, (name, _) in enumerate(fields) if name not in names]
        plan = replace(judged.plan, found=[_moved(each, order) for each in judged.plan.found])
        key = (where, sifted.looked_at), sifted.length > 0
        self._alike[key] = Alike(judged, plan, [fields[at] for at in order], made)

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

    def configure(self, routes: Iterable[Route]) -> None:
        """Forget everything, and keep requests to *routes* from now on."""
        self.forget()
        self._sifter = Sifter(routes)

    def forget(self) -> None:
        """Forget everything: what was judged by has changed."""
        self.generation += 1
        self._kept.clear()
        self._alike.clear()
        self._openings.clear()

    def sweep(self, now: float) -> None:
        """Forget what has run out: credentials stand in it."""
        for key in [key for key, each in self._kept.items() if now >= each.until]:
            del self._kept[key]
        for like in [like for like, each in self._alike.items() if now >= each.judged.until]:
            del self._alike[like]
        for shape in [shape for shape, each in self._openings.items() if now >= each.until]:
            del self._openings[shape]


def _moved(found: Found, order: list[int]) -> Found:
    """Return where a token is once the fields are those of *order*, by what place they had."""
    if not isinstance(found.placement, Header):
        return found
    return found._replace(at=order.index(found.at))


def _lasts(judged: Judged) -> bool:
    """Tell whether the same head is judged in the same way for a while."""
    plan, request = judged.plan, judged.request
    if plan.in_body or request.upgrade is not None or request.expects:
        return False
    if plan.route is not None and plan.route.requests_per_minute_max is not None:
        return False
    return not any(isinstance(each.placement, SigV4) for each in plan.found)
