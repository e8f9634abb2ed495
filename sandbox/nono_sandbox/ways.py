"""The ways to what is mounted in a directory that others may change: laid, watched, looked at.

What is granted beneath the person's home is mounted in the private home, which all sessions and
runs of a workspace share. Where another has no such grant, its programs see an empty directory, and
may remove or rename it or one above it. The kernel then takes the mount away from everybody, or
along, and who goes on by the same path is led elsewhere without an error.

So each directory above a mount point is mounted on itself, which keeps it where it is for all who
have the same grant. And each, with the mount point, is watched before it's known that they lead
there; whoever ends a call looks once more. What was renamed raises an event before its parent
directory is unlocked (vfs_rename), so it can't have been put back by then without one; and what was
removed never comes back, though its event may wait for somebody who still stands in it.

A symlink that leads from the home to what is granted elsewhere is such a way too.

Architecture invariant: nobody reads the events: the first is final, for all who hold `Ways.fd`.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_sandbox import _mounting, _uapi, mount_points
from nono_sandbox.errors import ConfinementError
from nono_sandbox.readable import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Grant, Link

_MOVED = _uapi.IN_MOVE_SELF | _uapi.IN_DELETE_SELF
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Ways:
    """The ways from the directory at *top* to what is mounted beneath it.

    First it's told where *top* is by `begin`, then each mount by `lay`; `finish` ends that.
    """

    def __init__(self, top: str, source: str) -> None:
        self.top = top
        self._source = source
        """Where *top* is outside."""
        self.fd = -1
        """Readable once a way was changed."""
        self._held: dict[str, int] = {}
        """*top*, and the directories that are mounted on themselves; open."""
        self._above: list[tuple[str, tuple[int, int]]] = []
        self._ends: list[tuple[str, tuple[int, int]]] = []

    def starts_at(self, grant: Grant | None) -> bool:
        """Tell whether *grant* is that of *top*."""
        return grant is not None and grant.path == self.top

    def begin(self, mount: int) -> None:
        """Begin at *mount*, which is mounted at *top*.

        Raises:
            ConfinementError: Nothing can be watched.
        """
        self._held[self.top] = os.dup(mount)
        try:
            self.fd = _uapi.inotify()
        except OSError as error:
            raise self._unwatched(error, "instances") from error

    def lay(self, mount: int, path: str, *, directory: bool) -> None:
        """Mount *mount* at *path*, and make what is missing of the way there.

        The working directory is the new root, which has a /proc.

        Raises:
            ConfinementError: Something of it can't be watched, or has no room.
            OSError: The kernel refused.
        """
        point = self._point(path, directory=directory)
        self._watch(point)
        _mounting.move_mount(mount, point)
        os.close(point)
        self._end_at(path, os.fstat(mount))

    def _point(self, path: str, *, directory: bool) -> int:
        parent, _, name = path.rpartition("/")
        above = self._hold(parent)
        try:
            return mount_points.made(above, name, directory=directory)
        except IsADirectoryError:
            pass  # where a file is granted
        try:
            # An empty one holds nothing that could be lost; what is in another is somebody's.
            os.rmdir(name, dir_fd=above)
            return mount_points.made(above, name, directory=directory)
        except OSError as error:
            raise self._without_room("the grant of", path, error) from error

    def repeat(self, link: Link) -> None:
        """Have *link* in its place, mounted on itself.

        Raises:
            ConfinementError: It can't be, or can't be watched.
        """
        parent, _, name = link.path.rpartition("/")
        try:
            made = mount_points.linked(self._hold(parent), name, link.target)
            self._watch(made)
            itself = _mounting.open_tree_clone(made)
            _mounting.move_mount(itself, made)
        except OSError as error:
            raise self._without_room("the symlink", link.path, error) from error
        self._end_at(link.path, os.fstat(made))
        os.close(itself)
        os.close(made)

    def _end_at(self, path: str, status: os.stat_result) -> None:
        self._ends.append((path, _identity(status)))
        # They come in the order of their paths: what isn't above this one is hardly needed again.
        for each in [each for each in self._held if not path.startswith(each + "/")]:
            os.close(self._held.pop(each))

    def _hold(self, path: str) -> int:
        """Mount the directory at *path* on itself, and those above it; return it, open."""
        if path in self._held:
            return self._held[path]
        parent, _, name = path.rpartition("/")
        if any(path == each for each, _ in self._above):
            self._held[path] = os.open(name, _WAY, dir_fd=self._hold(parent))
            return self._held[path]
        directory = mount_points.made(self._hold(parent), name, directory=True)
        status = os.fstat(directory)
        if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            # A call's doing. Who has to look there has no capability by then.
            os.chmod(_in_proc(directory), stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
        self._watch(directory)
        held = self._held[path] = _mounting.open_tree_clone(directory)
        _mounting.move_mount(held, directory)
        os.close(directory)
        self._above.append((path, _identity(status)))
        return held

    def _watch(self, fd: int) -> None:
        try:
            _uapi.inotify_add_watch(self.fd, _in_proc(fd), _MOVED)
        except OSError as error:
            raise self._unwatched(error, "watches") from error

    def finish(self) -> None:
        """Let go of what was held open, in the new root, once all ways lead where they should.

        Raises:
            ConfinementError: They don't.
        """
        for fd in self._held.values():
            os.close(fd)
        if not _lead(self._above) or self.lost():
            raise ConfinementError(
                f"what leads to a grant beneath {self.top} was moved or removed meanwhile, by "
                "another session or run of this workspace that hasn't got the grant; run it again"
            )

    def lost(self) -> bool:
        """Tell whether one of them has led elsewhere since `finish`, for however short a time.

        Who asks after its last act knows of each.
        """
        # In this order: what leads there again by now has raised an event.
        return not _lead(self._ends) or is_readable(self.fd)

    def _without_room(self, what: str, path: str, error: OSError) -> ConfinementError:
        return ConfinementError(
            f"can't have {what} {path} in the private home: {error.strerror}; remove "
            f"{self._source}{path[len(self.top) :]}"
        )

    def _unwatched(self, error: OSError, what: str) -> ConfinementError:
        return ConfinementError(
            f"can't watch the way to a grant beneath {self.top}: {error.strerror}; end what else "
            f"watches files, or raise fs.inotify.max_user_{what}"
        )


def _in_proc(fd: int) -> str:
    """Return a path to what *fd* holds, and not to what is mounted there."""
    return f"proc/self/fd/{fd}"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lead(ways: list[tuple[str, tuple[int, int]]]) -> bool:
    """Tell whether each of the paths leads to its object."""
    try:
        return all(_identity(os.lstat(path)) == identity for path, identity in ways)
    except OSError:
        return False
