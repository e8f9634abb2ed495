"""An open store: its directory, its index and its objects."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Self

from nono_mcp.snapshots import database, place
from nono_mcp.snapshots.errors import StoreError
from nono_mcp.snapshots.objects import Objects
from nono_mcp.snapshots.packs import Packs

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK: Final = "lock"
"""Shared by whoever uses objects, held alone by whoever collects them."""


class Store:
    """A store; any number of processes may have it open."""

    def __init__(self, state_dir: str) -> None:
        self.fd = place.open_store(state_dir)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, self.fd)
            self.db = database.connect(state_dir)
            stack.callback(self.db.close)
            self._index_ino = os.stat(database.NAME, dir_fd=self.fd).st_ino
            self.packs = Packs(self.fd, self.db)
            stack.callback(self.packs.close)
            self.objects = Objects(self.packs, self.db)
            stack.callback(self.objects.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Let go of everything."""
        self._stack.close()

    def is_there(self) -> bool:
        """Tell whether nobody has removed its index or put another in its place."""
        try:
            return os.stat(database.NAME, dir_fd=self.fd).st_ino == self._index_ino
        except FileNotFoundError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Keep others from collecting objects.

        Raises:
            BusyError: Somebody collects for too long.
            StoreError: It was removed.
        """
        if not self.is_there():
            raise StoreError(
                "the snapshots were removed, or others put in their place: what uses them has to "
                "be started again"
            )
        with place.locked(self.fd, LOCK, "the store", shared=True):
            self.objects.forget()
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from using objects.

        Raises:
            BusyError: Somebody uses them for too long.
        """
        with place.locked(self.fd, LOCK, "the store"):
            self.objects.forget()
            yield
