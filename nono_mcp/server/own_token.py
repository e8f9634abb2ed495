"""A token that outlives the server, in a file that the person names.

Who has it has all that the server gives, so a file that others can read, write or have by another
name isn't gone by: what is in it may be known, or somebody else's choice.

Architecture invariant: a file that is there is never changed, nor one that isn't made in part.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from typing import Final

from nono_mcp.policy.errors import quoted
from nono_mcp.server.errors import ServeError
from nono_sandbox import private, renaming

BYTES: Final = 32
CHARACTERS_MIN: Final = 32
CHARACTERS_MAX: Final = 1024
_TOKEN = re.compile(
    rb"[A-Za-z0-9._~+/=-]{%d,%d}\n?" % (CHARACTERS_MIN, CHARACTERS_MAX)  # RFC 6750 section 2.1
)
_LOOK_IN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS: Final = 0o077


def new() -> str:
    """Return a token that nobody has."""
    return secrets.token_urlsafe(BYTES)


def read_or_make(path: str) -> str:
    """Return the token in the file *path*, which is made with a new one if it isn't there.

    Raises:
        ServeError: It can't be made, holds none, or isn't the person's alone.
    """
    try:
        make(path)
        fd = os.open(path, _LOOK_IN)
    except OSError as error:
        raise ServeError(f"the token's file {quoted(path)}: {error.strerror}") from error
    try:
        _check(path, os.fstat(fd))
        data = os.read(fd, CHARACTERS_MAX + 2)
    finally:
        os.close(fd)
    if not _TOKEN.fullmatch(data):
        raise ServeError(
            f"{quoted(path)} holds no token: one line of {CHARACTERS_MIN} to {CHARACTERS_MAX} "
            "letters, digits and ._~+/=-; remove it, and one is made"
        )
    return data.decode("ascii").rstrip("\n")


def make(path: str) -> bool:
    """Make the file *path* with a new token, unless it's there; tell whether it was made.

    Raises:
        OSError: It can't be.
    """
    with suppress(FileExistsError):
        if not os.path.lexists(path):
            _make(path)
            return True
    return False


def _check(path: str, status: os.stat_result) -> None:
    """Refuse a file that isn't this user's alone.

    Raises:
        ServeError: It's another's, others may read or write it, or it has another name.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ServeError(f"the token's file {quoted(path)} is no regular file")
    if status.st_uid != os.geteuid():
        raise ServeError(f"the token's file {quoted(path)} belongs to somebody else")
    if status.st_mode & _OTHERS:
        raise ServeError(
            f"others may read or write the token's file {quoted(path)}: remove it, and a new "
            "token is made; or chmod go= it, if nobody did"
        )
    if status.st_nlink != 1:
        raise ServeError(f"the token's file {quoted(path)} has another name too (a hard link)")


def _make(path: str) -> None:
    """Make the file with a new token, whole.

    Raises:
        OSError: It can't be; FileExistsError: another server has just made it.
    """
    above, name = os.path.split(path)
    directory = os.open(above or "/", _DIRECTORY)
    fresh = f".{name}.{secrets.token_hex(BYTES // 4)}"
    try:
        fd = private.open_file(fresh, private.NEW, directory)
        try:
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(new() + "\n")
            renaming.appear(directory, fresh, name)
        except BaseException:
            os.unlink(fresh, dir_fd=directory)
            raise
    finally:
        os.close(directory)
