"""Which files the commands are that a policy blocks, by whatever name.

A command is looked for where PATH says and where systems have them. What is blocked is the file:
each of its names that are found there.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from nono_mcp.policy import environment, resolve
from nono_mcp.policy.blocked import CODE, SCRIPTS, SHELL, Blocked, script
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.paths import Place
from nono_mcp.policy.rules import FLAGS, placed
from nono_sandbox import private
from nono_sandbox.confinement import NAMESPACES, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nono_mcp.policy.request import Prepared
    from nono_mcp.policy.rules import Layer, Look

    Identity = tuple[int, int]

SHARED_MAX = 8
"""Other names that a blocked file may have; one of more is many programs in one (busybox)."""
_MODE = 0o755
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Commands:
    """What is to be found on a search path."""

    def __init__(self, directories: Iterable[str]) -> None:
        self._directories = tuple(dict.fromkeys(map(os.path.realpath, directories)))
        self._names: dict[Identity, dict[str, None]] = {}
        """By identity the paths, symlinks among them, that lead to a file."""
        for directory in self._directories:
            self._look(directory)

    def _look(self, directory: str) -> None:
        try:
            names = os.listdir(directory)
        except OSError:
            return
        for name in names:
            path = f"{directory}/{name}"
            try:
                status = os.stat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                self._names.setdefault((status.st_dev, status.st_ino), {})[path] = None

    def called(self, name: str) -> list[str]:
        """Return the paths at which *name* is found."""
        paths = (f"{directory}/{name}" for directory in self._directories)
        return [path for path in paths if os.path.isfile(path)]

    def same(self, place: Place) -> list[str]:
        """Return the paths, symlinks among them, that lead to the file *place*."""
        found = self._names.get(place.identity, {}) if place.identity else {}
        return list(dict.fromkeys((place.path, *found)))


def find(
    layers: Sequence[Layer], look: Look, environ: Mapping[str, str], given: Iterable[str]
) -> tuple[list[Blocked], list[str]]:
    """Return the files that the *layers* block, and what the person should be told of that.

    They are searched for where *environ* says, at the paths *given* and where systems have them.

    Raises:
        PolicyError: A command is many programs in one or, of the command line's, isn't there.
    """
    wanted = [(layer, text) for layer in layers for text in layer.document.commands.blocked]
    if not wanted:
        return [], []
    paths = (environment.search_path(environ.get("PATH", "")), *given, environment.PATH_FALLBACK)
    commands = Commands(entry for path in paths for entry in path.split(":") if entry[:1] == "/")
    found: dict[str, Blocked] = {}
    notices: list[str] = []
    for layer, text in wanted:
        paths_of_it = [placed(layer, text, look).path] if "/" in text else commands.called(text)
        places = [resolve.resolve(path) for path in paths_of_it]
        places = [place for place in places if place.kind == "file"]
        if not places and layer.kind == FLAGS:
            raise PolicyError(f"--block-command {quoted(text)}: there is no such command")
        for place in places:
            rule = _rule(layer, text)
            _check_shared(rule, text, place, commands, notices)
            found |= {one.place.path: one for one in _closed(rule, text, place, commands)}
    return _speaking(list(found.values())), notices


def _rule(layer: Layer, text: str) -> str:
    if layer.kind == FLAGS:
        return f"--block-command {quoted(text)}"
    return f"{layer.name}: blocked {quoted(text)}"


def _check_shared(
    rule: str, text: str, place: Place, commands: Commands, notices: list[str]
) -> None:
    names = {os.path.basename(path) for path in commands.same(place)}
    others = sorted(names - {text, os.path.basename(text)})
    if "/" not in text and len(others) > SHARED_MAX:
        raise PolicyError(
            f"{rule}: {place.path} is {len(others)} other commands as well",
            hint=f"to block all of them, block {place.path}",
        )
    if others and "/" not in text:
        notices.append(f"{rule} blocks {', '.join(others)} too: it's the same file, {place.path}")


def _closed(rule: str, text: str, place: Place, commands: Commands) -> Iterator[Blocked]:
    real = [path for path in commands.same(place) if os.path.realpath(path) == path]
    links_known = len(real) >= os.stat(place.path).st_nlink
    for path in real:
        yield Blocked(
            Place(path, path, "file", place.identity),
            READ | WRITE,
            rule,
            CODE,
            "take it out of what is blocked",
            name=os.path.basename(text),
            links_known=links_known,
        )


def _speaking(found: list[Blocked]) -> list[Blocked]:
    """Return *found*, each with what it says, if there is a shell to say it."""
    shell = os.path.realpath(SHELL)
    if any(one.place.path == shell for one in found):
        return found
    return [one.replace(says=script(one.name)) for one in found]


def ensure(prepared: Prepared) -> None:
    """Make the scripts that PATH leads to, where no others stand in the commands' places.

    What a worker has put there stays, to its own loss.
    """
    if prepared.confinement.tier == NAMESPACES or not prepared.blocked:
        return
    place = next((path for path in _path(prepared) if path.endswith(f"/{SCRIPTS}")), "")
    if not place:
        return
    tmpdir = os.open(os.path.dirname(place), _DIRECTORY)
    try:
        private.ensure_directory(SCRIPTS, tmpdir)
        with suppress(NotADirectoryError, FileNotFoundError):
            _write(os.open(SCRIPTS, _DIRECTORY, dir_fd=tmpdir), prepared.blocked)
    finally:
        os.close(tmpdir)


def _path(prepared: Prepared) -> list[str]:
    return dict(prepared.confinement.environment).get("PATH", "").split(":")


def _write(directory: int, scripts: Iterable[tuple[str, str]]) -> None:
    """Write the *scripts* that aren't there yet in the open *directory*, which is closed."""
    try:
        for name, text in scripts:
            with suppress(FileExistsError):
                made = private.open_file(name, private.NEW, directory)
                with open(made, "w", encoding="utf-8") as file:
                    file.write(text)
                    os.fchmod(file.fileno(), _MODE)
    finally:
        os.close(directory)
