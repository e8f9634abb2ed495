"""The end of the log as a writer sees it: where it is, and what happened there since.

A writer doesn't read the log from the start: it goes back to the last record that carries a
state and follows from there. Whatever another process appended is followed too, before every
append, under the lock. Signatures aren't checked here: that is `verify`'s work.
"""

import os
from dataclasses import dataclass, field
from hashlib import sha256

from nono_mcp.audit import files
from nono_mcp.audit import record as rec
from nono_mcp.audit.chain import segment_name
from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.merkle import leaf_hash
from nono_mcp.audit.record import Ratchet, RecordError, State


class AuditWriteError(AuditError):
    """The record isn't in the log: what it was to announce mustn't be done."""


class AuditTamperedError(AuditWriteError):
    """The log isn't what it was; nothing is appended to it until a person has looked."""


@dataclass(slots=True)
class End:
    """The end of the log; *fd* is the last segment, positioned by its being opened to append."""

    dir_fd: int
    fd: int
    name: str
    """The last segment's."""
    offset: int
    state: State
    head: str
    closed: bool = False
    """The last record is a `segment.end`."""
    since_state: int = 0
    recent: dict[int, str] = field(default_factory=dict)
    """Leaf hashes of what was followed last, by seq."""
    torn: list[tuple[int, str]] = field(default_factory=list)
    """Size and hash of torn tails that were set aside and aren't recorded yet."""

    @property
    def size(self) -> int:
        """How many records the log has."""
        return self.state.frontier.size

    def catch_up(self) -> None:
        """Follow what was appended since; call it with the lock held.

        Raises:
            AuditTamperedError: The log shrank, vanished, or doesn't follow from what it was.
            OSError: It can't be read.
        """
        while True:
            found = os.fstat(self.fd)
            if not found.st_nlink:
                raise AuditTamperedError("the log's file was removed or replaced")
            if found.st_size < self.offset:
                raise AuditTamperedError("the log's file became shorter")
            if found.st_size > self.offset:
                self._follow(found.st_size)
            if not self.closed:
                return
            self._open_next()

    def _follow(self, end: int) -> None:
        for line in files.lines_forward(self.fd, self.offset, end):
            if not line.endswith(b"\n"):
                self._set_aside(line)
                return
            try:
                self.took(rec.glimpse(line), line)
            except RecordError as error:
                raise AuditTamperedError(f"record {self.size}: {error}") from error

    def took(self, seen: rec.Glimpse, line: bytes) -> None:
        """Count *line*, which stands in the log, as its last.

        Raises:
            RecordError: It doesn't follow.
        """
        if seen.seq != self.size or seen.prev != self.head or self.closed:
            raise RecordError("doesn't follow from the record before")
        leaf = leaf_hash(line)
        if seen.kind == rec.START:
            self._turn(line)
        self.since_state = 0 if seen.kind in rec.WITH_STATE else self.since_state + 1
        self.state.frontier.append(leaf)
        self.head = leaf.hex()
        self.recent[seen.seq] = self.head
        self.recent.pop(seen.seq - 2 * rec.STATE_EVERY, None)
        self.offset += len(line)
        self.closed = seen.kind == rec.SEGMENT_END

    def _turn(self, line: bytes) -> None:
        data = rec.parse(line).data
        name = str(data["ratchet"])
        following = rec.base64_bytes(data.get("next"), 32)
        index = self.state.ratchets[name].index + 1
        self.state.ratchets = {**self.state.ratchets, name: Ratchet(index, following)}

    def _set_aside(self, torn: bytes) -> None:
        # No receipt was given for it: the writer died in the middle of its write.
        digest = sha256(torn).hexdigest()
        torn_fd = files.open_directory(files.TORN, create=True, dir_fd=self.dir_fd)
        try:
            files.replace_file(torn_fd, digest, torn)
        finally:
            os.close(torn_fd)
        os.ftruncate(self.fd, self.offset)
        self.torn.append((len(torn), digest))

    def _open_next(self) -> None:
        name = segment_name(self.size)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        fd = files.open_file(self.dir_fd, name, flags)
        files.durable(self.dir_fd)
        os.close(self.fd)
        self.fd, self.name, self.offset, self.closed = fd, name, 0, False


def resume(dir_fd: int, names: list[str]) -> End:
    """Return the end of the log whose segments are *names*, after following it.

    Raises:
        AuditTamperedError: The log can't be followed to its end.
        OSError: It can't be read.
    """
    end = _last_state(dir_fd, names)
    try:
        end.catch_up()
        _require_last(end, names)
    except BaseException:
        os.close(end.fd)
        raise
    return end


def _require_last(end: End, names: list[str]) -> None:
    # It may be one more: the end of a segment was the last thing written, the next is ours.
    if end.name < names[-1]:
        raise AuditTamperedError(f"{end.name} isn't ended, yet {names[-1]} is there")


def _last_state(dir_fd: int, names: list[str]) -> End:
    """Return the log as it was at the last state: of the last segment, or of one before."""
    for name in reversed(names):
        fd = files.open_file(dir_fd, name, os.O_RDWR | os.O_APPEND)
        try:
            if name != names[-1]:
                _require_whole(fd, name)
            end = _from_last_state(dir_fd, fd, name)
            if end is None and files.first_seq(name) == 0:
                end = _from_the_start(dir_fd, fd, name)
        except RecordError as error:
            os.close(fd)
            raise AuditTamperedError(f"{name}: {error}") from error
        except BaseException:
            os.close(fd)
            raise
        if end is not None:
            return end
        os.close(fd)
    raise AuditTamperedError("the log holds no state to go on from")


def _require_whole(fd: int, name: str) -> None:
    # Only the last segment can be torn; another that is isn't to be "recovered".
    if os.pread(fd, 1, max(0, os.fstat(fd).st_size - 1)) != b"\n":
        raise AuditTamperedError(f"{name}: torn, and not the last segment")


def _from_last_state(dir_fd: int, fd: int, name: str) -> End | None:
    for offset, line in files.lines_backward(fd, os.fstat(fd).st_size):
        # A torn tail isn't a record, and what another kind says isn't a state.
        if not line.endswith(b"\n") or rec.glimpse(line).kind not in rec.WITH_STATE:
            continue
        record = rec.parse(line)
        state = rec.parse_state(record.data.get("state"), record.seq)
        return End(dir_fd, fd, name, offset, state, record.prev)
    return None


def _from_the_start(dir_fd: int, fd: int, name: str) -> End | None:
    first = next(files.lines_forward(fd, 0, os.fstat(fd).st_size), b"")
    if not first.endswith(b"\n"):
        return None
    return End(dir_fd, fd, name, 0, genesis_state(rec.parse(first)), rec.GENESIS_PREV)


def genesis_state(record: rec.Record) -> State:
    """Return the state in which `log.create` leaves the ratchets, before any record.

    Raises:
        RecordError: It's no such record.
    """
    match record.data:
        case {"ratchets": dict(ratchets)} if record.kind == rec.CREATE:
            keys = {name: Ratchet(0, rec.base64_bytes(key, 32)) for name, key in ratchets.items()}
            return State(ratchets=keys)
        case _:
            raise RecordError("a log begins with log.create")
