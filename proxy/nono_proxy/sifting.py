"""What of a request's head nobody looks at: how long its body is, and fields of the client's own.

Two heads that differ in nothing else are judged alike, and sent on alike but for that.

Architecture invariant: no I/O. A field that anything here looks at stands in `Sifter`'s names.
"""

from collections.abc import Iterable
from typing import NamedTuple

from nono_proxy import grammar, judge, rewrite, tokens
from nono_proxy.config import Header, Route
from nono_proxy.grammar import Field, value_of

_LOOKED_AT = grammar.HOP | grammar.FRAMING | judge.OVERRIDES | rewrite.UNLENT
# What Connection says where it names no other field.
_NAMES_NONE = frozenset({b"close", b"keep-alive"})


class Sifted(NamedTuple):
    """A head in parts."""

    looked_at: bytes
    """The lines that are, but for a length that isn't zero."""
    others: list[Field]
    length: int

    def with_others(self, of: "Sifted") -> bytes:
        """Return a head of what is looked at in this one, and the rest of another."""
        lines = [self.looked_at, *[line for _, line in of.others]]
        if of.length:
            lines.append(b"Content-Length: %d" % of.length)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)


class Sifter:
    """Sifts the heads of requests that may be to these routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._names = _LOOKED_AT | {
            placement.name.lower().encode("ascii")
            for route in routes
            for placement in route.placements
            if isinstance(placement, Header)
        }

    def sift(self, head: bytes) -> Sifted | None:
        """Return *head* in parts; None if it's none, or what it holds has to be seen as a whole."""
        if not grammar.is_request(head):
            return None
        first, *lines = head[:-4].split(b"\r\n")
        looked_at: list[bytes] = [first]
        others: list[Field] = []
        names: set[bytes] = set()
        length = 0
        for line in lines:
            name = line[: line.index(b":")].lower()
            if name not in self._names:
                others.append((name, line))
            elif name in names or not _stands_alone(name, line):
                return None
            else:
                names.add(name)
                said = grammar.length_of(value_of(line)) if name == b"content-length" else None
                if said:
                    length = said
                else:
                    looked_at.append(line)
        if others and tokens.may_hold_shapes(b"\n".join([line for _, line in others])):
            return None
        return Sifted(b"\r\n".join(looked_at), others, length)


def _stands_alone(name: bytes, line: bytes) -> bool:
    """Tell whether a field says nothing of others."""
    return name != b"connection" or value_of(line).lower() in _NAMES_NONE
