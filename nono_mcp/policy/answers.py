"""What `os` answers while a `witness` looks on: it tells who asks for more than is noted.

Architecture invariant: every attribute and result is the system's.
"""

from __future__ import annotations

import os
import stat

# Loaded since Python started: it costs nothing.
from _collections_abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

    from nono_mcp.policy.witness import Witness

_NOTED = ("st_mode", "st_ino", "st_dev", "st_uid", "st_gid")


class Status:
    """A status: who asks for more of it than is noted can't be kept."""

    def __init__(self, status: os.stat_result, witness: Witness) -> None:
        self._status = status
        self._witness = witness

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as a status has it
        links = name == "st_nlink" and not stat.S_ISDIR(self._status.st_mode)
        if name not in _NOTED and not links:
            self._witness.give_up()
        return getattr(self._status, name)


class Variables(Mapping[str, str]):
    """The environment; which of it was asked for is noted."""

    def __init__(self, real: Mapping[str, str], witness: Witness) -> None:
        self._real = real
        self._witness = witness

    def __getitem__(self, name: str) -> str:
        self._witness.note("variable", name, self._real.get(name))
        return self._real[name]

    def __iter__(self) -> Iterator[str]:
        self._witness.give_up()
        return iter(self._real)

    def __len__(self) -> int:
        self._witness.give_up()
        return len(self._real)


class Entries:
    """The entries of a directory, in and out of `with`."""

    def __init__(self, found: list[os.DirEntry[str]], witness: Witness) -> None:
        self._left = iter([Entry(one, witness) for one in found])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Entry]:
        return self._left

    def close(self) -> None:
        """Do nothing: all of it was read."""


class Entry:
    """One of them: of it is known which kind it is, and what it is asked for."""

    def __init__(self, entry: os.DirEntry[str], witness: Witness) -> None:
        self._entry = entry
        self._witness = witness
        self.name = entry.name
        self.path = entry.path

    def __fspath__(self) -> str:
        return self.path

    def inode(self) -> int:
        """Return the number of its inode."""
        return self._entry.inode()

    def is_symlink(self) -> bool:
        """Tell whether it's a symlink."""
        return self._entry.is_symlink()

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it's a directory, or leads to one."""
        if follow_symlinks and self._entry.is_symlink():
            self._witness.give_up()
        return self._entry.is_dir(follow_symlinks=follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it's a file, or leads to one."""
        if follow_symlinks and self._entry.is_symlink():
            self._witness.give_up()
        return self._entry.is_file(follow_symlinks=follow_symlinks)

    def stat(self, *, follow_symlinks: bool = True) -> Any:  # noqa: ANN401 - as os.DirEntry
        """Return its status."""
        return os.stat(self.path, follow_symlinks=follow_symlinks)
