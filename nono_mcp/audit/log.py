"""The log as its writers have it: opened once, shared by sessions (FORMAT.md sections 3 to 6).

    with AuditLog.open(state_dir, keychain) as log, log.session({"pid": os.getpid()}) as session:
        session.append("call.start", {...})   # before the act; if it raises, don't act

**Architecture invariant:** a record is in the log when `append` returns, and nothing is ever
dropped, rewritten or thinned here.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from nono_mcp.audit import canonical, files, ratchet
from nono_mcp.audit import record as rec
from nono_mcp.audit.chain import segment_name
from nono_mcp.audit.create import (
    DIRECTORY,
    begin_log,
    check_heads,
    first_line,
    identity,
    refuse_new,
    stamp,
)
from nono_mcp.audit.end import AuditWriteError, End, resume
from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.heads import Head, HeadKeeper
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.keystore import FILE, KEYRING, FileKeystore, Keystore, KeystoreError
from nono_mcp.audit.merkle import Frontier
from nono_mcp.audit.redact import Redactor
from nono_mcp.audit.session import Receipt, Session
from nono_mcp.audit.syncing import GroupSync
from nono_sandbox import private

SEGMENT_BYTES_MAX: Final = 8 * 1024 * 1024

Clock = Callable[[], int]


class AuditLog:
    """The log in one state directory, open for appending; any number of processes may."""

    def __init__(
        self, directory: str, fds: tuple[int, int], stores: Sequence[Keystore], end: End
    ) -> None:
        """Use `AuditLog.open`."""
        dir_fd, keys_fd = fds
        self.directory = directory
        self.log_id, self.root = identity(dir_fd)
        self.segment_bytes_max = SEGMENT_BYTES_MAX
        self.clock: Clock = time.time_ns
        self.dir_fd = dir_fd
        self._keys_fd = keys_fd
        self._end = end
        self.stores = {store.name: store for store in stores}
        self._mutex = threading.RLock()
        self._pid = os.getpid()
        self._open = True
        self._second = (-1, "")
        self._sync = GroupSync(self._duplicate)
        self.observers: list[Callable[[rec.Record], None]] = []
        """Told of every record that a session of this process wrote, once it's in the log."""
        self.heads = HeadKeeper(keys_fd, stores, self._latest)

    @classmethod
    def open(cls, state_dir: str, keychain: Keystore | None, *, create: bool = True) -> Self:
        """Open the log in *state_dir*, or begin one unless *create* is false.

        *keychain* is `keystore.find_keychain(...)`; None if this machine has none, or if this
        opening is to do without it, which the records will say.

        Raises:
            AuditTamperedError: The log is shorter than what is remembered of it, differs, or is
                gone. `create.restart` sets it aside and begins another that says so.
            AuditPathError: The directory isn't safely ours.
            FileNotFoundError: There's no log, and *create* is false.
            OSError: The log can't be read or written.
        """
        if create:
            private.ensure_directories(state_dir)
        os.close(files.open_directory(state_dir, create=False))
        with contextlib.ExitStack() as undo:
            directory = str(Path(state_dir) / DIRECTORY)
            dir_fd = files.open_directory(directory, create=create)
            undo.callback(os.close, dir_fd)
            keys_fd = files.open_directory(files.KEYS, create=True, dir_fd=dir_fd)
            undo.callback(os.close, keys_fd)
            stores: list[Keystore] = [FileKeystore(keys_fd)]
            if keychain is not None:
                stores.append(keychain)
            with files.locked(dir_fd):
                if not first_line(dir_fd):
                    if not create:
                        refuse_new(stores)
                    begin_log(dir_fd, stores, stamp(time.time_ns()))
                end = resume(dir_fd, files.segments(dir_fd))
                undo.callback(lambda: os.close(end.fd))
                check_heads(dir_fd, end, stores)
            log = cls(directory, (dir_fd, keys_fd), stores, end)
            undo.pop_all()
        return log

    def session(self, info: Mapping[str, object], secrets_known: Iterable[str] = ()) -> Session:
        """Begin a session; *info* says whose (FORMAT.md section 4, `session.start`).

        Raises:
            AuditWriteError: No key of the log can be used, or the log can't be written.
        """
        name, salt = os.urandom(8).hex(), os.urandom(32)
        redactor = Redactor(salt)
        redactor.hide(secrets_known)
        session = Session(name, SigningKey(), redactor, self._write)
        info_data = redactor.clean(dict(info))
        # A keychain may ask the person for a password: before the lock, which others wait for.
        lane, fallback = self._choose()
        with self.writing():
            salts_fd = files.open_directory(files.SALTS, create=True, dir_fd=self.dir_fd)
            try:
                files.replace_file(salts_fd, name, salt)
            finally:
                os.close(salts_fd)
            turn = ratchet.begin(lane, self.log_id, self._end.state.ratchets[lane.name].key)
            data = {
                "index": self._end.state.ratchets[lane.name].index,
                "info": info_data,
                "key": rec.to_base64(session.key.public),
                "next": rec.to_base64(turn.following.public),
                "ratchet": lane.name,
                "state": self._end.state.to_data(),
            }
            if fallback:
                data["fallback"] = fallback
            self._put(name, turn.current, rec.START, canonical.encode(data))
            # On disk before the used key is erased: the log must never ask for a key that's gone.
            files.durable(self._end.fd)
            ratchet.finish(lane, self.log_id, turn)
            self._record_torn(session)
        self._sessions_begun()
        return session

    def _choose(self) -> tuple[Keystore, str | None]:
        """Return the keystore whose ratchet introduces the next session, and why not the best."""
        with self.writing():
            wanted = self._end.state.ratchets
        file_store = self.stores[FILE]
        if KEYRING not in wanted:
            return file_store, None
        keychain = self.stores.get(KEYRING)
        if keychain is None:
            return file_store, "no keychain"
        try:
            ratchet.require(keychain, self.log_id, wanted[KEYRING].key)
        except KeystoreError as error:
            return file_store, str(error)
        return keychain, None

    def _sessions_begun(self) -> None:
        # A head as soon as there is something that must not be lost.
        self.heads.push()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock, with the end of the log followed; for what takes more than an append.

        Raises:
            AuditWriteError: The log can't be written, whatever the reason.
        """
        try:
            with self._mutex:
                self._require_open()
                with files.locked(self.dir_fd):
                    self._end.catch_up()
                    yield
        except AuditWriteError:
            raise
        except (OSError, AuditError) as error:
            raise AuditWriteError(f"the log can't be written: {error}") from error

    def _require_open(self) -> None:
        if not self._open or os.getpid() != self._pid:
            # Two processes with one session's key would sign two histories.
            raise AuditWriteError("the log isn't open in this process")

    def _write(self, session: Session, kind: str, data: bytes, sync: bool) -> Receipt:  # noqa: FBT001 - a callback's
        with self.writing():
            if self._end.torn:
                self._record_torn(session)
            if self._end.since_state >= rec.STATE_EVERY - 2:
                self._put_state(session, rec.CHECKPOINT)
            if self._end.offset and self._end.offset + len(data) > self.segment_bytes_max:
                self._rotate(session)
            receipt = self._put(session.name, session.key, kind, data)
        self.heads.touch()
        if sync:
            self._sync.wait_for(receipt.seq)
        return receipt

    def _put(self, session: str, key: SigningKey, kind: str, data: bytes) -> Receipt:
        end = self._end
        place = rec.Place(end.size, end.head, session, self._now())
        body = rec.build_body(kind, data, place)
        signature = key.sign(rec.SIGNED_PREFIX + body)
        line = rec.build_line(body, signature)
        offset = end.offset
        try:
            written = os.write(end.fd, line)
            if written < len(line):
                files.write_whole(end.fd, line[written:])
        except OSError:
            # Disk full: what was written of the line is no record and must not stay.
            os.ftruncate(end.fd, offset)
            raise
        end.took(rec.Glimpse(kind, place.prev, place.seq, session, place.time), line)
        if self.observers:
            record = rec.parse(line)
            for observe in self.observers:
                observe(record)
        return Receipt(place.seq, end.head)

    def put(self, session: Session, kind: str, data: bytes) -> Receipt:
        """Write a record of the log's own, inside `writing`."""
        return self._put(session.name, session.key, kind, data)

    def make_durable(self) -> None:
        """Wait until what was written is on disk, inside `writing`."""
        files.durable(self._end.fd)

    def frontier(self) -> Frontier:
        """Return the tree as it is, inside `writing`."""
        return self._end.state.frontier.copy()

    def ratchet_names(self) -> frozenset[str]:
        """Return which ratchets the log has."""
        return frozenset(self._end.state.ratchets)

    def _now(self) -> str:
        seconds, ns = divmod(self.clock(), 1_000_000_000)
        if seconds != self._second[0]:
            self._second = (seconds, stamp(seconds * 1_000_000_000)[:20])
        return f"{self._second[1]}{ns // 1000:06d}Z"

    def _put_state(self, session: Session, kind: str, **members: object) -> None:
        data = canonical.encode({**members, "state": self._end.state.to_data()})
        self._put(session.name, session.key, kind, data)

    def _rotate(self, session: Session) -> None:
        following = segment_name(self._end.size + 1)
        self._put_state(session, rec.SEGMENT_END, next=following)
        files.durable(self._end.fd)
        self._end.catch_up()

    def _record_torn(self, session: Session) -> None:
        while self._end.torn:
            size_bytes, digest = self._end.torn[0]
            data = canonical.encode({"bytes": size_bytes, "sha256": digest})
            self._put(session.name, session.key, rec.RECOVERY, data)
            del self._end.torn[0]

    def _duplicate(self) -> int:
        # Another thread may be closing the segment that was the last.
        with self._mutex:
            return os.dup(self._end.fd)

    def _latest(self) -> tuple[Head, int]:
        with self.writing():
            head = Head(self.log_id, self.root, self._end.size, self._end.head)
            return head, os.dup(self._end.fd)

    def close(self) -> None:
        """Tell the keystores the head and let go; sessions should be closed before.

        Raises:
            AuditWriteError: The last head couldn't be told to the file keystore.
        """
        if self._open:
            try:
                self.heads.stop()
            finally:
                self._open = False
                for fd in (self._end.fd, self._keys_fd, self.dir_fd):
                    os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
