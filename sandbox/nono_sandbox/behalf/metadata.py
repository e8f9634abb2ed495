"""Changing modes, owners and times on behalf of workers (second tier).

Landlock has no right for them, and root without a capability still owns the machine's files. So
each such call waits, and this side opens what it is about, asks the kernel where that lies, and
changes that very object, with no more than the worker's own rights.

Architecture invariant: what was opened is what is judged and what is changed. A name is looked up
once, by way of no link of /proc's to an open file but the caller's own, which is taken instead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from nono_sandbox import _uapi
from nono_sandbox.behalf import _syscalls, notifications
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.behalf._syscalls import Unprivileged
    from nono_sandbox.behalf.notifications import Caller, Notice
    from nono_sandbox.behalf.writable import Writable

REFUSED = errno.EROFS
"""What mounts answer in the first tier."""

_SYMLINK_NOFOLLOW = 0x100
_FLAGS = _SYMLINK_NOFOLLOW | _uapi.AT_EMPTY_PATH
_OWN_DESCRIPTORS = (b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/")
_UINT = 0xFFFF_FFFF
_UTIMBUF, _TIMEVALS, _TIMESPECS = (struct.Struct(layout) for layout in ("=2q", "=4q", "=4q"))
_USEC_PER_S = 1_000_000


class _Form(Value):
    """Where a call has what: indices of its arguments."""

    act: str
    first: int
    """Of the mode, the owner or the times."""
    path: int | None = None
    """None: the call is about a descriptor, at `directory`."""
    directory: int | None = None
    """None: the current one."""
    flags: int | None = None
    follows: bool = True
    takes_null: bool = False
    """Without a path it is about the descriptor at `directory`."""


_FORMS = {
    "chmod": _Form("mode", 1, path=0),
    "fchmod": _Form("mode", 1, directory=0),
    "fchmodat": _Form("mode", 2, path=1, directory=0),
    "chown": _Form("owner", 1, path=0),
    "lchown": _Form("owner", 1, path=0, follows=False),
    "fchown": _Form("owner", 1, directory=0),
    "fchownat": _Form("owner", 2, path=1, directory=0, flags=4),
    "utime": _Form("seconds", 1, path=0),
    "utimes": _Form("microseconds", 1, path=0),
    "futimesat": _Form("microseconds", 2, path=1, directory=0, takes_null=True),
    "utimensat": _Form("nanoseconds", 2, path=1, directory=0, flags=3, takes_null=True),
}
CALLS = frozenset(_FORMS)


class Changer:
    """Whoever changes metadata in the stead of workers whose user and groups are its own."""

    def __init__(self, unprivileged: Unprivileged) -> None:
        self._unprivileged = unprivileged

    def change(self, call: str, notice: Notice, caller: Caller, writable: Writable) -> int:
        """Do what *call* asks for, if what it is about lies in what is *writable*; return 0.

        Raises:
            OSError: What the call is to return. Nothing was changed.
        """
        form = _FORMS[call]
        subject = self._opened(form, notice.args, caller)
        value = _value(form, notice.args, caller)
        # All that was copied and taken was the caller's, if it still waits.
        if not notifications.valid(notice):
            return 0
        if not writable.holds(subject):
            return REFUSED
        with self._unprivileged:
            _ACTS[form.act](subject, *value)
        return 0

    def _opened(self, form: _Form, args: tuple[int, ...], caller: Caller) -> int:
        """Return a descriptor of what the call is about."""
        directory = (
            _uapi.AT_FDCWD if form.directory is None else notifications.as_int(args[form.directory])
        )
        flags = 0 if form.flags is None else notifications.as_int(args[form.flags])
        if flags & ~_FLAGS:
            raise _error(errno.EINVAL)
        if form.path is None:
            return _own(directory, caller)
        address = args[form.path]
        if form.takes_null and not address and directory != _uapi.AT_FDCWD:
            if flags:
                raise _error(errno.EINVAL)
            return _own(directory, caller)
        path = caller.read_path(address)
        if not path and not flags & _uapi.AT_EMPTY_PATH:
            raise _error(errno.ENOENT)
        follows = form.follows and not flags & _SYMLINK_NOFOLLOW
        named = _descriptor_in(path) if follows else None
        if named is not None:
            return _named(named, caller)
        if directory == _uapi.AT_FDCWD or path.startswith(b"/"):
            start = caller.cwd
        else:
            start = caller.take(directory)
        if not path:
            return start
        how = os.O_PATH if follows else os.O_PATH | os.O_NOFOLLOW
        with self._unprivileged:
            return caller.keep(_syscalls.open_plainly(start, path, how))


def _own(fd: int, caller: Caller) -> int:
    taken = caller.take(fd)
    if fcntl.fcntl(taken, fcntl.F_GETFL) & os.O_PATH:
        raise _error(errno.EBADF)
    return taken


def _named(fd: int, caller: Caller) -> int:
    try:
        return caller.take(fd)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise _error(errno.ENOENT) from error
        raise


def _descriptor_in(path: bytes) -> int | None:
    """Return the descriptor of the caller's that *path* leads to by its very last link."""
    for folder in _OWN_DESCRIPTORS:
        number = path.removeprefix(folder)
        # No longer, and it is none that a kernel would take.
        if number != path and number.isdigit() and len(number) < len(str(_UINT)):
            return int(number)
    return None


def _value(form: _Form, args: tuple[int, ...], caller: Caller) -> tuple[object, ...]:
    """Return what is to be set, as the caller has it now."""
    first = args[form.first]
    if form.act == "mode":
        return (first & _UINT,)
    if form.act == "owner":
        return first & _UINT, args[form.first + 1] & _UINT
    if not first:
        return (None,)
    if form.act == "nanoseconds":
        return (caller.read(first, _TIMESPECS.size),)
    if form.act == "microseconds":
        return (_from_microseconds(caller.read(first, _TIMEVALS.size)),)
    accessed, modified = _UTIMBUF.unpack(caller.read(first, _UTIMBUF.size))
    return (_TIMESPECS.pack(accessed, 0, modified, 0),)


def _from_microseconds(raw: bytes) -> bytes:
    accessed, accessed_us, modified, modified_us = _TIMEVALS.unpack(raw)
    if not 0 <= accessed_us < _USEC_PER_S or not 0 <= modified_us < _USEC_PER_S:
        raise _error(errno.EINVAL)
    return _TIMESPECS.pack(accessed, accessed_us * 1000, modified, modified_us * 1000)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


_ACTS: dict[str, Callable[..., None]] = {
    "mode": _syscalls.change_mode,
    "owner": _syscalls.change_owner,
    "seconds": _syscalls.change_times,
    "microseconds": _syscalls.change_times,
    "nanoseconds": _syscalls.change_times,
}
