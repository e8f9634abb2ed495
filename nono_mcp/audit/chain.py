"""The rules of a log, replayed line by line (FORMAT.md sections 2, 3 and 7).

A `Replay` is fed the lines of a log in order and raises at the first that doesn't follow. It
decides nothing about missing ends: that needs something to compare with, and is `verify`'s.

Architecture invariant: this module does no I/O and reads no clock; signatures are checked by a
function it's given.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nono_mcp.audit import record as rec
from nono_mcp.audit.merkle import leaf_hash
from nono_mcp.audit.record import Ratchet, Record, RecordError, State

_log_id = re.compile(r"[0-9a-f]{32}")

KEYRING: Final = "keyring"
RATCHETS: Final = frozenset({KEYRING, "file"})


class BrokenRecordError(Exception):
    """A record isn't what the log's own rules ask for at its place."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"record {seq}: {reason}")
        self.seq = seq
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a pruned log goes on, as its prune record says."""

    seq: int
    hash: str
    state: State
    sessions: frozenset[str]
    prune_seq: int
    prune_line: bytes


@dataclass(slots=True)
class Session:
    """A session that the log introduced."""

    key: bytes
    ratchet: str
    fallback: str | None
    live: bool = True


@dataclass(slots=True)
class Replay:
    """Follows a log; `check(public key, signature, message)` or None to leave signatures out."""

    check: Callable[[bytes, bytes, bytes], bool] | None
    state: State = field(default_factory=State)
    head: str = rec.GENESIS_PREV
    root: str = ""
    log_id: str = ""
    note_key: bytes | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    ended_by: str | None = None
    """The segment that must follow: the last record was a `segment.end`."""
    boundary: Boundary | None = None
    last_time: str = ""
    clock_set_back: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many records the log has so far, pruned ones included."""
        return self.state.frontier.size

    def feed(self, line: bytes) -> Record:
        """Take the next line of the log.

        Raises:
            BrokenRecordError: It doesn't follow; nothing changed.
        """
        try:
            record = rec.parse(line)
            return self._follow(record, line)
        except RecordError as error:
            raise BrokenRecordError(self.size, str(error)) from error

    def open_segment(self, name: str) -> bool:
        """Go on in the segment *name*; return False if that isn't the one that must follow."""
        if name != segment_name(self.size):
            return False
        self.ended_by = None
        return True

    def _follow(self, record: Record, line: bytes) -> Record:
        if self.ended_by is not None:
            raise RecordError("stands after its segment's end")
        if record.seq != self.size:
            raise RecordError(f"its seq is {record.seq}")
        if record.prev != self.head:
            raise RecordError("doesn't follow from the record before")
        pruned = self.boundary
        if pruned and record.seq == pruned.prune_seq and line != pruned.prune_line:
            raise RecordError("isn't the prune record that pruned.jsonl holds")
        effect = self._judge(record)
        leaf = leaf_hash(line)
        if effect is not None:
            effect()
        if record.kind == rec.CREATE:
            self.root = leaf.hex()
        self.ended_by = str(record.data["next"]) if record.kind == rec.SEGMENT_END else None
        self.state.frontier.append(leaf)
        self.head = leaf.hex()
        if record.time < self.last_time:
            self.clock_set_back.append(record.seq)
        self.last_time = record.time
        return record

    def _judge(self, record: Record) -> Callable[[], None] | None:
        """Check a record against the state; return what it changes."""
        if record.seq == 0 or record.kind == rec.CREATE:
            return self._judge_create(record)
        if record.kind in rec.WITH_STATE:
            told = rec.parse_state(record.data.get("state"), self.size)
            if told.ratchets != self.state.ratchets:
                raise RecordError("its state has other ratchets")
            if told.frontier.peaks != self.state.frontier.peaks:
                raise RecordError("its state has another tree")
        if record.kind == rec.START:
            return self._judge_start(record)
        session = self.sessions.get(record.session)
        if session is None or not session.live:
            raise RecordError("its session isn't open")
        self._require_signature(session.key, record)
        if record.kind == rec.SEGMENT_END and record.data.get("next") != segment_name(
            self.size + 1
        ):
            raise RecordError("names a wrong next segment")
        if record.kind == rec.END:
            return lambda: setattr(session, "live", False)
        return None

    def _require_signature(self, key: bytes, record: Record) -> None:
        if self.check is not None and not self.check(key, record.signature, record.signed):
            raise RecordError("its signature isn't by the key that its place asks for")

    def _judge_create(self, record: Record) -> Callable[[], None]:
        if record.seq != 0 or record.kind != rec.CREATE or record.session != rec.GENESIS_SESSION:
            raise RecordError("a log begins with log.create, and once")
        data = record.data
        log_id, ratchets, note = data.get("log"), data.get("ratchets"), data.get("note")
        if data.get("format") != rec.FORMAT or not isinstance(log_id, str):
            raise RecordError("not a log of this format")
        if not _log_id.fullmatch(log_id):
            raise RecordError("its identifier is malformed")
        if not isinstance(ratchets, dict) or not ratchets or not ratchets.keys() <= RATCHETS:
            raise RecordError("its ratchets are malformed")
        keys = {name: Ratchet(0, rec.base64_bytes(key, 32)) for name, key in ratchets.items()}
        note_key = None if note is None else rec.base64_bytes(note, 32)
        self._require_signature(rec.base64_bytes(data.get("key"), 32), record)

        def effect() -> None:
            self.log_id, self.note_key = log_id, note_key
            self.state.ratchets = keys

        return effect

    def _judge_start(self, record: Record) -> Callable[[], None]:
        data, name = record.data, record.data.get("ratchet")
        ratchet = self.state.ratchets.get(name) if isinstance(name, str) else None
        if ratchet is None or not isinstance(name, str):
            raise RecordError("its ratchet isn't one of this log")
        if type(data.get("index")) is not int or data["index"] != ratchet.index:
            raise RecordError("its index isn't its ratchet's")
        if record.session in self.sessions or record.session == rec.GENESIS_SESSION:
            raise RecordError("its session was used before")
        after = Ratchet(ratchet.index + 1, rec.base64_bytes(data.get("next"), 32))
        fallback = data.get("fallback")
        if not isinstance(fallback, str):
            fallback = None
        if name != KEYRING and KEYRING in self.state.ratchets and not fallback:
            # Whoever has the files alone could otherwise write on as if the keychain had agreed.
            raise RecordError("doesn't say why the keychain wasn't used")
        session = Session(rec.base64_bytes(data.get("key"), 32), name, fallback)
        self._require_signature(ratchet.key, record)

        def effect() -> None:
            self.state.ratchets = {**self.state.ratchets, name: after}
            self.sessions[record.session] = session

        return effect

    def feed_pruned(self, lines: list[bytes]) -> None:
        """Take the lines of `pruned.jsonl` instead of the records that were pruned.

        Raises:
            BrokenRecordError: They don't lead to the boundary.
        """
        try:
            boundary = self._follow_pruned(lines)
        except RecordError as error:
            raise BrokenRecordError(self.size, f"pruned.jsonl: {error}") from error
        for name, session in self.sessions.items():
            session.live = name in boundary.sessions
        self.boundary = boundary
        self.state.frontier = boundary.state.frontier.copy()
        self.head = boundary.hash

    def _follow_pruned(self, lines: list[bytes]) -> Boundary:
        records = [rec.parse(line) for line in lines]
        if len(records) <= 1 or records[-1].kind != rec.PRUNE:
            raise RecordError("doesn't end with a prune record")
        self._judge_create(records[0])()
        self.root = leaf_hash(lines[0]).hex()
        seq = 0
        for record in records[1:-1]:
            if record.kind != rec.START or record.seq <= seq:
                raise RecordError("holds what it shouldn't")
            self._judge_start(record)()
            seq = record.seq
        boundary = parse_boundary(records[-1], lines[-1])
        if seq >= boundary.seq or boundary.state.ratchets != self.state.ratchets:
            raise RecordError("doesn't lead to its boundary")
        return boundary


def parse_boundary(record: Record, line: bytes) -> Boundary:
    """Return what a prune record says.

    Raises:
        RecordError: It's malformed.
    """
    match record.data:
        case {
            "boundary": {"hash": str(prev), "seq": int(seq), "state": state},
            "sessions": list(ids),
        }:
            rec.hash_bytes(prev)
            told = rec.parse_state(state, seq)
            return Boundary(seq, prev, told, frozenset(map(str, ids)), record.seq, line)
        case _:
            raise RecordError("prune record is malformed")


def segment_name(seq: int) -> str:
    """Return the name of the segment that begins with record *seq*."""
    return f"{seq:016d}.jsonl"
