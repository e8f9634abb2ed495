"""Notes what judging asks, so that `recall` can ask the same again.

While it looks on, `os` asks through it: whatever asks, in whichever module, is noted. What can't be
asked again the same way (a file's content, an open directory), or changes something, makes it give
up: then nothing is kept, and the next time all is judged anew.

Architecture invariant: answers are those of the system, or an attribute of them that isn't noted
isn't there. What comes of judging is never other than without it.
"""

from __future__ import annotations

import builtins
import errno
import io
import marshal
import os
import sys

from nono_mcp.guard import spots
from nono_mcp.policy import answers, hard_links, recall
from nono_sandbox import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from nono_mcp.policy.recall import Outcome

NOTES_MAX = 4096
_RANDOM_BYTES = 8
HARMLESS = frozenset(
    ("fspath", "strerror", "getpid", "getuid", "geteuid", "getgid", "getegid", "uname")
)
"""Of `os`: what asks nothing of the file system that could be answered otherwise."""
_OWN_FD = "/proc/self/fd/"
_PATH_ALONE = getattr(os, "O_PATH", 0)


class Witness:
    """Looks on from `with` to its end; then `keep` keeps what came of it."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[Any, Any]] = {}
        self._count = 0
        self._given_up = False
        self._replaced: dict[tuple[Any, str], Any] = {}
        self._open: dict[int, list[Any]] = {}

    def __enter__(self) -> Self:
        builtin = type(os.stat)
        for name, function in vars(os).copy().items():
            if type(function) is builtin and name not in HARMLESS:
                self._replace(os, name, self._giving_up(function))
        for name, function in self._asking().items():
            self._replace(os, name, function)
        self._replace(os, "environ", answers.Variables(os.environ, self))
        self._replace(builtins, "open", self._giving_up(builtins.open))
        self._replace(io, "open", self._giving_up(io.open))
        self._replace(spots, "standing", self._standing(spots.standing))
        self._replace(hard_links, "find", self._other_names(hard_links.find))
        return self

    def __exit__(self, *_: object) -> None:
        for (where, name), function in self._replaced.items():
            setattr(where, name, function)

    def _replace(self, where: Any, name: str, function: object) -> None:  # noqa: ANN401 - a module
        self._replaced.setdefault((where, name), getattr(where, name))
        setattr(where, name, function)

    def _asking(self) -> dict[str, Callable[..., Any]]:
        return {
            "stat": self._stat,
            "lstat": self._lstat,
            "readlink": self._readlink,
            "listdir": self._listdir,
            "scandir": self._scandir,
            "access": self._access,
            "open": self._opened,
            "fstat": self._fstat,
            "close": self._close,
            "getcwd": self._system("getcwd"),  # part of every key
        }

    def _system(self, name: str) -> Callable[..., Any]:
        """Return what `os` has by *name* itself."""
        function: Callable[..., Any] = self._replaced.get((os, name)) or getattr(os, name)
        return function

    def give_up(self) -> None:
        """Keep nothing: what was asked can't be asked again."""
        self._given_up = True

    def _giving_up(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes
            self.give_up()
            return function(*args, **kwargs)

        return call

    def note(self, sense: str, question: object, answer: object) -> None:
        """Remember what was asked and answered; answered otherwise before, it's for nothing."""
        asked = self._asked.setdefault(sense, {})
        self._count += question not in asked
        if self._count > NOTES_MAX or asked.setdefault(question, answer) != answer:
            self.give_up()

    def ask(self, sense: str, question: object) -> None:
        """Ask something more, and note the answer."""
        self.note(sense, question, recall.SENSES[sense](question))

    def _noted(
        self,
        sense: str,
        path: object,
        act: Callable[[], Any],
        told: Callable[[Any], Any],
    ) -> Any:  # noqa: ANN401 - what the system returns
        """Do *act*, and note what is *told* of its result, or its error."""
        if not isinstance(path, str):
            self.give_up()
            return act()
        try:
            result = act()
        except OSError as error:
            self.note(sense, path, error.errno or 0)
            raise
        except ValueError:
            self.note(sense, path, recall.NO_SUCH_NAME)
            raise
        self.note(sense, path, told(result))
        return result

    def _stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Any:  # noqa: ANN401 - as os.stat
        if dir_fd is not None:
            self.give_up()
            return self._system("stat")(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if not follow_symlinks:
            return self._lstat(path)
        look = self._system("stat")
        return answers.Status(self._noted("status", path, lambda: look(path), recall.facts), self)

    def _lstat(self, path: Any, *, dir_fd: int | None = None) -> Any:  # noqa: ANN401 - as os.lstat
        if dir_fd is not None:
            self.give_up()
            return self._system("lstat")(path, dir_fd=dir_fd)
        look = self._system("lstat")
        return answers.Status(
            self._noted("own-status", path, lambda: look(path), recall.facts), self
        )

    def _readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:  # noqa: ANN401 - as os.readlink
        look = self._system("readlink")
        if dir_fd is not None:
            self.give_up()
            return look(path, dir_fd=dir_fd)
        if isinstance(path, str) and path.startswith(_OWN_FD):
            return self._location(path)
        return self._noted("link", path, lambda: look(path), str)

    def _location(self, path: str) -> str:
        """Note where an open object is, with the rest of what was asked of it."""
        opened = self._open.get(int(path[len(_OWN_FD) :]))
        if opened is None:
            self.give_up()
            opened = [None, None, None]
        try:
            location: str = self._system("readlink")(path)
        except OSError as error:
            opened[2] = error.errno
            raise
        opened[2] = location
        return location

    def _opened(
        self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        act = self._system("open")
        if dir_fd is not None or not flags & _PATH_ALONE:
            self.give_up()
            return int(act(path, flags, mode, dir_fd=dir_fd))
        try:
            descriptor = int(act(path, flags))
        except OSError as error:
            self.note("opened", path, error.errno or 0)
            raise
        except ValueError:
            self.note("opened", path, recall.NO_SUCH_NAME)
            raise
        # Asked of it or not: the answer is noted whole.
        status = self._system("fstat")(descriptor)
        self._open[descriptor] = [path, status, _location_of(descriptor, self._system("readlink"))]
        return descriptor

    def _fstat(self, descriptor: int) -> Any:  # noqa: ANN401 - as os.fstat
        if descriptor in self._open:
            return answers.Status(self._open[descriptor][1], self)
        self.give_up()
        return self._system("fstat")(descriptor)

    def _close(self, descriptor: int) -> None:
        opened = self._open.pop(descriptor, None)
        if opened is None:
            self.give_up()
        else:
            path, status, location = opened
            self.note("opened", path, (recall.facts(status), location))
        self._system("close")(descriptor)

    def _listdir(self, path: Any = ".") -> Any:  # noqa: ANN401 - as os.listdir
        return self._noted("names", path, lambda: self._system("listdir")(path), tuple)

    def _scandir(self, path: Any = ".") -> answers.Entries:  # noqa: ANN401 - as os.scandir
        def look() -> list[os.DirEntry[str]]:
            with self._system("scandir")(path) as entries:
                return list(entries)

        def told(found: list[os.DirEntry[str]]) -> tuple[Any, ...]:
            return tuple((one.name, one.inode(), recall.kind(one)) for one in found)

        return answers.Entries(self._noted("entries", path, look, told), self)

    def _access(self, path: Any, mode: int, **kwargs: Any) -> bool:  # noqa: ANN401 - as os.access
        answer = bool(self._system("access")(path, mode, **kwargs))
        if kwargs or not isinstance(path, str):
            self.give_up()
        self.note("access", (path, mode), answer)
        return answer

    def _standing(self, look: Callable[[str], Any]) -> Callable[[str], Any]:
        def ask(path: str) -> Any:  # noqa: ANN401 - as it returns
            # It goes by open directories; it's asked again as a whole.
            looking_on = {name: getattr(os, name) for where, name in self._replaced if where is os}
            try:
                for name in looking_on:
                    setattr(os, name, self._system(name))
                found = look(path)
            finally:
                for name, function in looking_on.items():
                    setattr(os, name, function)
            told = tuple((one.directory, one.name, one.rule, one.what) for one in found)
            self.note("standing", path, told)
            return found

        return ask

    def _other_names(self, look: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*question: Any) -> Any:  # noqa: ANN401 - as it takes and returns
            # It asks past us; it's asked again as a whole.
            found = look(*question)
            self.note("other-names", question, found)
            return found

        return ask

    def keep(self, key: bytes, outcome: Outcome, begun_ns: int) -> None:
        """Keep *outcome* for *key*, unless a source of this program is newer than *begun_ns*.

        What can't be kept is judged again.
        """
        path = recall.path_of(key, os.environ)
        if self._given_up or path is None or not self._note_sources(begun_ns):
            return
        notes = tuple((sense, tuple(asked.items())) for sense, asked in self._asked.items())
        try:
            data = marshal.dumps((key, notes, tuple(outcome.__dict__.values())))
            if len(data) <= recall.BYTES_MAX - recall.TAG_BYTES:
                _write(path, recall.tag_of(_secret(), data) + data)
        except (OSError, ValueError):
            return  # full or read-only, or a value that doesn't travel

    def _note_sources(self, begun_ns: int) -> bool:
        """Note the sources of this program as they are; tell whether they are what was loaded."""
        for name, module in list(sys.modules.items()):
            source = getattr(module, "__file__", None)
            if name.partition(".")[0] in ("nono_mcp", "nono_sandbox") and source:
                answer = recall.SENSES["source"](source)
                if not isinstance(answer, tuple) or answer[-1] >= begun_ns:
                    return False
                self.note("source", source, answer)
        return not self._given_up


def _location_of(descriptor: int, readlink: Callable[[str], str]) -> str | int:
    try:
        return readlink(f"{_OWN_FD}{descriptor}")
    except OSError as error:
        return error.errno or errno.ENOENT


def _secret() -> bytes:
    """Return the key of what is kept, made at need.

    Raises:
        OSError: There is none, and none can be made.
    """
    path = recall.key_path(os.environ)
    found = recall.read(path, recall.KEY_BYTES)
    if found is None or len(found) != recall.KEY_BYTES:
        found = os.urandom(recall.KEY_BYTES)
        _write(path, found)
    return found


def _write(path: str, data: bytes) -> None:
    """Put *data* at *path*: all of it, or none.

    Raises:
        OSError: Nothing was put there, and nothing is left.
    """
    temporary = f"{path}.{os.urandom(_RANDOM_BYTES).hex()}"
    private.ensure_directories(path.rpartition("/")[0])
    descriptor = private.open_file(temporary, private.NEW)
    try:
        is_whole = os.write(descriptor, data) == len(data)
    except OSError:
        is_whole = False
    finally:
        os.close(descriptor)
    if not is_whole:
        os.unlink(temporary)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.replace(temporary, path)
