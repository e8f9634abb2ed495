"""A compressed answer, decompressed as it streams, so that it can be looked through.

`identity` is asked for, and a host may answer otherwise all the same (RFC 9110 12.5.3). What was
decompressed is passed on as it is: its reader sees what was looked through, and nothing else.

Architecture invariant: no I/O; a step makes at most `STEP_BYTES`, however well it was compressed,
and what waits for its step is no longer than what was fed.
"""

import zlib
from collections.abc import Sequence

from nono_proxy.errors import GrammarError, Refusal
from nono_proxy.grammar import Field, value_of

STEP_BYTES = 65536
# So much of what waits is given to zlib at once: it copies what it doesn't use.
_BITE_BYTES = 4096
_CODINGS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
# What describes the octets that came, and not those that are passed on.
_OF_THE_CODED = frozenset(
    {b"content-encoding", b"content-digest", b"content-md5", b"digest", b"repr-digest"}
)


class Decoder:
    """The state of one compressed body."""

    __slots__ = ("_begun", "_full", "_inflate", "_waiting", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._inflate = zlib.decompressobj(window)
        self._waiting = b""
        self._begun = False
        self._full = False

    @property
    def pending(self) -> bool:
        """Tell whether a step may make something of what was fed."""
        return bool(self._waiting) or self._full

    def feed(self, data: bytes) -> None:
        """Take some of the body, for the steps to come."""
        self._waiting += data

    def step(self) -> bytes:
        """Return what comes next of the body, at most `STEP_BYTES`; nothing if more is needed.

        Raises:
            GrammarError: It isn't compressed as it says.
        """
        while self.pending:
            bite, self._waiting = self._waiting[:_BITE_BYTES], self._waiting[_BITE_BYTES:]
            self._begun = True
            if self._inflate.eof:
                # Members may follow each other (RFC 1952 2.2).
                if self._window == _CODINGS[b"deflate"]:
                    raise GrammarError("octets behind a compressed body")
                self._inflate = zlib.decompressobj(self._window)
            try:
                made = self._inflate.decompress(bite, STEP_BYTES)
            except zlib.error as error:
                raise GrammarError("a body isn't compressed as it says") from error
            unused = self._inflate.unconsumed_tail + self._inflate.unused_data
            self._waiting = unused + self._waiting
            # zlib may hold more than it was let make, with nothing left to be fed.
            self._full = len(made) == STEP_BYTES and not self._inflate.eof
            if made:
                return made
        return b""

    def finish(self) -> None:
        """Take the body's end.

        Raises:
            GrammarError: It was cut.
        """
        if self._begun and not self._inflate.eof:
            raise GrammarError("a compressed body is cut")


def decoder(fields: Sequence[Field]) -> Decoder | None:
    """Return what decompresses the body behind *fields*; None if that's as it is.

    Raises:
        Refusal: It can't be decompressed within bounds, and so not be looked through.
    """
    codings = [value_of(line).lower() for name, line in fields if name == b"content-encoding"]
    codings = [coding for coding in codings if coding not in (b"", b"identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _CODINGS:
        raise Refusal("upstream-encoded", b", ".join(codings).decode("ascii", "replace")[:80])
    return Decoder(_CODINGS[codings[0]])


def decoded(fields: Sequence[Field]) -> list[Field]:
    """Return the fields of an answer whose body is decompressed on its way."""
    return [field for field in fields if field[0] not in _OF_THE_CODED]
