"""The head: how long the log is, remembered outside it (FORMAT.md section 6)."""

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from nono_mcp.audit import files
from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.keystore import Keystore, KeystoreError

ENTRY: Final = "head"
HEAD_LAG_S: Final = 1.0
"""How far what the keychain remembers may be behind while sessions run."""


@dataclass(frozen=True, slots=True)
class Head:
    """The log *log* with the root fingerprint *root* had *size* records, the last with *hash*."""

    log: str
    root: str
    size: int
    hash: str


def read_head(store: Keystore) -> Head | None:
    """Return what *store* remembers, or None if it never knew a log.

    Raises:
        KeystoreError: It can't be asked, or what it says makes no sense.
    """
    text = store.get(ENTRY)
    if text is None:
        return None
    try:
        match json.loads(text):
            case {"log": str(log), "root": str(root), "size": int(size), "hash": str(last)}:
                return Head(log, root, size, last)
            case _:
                raise KeystoreError(f"{store.name}: its head makes no sense")
    except json.JSONDecodeError as error:
        raise KeystoreError(f"{store.name}: its head makes no sense") from error


def write_head(store: Keystore, head: Head) -> None:
    """Have *store* remember *head*.

    Raises:
        KeystoreError: It can't be told.
    """
    store.put(ENTRY, json.dumps(asdict(head)))


class HeadKeeper:
    """Tells the keystores the head, at most `HEAD_LAG_S` late, in a thread of its own.

    *latest* returns the head and a descriptor (ours to close) of the segment it's in: what the
    head covers is on disk before it is remembered, so a loss of power can't make a log look cut.
    """

    def __init__(
        self, keys_fd: int, stores: Sequence[Keystore], latest: Callable[[], tuple[Head, int]]
    ) -> None:
        self._keys_fd = keys_fd
        self._stores = stores
        self._latest = latest
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: str | None = None
        """Why the last attempt to tell a keystore didn't work."""

    def touch(self) -> None:
        """Say that there is something new."""
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nono-head", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            if self._stop.wait(HEAD_LAG_S):
                return
            self._wake.clear()
            try:
                self.push()
            except (OSError, AuditError) as error:
                self.failure = str(error)

    def push(self) -> None:
        """Tell every keystore the head, now.

        Raises:
            AuditError: The log or the file keystore can't be used. A keychain that can't is
                only noted in `failure`: it's told again with the next head.
        """
        with files.locked(self._keys_fd):
            # Read inside this lock: what another process told before us was no later than this.
            head, fd = self._latest()
            try:
                files.durable(fd)
            finally:
                os.close(fd)
            self.failure = None
            for store in self._stores:
                try:
                    known = read_head(store)
                    if known is not None and known.log != head.log:
                        # `restart` put another log in this one's place while we held it open.
                        self.failure = f"{store.label} remembers another log"
                        continue
                    write_head(store, head)
                except KeystoreError as error:
                    self.failure = str(error)

    def stop(self) -> None:
        """End the thread and tell the last head."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.push()
