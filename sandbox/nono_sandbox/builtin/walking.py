"""The files below a directory that a search is about, as ripgrep chooses them.

Hidden files are left out, and what .gitignore (in a repository) and .ignore say; symlinks aren't
followed.
"""

from __future__ import annotations

import os

from nono_sandbox.builtin import globs
from nono_sandbox.builtin.failures import FailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IGNORE_BYTES_MAX = 1 << 20
_SHOWN_CHARACTERS_MAX = 80
_IN_REPOSITORIES = ".gitignore"
_EVERYWHERE = (".ignore", ".rgignore")


class Walk:
    """One walk, below *top*."""

    def __init__(self, top: str, wanted: Sequence[str], *, everything: bool) -> None:
        self._top = os.path.realpath(top)
        self._everything = everything
        self._repository = None if everything else _repository(self._top)
        # ripgrep's --glob: what matches is in, and if anything must be in, all else is out.
        self._wanted = globs.Rules("", _patterns(wanted), _way_from_cwd(self._top))
        self._is_selective = any(not one.negated for one in self._wanted.patterns)

    def files(self) -> Iterator[str]:
        """Yield the paths of the files, relative to the top, in order."""
        rules = [] if self._everything else self._rules_above()
        yield from self._below("", rules)

    def _below(self, below: str, rules: list[globs.Rules]) -> Iterator[str]:
        try:
            with os.scandir(f"{self._top}/{below}") as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            return  # closed, or gone
        if not self._everything:
            rules = rules + self._rules_in(below)
        for entry in entries:
            path = below + entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            if self._is_out(path, entry.name, rules, is_directory=is_directory):
                continue
            if is_directory:
                yield from self._below(f"{path}/", rules)
            elif entry.is_file(follow_symlinks=False):
                yield path

    def _is_out(
        self, path: str, name: str, rules: Sequence[globs.Rules], *, is_directory: bool
    ) -> bool:
        wanted = self._wanted.verdict(path, is_directory=is_directory)
        if wanted is not None:
            return not wanted
        if self._is_selective and not is_directory:
            return True
        if self._everything:
            return False
        ignored = globs.verdict(path, rules, is_directory=is_directory)
        # What is named there to be kept is, even if it's hidden.
        return name.startswith(".") if ignored is None else ignored

    def _rules_in(self, below: str) -> list[globs.Rules]:
        names = _EVERYWHERE if self._repository is None else (_IN_REPOSITORIES, *_EVERYWHERE)
        return self._rules_of(f"{self._top}/{below}", names, below, "")

    @staticmethod
    def _rules_of(
        directory: str, names: Sequence[str], below: str, above: str
    ) -> list[globs.Rules]:
        found = []
        for name in names:
            text = _text(f"{directory}/{name}")
            if text:
                found.append(globs.Rules(below, globs.parse(text), above))
        return found

    def _rules_above(self) -> list[globs.Rules]:
        """Return the rules of the directories above, the topmost first."""
        found: list[globs.Rules] = []
        directory = "/"
        names: tuple[str, ...] = _EVERYWHERE
        for part in self._top.split("/")[1:] if self._top != "/" else []:
            if directory == self._repository:
                names = (_IN_REPOSITORIES, *_EVERYWHERE)
            above = f"{os.path.relpath(self._top, directory)}/"
            found += self._rules_of(directory, names, "", above)
            directory = os.path.join(directory, part)
        if self._repository:
            way = os.path.relpath(self._top, self._repository)
            text = _text(f"{self._repository}/.git/info/exclude")
            above = "" if way == "." else f"{way}/"
            found.insert(0, globs.Rules("", globs.parse(text), above))
        return found


def _patterns(wanted: Sequence[str]) -> tuple[globs.Pattern, ...]:
    found: list[globs.Pattern] = []
    for one in wanted:
        try:
            found += globs.of_search(one)
        except ValueError as error:
            raise FailedError(f"glob {one[:_SHOWN_CHARACTERS_MAX]!a}: {error}") from error
    return tuple(found)


def _way_from_cwd(top: str) -> str:
    """Return what globs see before the names below *top*: they are the current directory's."""
    cwd = os.getcwd()
    if top == cwd:
        return ""
    return f"{top.removeprefix(f'{cwd}/')}/"


def _repository(directory: str) -> str | None:
    while True:
        if os.path.lexists(f"{directory}/.git"):
            return directory
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def _text(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""  # there is none, or it may not be read: it leaves nothing out
    try:
        return os.read(fd, IGNORE_BYTES_MAX).decode("utf-8", "surrogateescape")
    except OSError:
        return ""  # a directory of that name
    finally:
        os.close(fd)
