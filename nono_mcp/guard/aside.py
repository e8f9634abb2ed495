"""Putting away what no rename moves to the quarantine: aside first, then copied, and then removed.

The quarantine may be on another file system, or full. So what is put away gets another name first,
by which nothing is guarded or run: in the directory above the grant, where no call gets at it, or
where that can't be, in its own. Then it's copied, written through, and what is the same as its copy
is removed. What can't be made whole stays aside, and is told.

A record in our state directory says of what is aside where it is going, until it's there: FORMAT.md
has it. Who comes next after a kill goes on from where that was.

Architecture invariant: at no time is it less than whole in both places.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress

from nono_mcp.guard import copying, tree, ways
from nono_mcp.guard.action import LEFT, REMOVED, Action
from nono_mcp.guard.quarantine import Origin, Taken
from nono_mcp.guard.ways import DIRECTORY
from nono_sandbox import private
from nono_sandbox.opath import WAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

PREFIX, SUFFIX = ".nono-put-away-", ".sample"
"""Git runs no hook that is called so."""
NOT_WHOLE = "it couldn't be copied whole to the quarantine, and has another name now: {}"
CHANGED = "what was changed while it was copied to the quarantine is still {}"
GONE = "a killed server was putting it away, and it isn't where it was put"
WHAT = "what a killed server was putting away"

_PARTIAL = ".part"
_RANDOM_BYTES = 8
_TRIES = 10


class _Aside:
    """What stands aside: by which name, in which open directory, and the path of that."""

    def __init__(self, name: str, fd: int, directory: str) -> None:
        self.name = name
        self.fd = fd
        self.path = f"{directory.rstrip('/')}/{name}"


def move(origin: Origin, parent: int, records: str, place: str, room: copying.Room) -> Taken:
    """Move what stands at *origin* in the open directory *parent* to *place*, or aside.

    Raises:
        OSError: It is still there.
    """
    name = _name()
    try:
        record = _record(records, [origin.top, origin.directory, origin.name, name, place])
    except OSError as error:
        return leave(origin, parent, error)
    with record:
        try:
            aside = _set_aside(origin, parent, name)
            try:
                return _carry(origin, aside, place, room)
            finally:
                os.close(aside.fd)
        finally:
            os.unlink(record.name)
            with suppress(OSError):
                os.rmdir(records)


def leave(origin: Origin, parent: int, error: OSError) -> Taken:
    """Set what stands at *origin* in the open directory *parent* aside for good: for an *error*.

    Raises:
        OSError: It is still there.
    """
    aside = _set_aside(origin, parent, _name())
    os.close(aside.fd)
    return Taken(aside.path, NOT_WHOLE.format(error))


def finish(records: str) -> tuple[Action, ...]:
    """Go on with what was being put away by who was killed, and return what was done."""
    actions: list[Action] = []
    for name in sorted(os.listdir(records)):
        actions += _finish_one(f"{records}/{name}")
    with suppress(OSError):
        os.rmdir(records)
    return tuple(actions)


def _name() -> str:
    return f"{PREFIX}{os.urandom(_RANDOM_BYTES).hex()}{SUFFIX}"


def _record(records: str, fields: Sequence[object]) -> TextIO:
    """Have it on the disk what is about to be moved; it's locked for as long as it's open.

    Raises:
        OSError: It isn't there.
    """
    path = f"{records}/{os.urandom(_RANDOM_BYTES).hex()}"
    file = _made(records, path)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(json.dumps(fields))
        file.flush()
        os.fsync(file.fileno())
        _sync(records)
    except OSError:
        with suppress(OSError):
            file.close()
        os.unlink(path)
        raise
    return file


def _made(records: str, path: str) -> TextIO:
    for _ in range(_TRIES):
        private.ensure_directories(records)
        with suppress(FileNotFoundError):  # whoever was the last one there has removed it
            return open(path, "x", encoding="ascii", opener=private.open_file)
    raise FileNotFoundError(path)


def _finish_one(record: str) -> list[Action]:
    try:
        file = open(record, "r+", encoding="ascii", opener=private.open_file)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return []
    with file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []  # whose it is lives
        if not os.fstat(file.fileno()).st_nlink:
            return []
        try:
            top, directory, name, aside, place = json.loads(file.read())
        except ValueError:
            actions = []  # it was killed before anything was moved
        else:
            actions = _go_on(Origin(top, tuple(directory), name), aside, place)
        os.unlink(record)
        return actions


def _go_on(origin: Origin, name: str, place: str) -> list[Action]:
    kept = f"{place}/{origin.name}"
    aside = _found(origin, name)
    if aside is not None:
        try:
            taken = _carry(origin, aside, place, copying.Room())
        finally:
            os.close(aside.fd)
        return [Action(origin.path, REMOVED, WHAT, taken.path, taken.why)]
    if os.path.lexists(kept):
        return [Action(origin.path, REMOVED, WHAT, kept)]
    with suppress(OSError):
        os.rmdir(place)
    return [] if os.path.lexists(origin.path) else [Action(origin.path, LEFT, WHAT, why=GONE)]


def _set_aside(origin: Origin, parent: int, name: str) -> _Aside:
    """Give it another *name*, where calls don't get at it if that can be."""
    above = _above(origin, parent)
    if above is not None:
        try:
            os.rename(origin.name, name, src_dir_fd=parent, dst_dir_fd=above)
        except OSError:
            os.close(above)  # another file system, or not to be written
        else:
            return _Aside(name, above, os.path.dirname(origin.top))
    os.rename(origin.name, name, src_dir_fd=parent, dst_dir_fd=parent)
    return _Aside(name, os.dup(parent), os.path.dirname(origin.path))


def _above(origin: Origin, parent: int) -> int | None:
    """Open the directory above the grant, if *parent* is surely where *origin* says."""
    fd = os.dup(parent)
    try:
        for _ in origin.directory:
            fd = _up(fd)
        if os.path.samestat(os.fstat(fd), os.stat(origin.top, follow_symlinks=False)):
            return os.open("..", WAY, dir_fd=fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _up(fd: int) -> int:
    above = os.open("..", WAY, dir_fd=fd)
    os.close(fd)
    return above


def _found(origin: Origin, name: str) -> _Aside | None:
    """Find what is aside by that *name*."""
    places = (_open_above, os.path.dirname(origin.top)), (_open_own, os.path.dirname(origin.path))
    for opened, directory in places:
        fd = opened(origin)
        if fd is not None:
            if ways.is_there(name, fd):
                return _Aside(name, fd, directory)
            os.close(fd)
    return None


def _open_above(origin: Origin) -> int | None:
    try:
        return os.open(os.path.dirname(origin.top), WAY)
    except OSError:
        return None


def _open_own(origin: Origin) -> int | None:
    try:
        top = os.open(origin.top, DIRECTORY)
    except OSError:
        return None
    try:
        return ways.beneath(origin.directory, top)
    finally:
        os.close(top)


def _carry(origin: Origin, aside: _Aside, place: str, room: copying.Room) -> Taken:
    """Copy what is *aside* to *place*, and remove what is there by then."""
    kept = f"{place}/{origin.name}"
    try:
        private.ensure_directories(place)
        _remove_partial(place)
        if not os.path.lexists(kept):
            _copy(aside, place, origin.name, room)
    except OSError as error:
        with suppress(OSError):
            _remove_partial(place)
        with suppress(OSError):
            os.rmdir(place)
        return Taken(aside.path, NOT_WHOLE.format(error))
    try:
        is_gone = _removed(aside, place, origin.name)
    except OSError:
        is_gone = False
    return Taken(kept, "" if is_gone else CHANGED.format(aside.path))


def _copy(aside: _Aside, place: str, name: str, room: copying.Room) -> None:
    partial = f"{place}{_PARTIAL}"
    private.make_directory(partial)
    target = os.open(partial, DIRECTORY)
    try:
        copying.Copy(target, room).make(aside.name, aside.fd, name)
        copying.sync(target)
        os.rename(name, f"{place}/{name}", src_dir_fd=target)
    finally:
        os.close(target)
    os.rmdir(partial)
    _sync(place)


def _removed(aside: _Aside, place: str, name: str) -> bool:
    target = os.open(place, DIRECTORY)
    try:
        return copying.remove_copied(aside.name, aside.fd, name, target)
    finally:
        os.close(target)


def _remove_partial(place: str) -> None:
    above = os.open(os.path.dirname(place), DIRECTORY)
    try:
        with suppress(FileNotFoundError):
            tree.remove(os.path.basename(place) + _PARTIAL, above)
    finally:
        os.close(above)


def _sync(directory: str) -> None:
    fd = os.open(directory, DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
