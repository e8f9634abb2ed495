"""What was planned for a host's configuration, done: all of it, or nothing.

Architecture invariant: each file takes its place in one step, whole, with the mode and owner of the
one before; if the last step isn't taken, those before it are undone.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from nono_mcp.install.edit import read
from nono_mcp.install.errors import InstallError
from nono_sandbox import private

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.install.edit import Plan

_MODE = 0o644
_DIRECTORY = 0o777


def write(planned: Plan) -> None:
    """Do what was planned.

    Raises:
        InstallError: It can't be written, or was changed meanwhile; all is as it was.
    """
    path, backup = planned.path, planned.backup
    aside = _beside(backup, "old")
    with ExitStack() as undo, ExitStack() as left_over:
        try:
            _make_directories(path.parent, undo)
            if read(path) != planned.before or read(backup) != planned.kept_before:
                raise InstallError("it was changed meanwhile: try again")
            new = _staged(path, planned.after, path, left_over)
            if planned.kept_after != planned.kept_before:
                kept = _staged(backup, planned.kept_after, path, left_over)
                if planned.kept_before is not None:
                    backup.replace(aside)
                    undo.callback(aside.replace, backup)
                if kept is not None:
                    undo.callback(backup.unlink, missing_ok=True)
                    kept.replace(backup)
            if new is None:
                path.unlink()
            else:
                new.replace(path)
        except OSError as error:
            raise InstallError(f"it can't be written: {error}") from error
        undo.pop_all()
    aside.unlink(missing_ok=True)


def _make_directories(path: Path, undo: ExitStack) -> None:
    """Make the directory *path* and those above it, where they lack."""
    missing = [one for one in (path, *path.parents) if not os.path.lexists(one)]
    for one in reversed(missing):
        undo.callback(_remove_directory, one)
    private.ensure_directories(str(path), _DIRECTORY)


def _remove_directory(path: Path) -> None:
    with suppress(OSError):  # somebody uses it
        path.rmdir()


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{what}")


def _staged(path: Path, text: str | None, like: Path, left_over: ExitStack) -> Path | None:
    """Return a file with *text* beside *path*, with the mode and owner of *like*, if it's there."""
    if text is None:
        return None
    staged = _beside(path, "new")
    fd = private.open_file(str(staged), private.NEW, mode=_MODE)
    left_over.callback(staged.unlink, missing_ok=True)
    with os.fdopen(fd, "wb") as stream:
        stream.write(text.encode())
        stream.flush()
        # Where space is given late it's told of now.
        os.fsync(fd)
        with suppress(FileNotFoundError):
            status = like.stat()
            if (status.st_uid, status.st_gid) != (os.fstat(fd).st_uid, os.fstat(fd).st_gid):
                os.fchown(fd, status.st_uid, status.st_gid)
            os.fchmod(fd, status.st_mode & 0o777)
    return staged
