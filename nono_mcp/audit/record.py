"""One record: its line, its body, its state (FORMAT.md sections 1 and 2).

Architecture invariant: this module does no I/O, reads no clock and knows no keys.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from nono_mcp.audit import canonical
from nono_mcp.audit.merkle import Frontier

FORMAT: Final = "nono-audit/v1"
SIGNED_PREFIX: Final = b"nono-audit/v1\n"
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
LINE_BYTES_MAX: Final = BODY_BYTES_MAX + 107
STATE_EVERY: Final = 1024
"""At least one record in so many carries a state."""

GENESIS_PREV: Final = "0" * 64
GENESIS_SESSION: Final = "0" * 16

CREATE: Final = "log.create"
START: Final = "session.start"
END: Final = "session.end"
CHECKPOINT: Final = "checkpoint"
SEGMENT_END: Final = "segment.end"
RECOVERY: Final = "recovery"
PRUNE: Final = "prune"
WITH_STATE: Final = frozenset({START, CHECKPOINT, SEGMENT_END})

_HEAD: Final = b'{"body":'
_SIG: Final = b',"sig":"'
_TAIL: Final = b'"}\n'
_TRAILER_BYTES: Final = 99
_MEMBERS: Final = {"data", "kind", "prev", "seq", "session", "time"}

_hash = re.compile(r"[0-9a-f]{64}")
_end = re.compile(
    rb',"kind":"([a-z]+(?:\.[a-z]+)*)","prev":"([0-9a-f]{64})","seq":(0|[1-9][0-9]{0,15}),'
    rb'"session":"([0-9a-f]{16})","time":"'
    rb'([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"}'
    rb',"sig":"([A-Za-z0-9+/]{85}[AQgw]==)"}\n'
)
_END_BYTES_MAX: Final = 360
_KIND_CHARS_MAX: Final = 32


class RecordError(ValueError):
    """A line isn't a record."""


def base64_bytes(text: object, size: int) -> bytes:
    """Return the *size* bytes that *text* is the one base64 encoding of.

    Raises:
        RecordError: It isn't. (Unused low bits could otherwise be changed unnoticed.)
    """
    if isinstance(text, str):
        try:
            value = binascii.a2b_base64(text.encode(), strict_mode=True)
        except (ValueError, binascii.Error) as error:
            raise RecordError("not base64") from error
        if len(value) == size and base64.b64encode(value).decode() == text:
            return value
    raise RecordError(f"not {size} bytes in base64")


def hash_bytes(text: object) -> bytes:
    """Return the 32 bytes that *text* names in hex."""
    if isinstance(text, str) and _hash.fullmatch(text):
        return bytes.fromhex(text)
    raise RecordError("not a hash")


def to_base64(value: bytes) -> str:
    """Return *value* in base64."""
    return base64.b64encode(value).decode()


class Record(NamedTuple):
    """A record that is well formed; whether it's genuine is `chain`'s business."""

    seq: int
    kind: str
    session: str
    time: str
    prev: str
    data: dict[str, object]
    signature: bytes
    body: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is made over."""
        return SIGNED_PREFIX + self.body


def build_line(body: bytes, signature: bytes) -> bytes:
    """Return the line of a record."""
    return b"%b%b%b%b%b" % (_HEAD, body, _SIG, base64.b64encode(signature), _TAIL)


class Place(NamedTuple):
    """Where a record stands: all of its body but what it says."""

    seq: int
    prev: str
    session: str
    time: str


def build_body(kind: str, data: bytes, place: Place) -> bytes:
    """Return the canonical body around *data*, which is canonical already."""
    seq, prev, session, time = place
    rest = f',"kind":"{kind}","prev":"{prev}","seq":{seq},"session":"{session}","time":"{time}"}}'
    return b'{"data":' + data + rest.encode()


class Glimpse(NamedTuple):
    """What stands around the data of a record, read without decoding that."""

    kind: str
    prev: str
    seq: int
    session: str
    time: str


def _split(line: bytes) -> tuple[bytes, Glimpse, bytes]:
    cut = len(line) - _TRAILER_BYTES
    found = _end.search(line, max(0, len(line) - _END_BYTES_MAX))
    if found is None or found.end() != len(line) or not line.startswith(_HEAD):
        raise RecordError("not laid out as a record")
    kind, prev, seq, session, time, signature = found.groups()
    if len(kind) > _KIND_CHARS_MAX or cut - len(_HEAD) > BODY_BYTES_MAX:
        raise RecordError("its kind or its body is too long")
    seen = Glimpse(kind.decode(), prev.decode(), int(seq), session.decode(), time.decode())
    return line[len(_HEAD) : cut], seen, signature


def glimpse(line: bytes) -> Glimpse:
    """Return what stands around the data of *line*.

    In a canonical body these members come last, and no string can hold them: its quotes would
    be escaped.

    Raises:
        RecordError: The line isn't laid out as a record.
    """
    return _split(line)[1]


def parse(line: bytes) -> Record:
    """Return the record that *line* is.

    Raises:
        RecordError: It's none: wrong layout, not canonical, wrong members or values.
    """
    body, seen, signature = _split(line)
    try:
        value = canonical.decode(body)
    except canonical.NotCanonicalError as error:
        raise RecordError(str(error)) from error
    data = value.get("data")
    # With these names, canonical order puts what was glimpsed where it was glimpsed.
    if value.keys() != _MEMBERS or not isinstance(data, dict) or seen.seq > canonical.INTEGER_MAX:
        raise RecordError("not the members of a record")
    return Record(
        seen.seq,
        seen.kind,
        seen.session,
        seen.time,
        seen.prev,
        data,
        binascii.a2b_base64(signature),
        body,
    )


@dataclass(frozen=True, slots=True)
class Ratchet:
    """Where one ratchet stands: how many keys it has used, and the public key that is next."""

    index: int
    key: bytes


@dataclass(slots=True)
class State:
    """What a writer or verifier knows between two records."""

    frontier: Frontier = field(default_factory=Frontier)
    ratchets: dict[str, Ratchet] = field(default_factory=dict)

    def to_data(self) -> dict[str, object]:
        """Return it as a record holds it."""
        return {
            "ratchets": {
                name: {"index": ratchet.index, "key": to_base64(ratchet.key)}
                for name, ratchet in self.ratchets.items()
            },
            "tree": [peak.hex() for peak in self.frontier.peaks],
        }


def parse_state(value: object, size: int) -> State:
    """Return the state that a record of seq *size* carries.

    Raises:
        RecordError: It's malformed.
    """
    match value:
        case {"ratchets": dict(ratchets), "tree": list(tree), **rest} if not rest:
            try:
                frontier = Frontier(size, [hash_bytes(peak) for peak in tree])
            except ValueError as error:
                raise RecordError(f"state: {error}") from error
            return State(frontier, {name: _parse_ratchet(one) for name, one in ratchets.items()})
        case _:
            raise RecordError("state is malformed")


def _parse_ratchet(value: object) -> Ratchet:
    match value:
        case {"index": int(index), "key": key, **rest} if not rest and type(index) is int:
            return Ratchet(index, base64_bytes(key, 32))
        case _:
            raise RecordError("ratchet is malformed")
