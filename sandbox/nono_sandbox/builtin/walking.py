"""The files below a directory that a search is about, as ripgrep chooses them.

Hidden files are left out, and what .gitignore (in a repository) and .ignore say; symlinks aren't
followed.
"""

from __future__ import annotations

import os

from nono_sandbox.builtin import globs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IGNORE_BYTES_MAX = 1 << 20
_IN_REPOSITORIES = ".gitignore"
_EVERYWHERE = ".ignore"


class Walk:
    """One walk, below *top*."""

    def __init__(self, top: str, wanted: Sequence[str], *, everything: bool) -> None:
        self._top = os.path.realpath(top)
        self._everything = everything
        self._repository = not everything and _repository(self._top) is not None
        patterns = [globs.pattern(one) for one in wanted]
        # ripgrep's --glob: what matches is in, and if anything must be in, all else is out.
        self._wanted = globs.Rules("", tuple(one for one in patterns if one is not None))
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
        return name.startswith(".") or globs.left_out(path, rules, is_directory=is_directory)

    def _rules_in(self, below: str) -> list[globs.Rules]:
        return self._rules_of(f"{self._top}/{below}", below, "")

    def _rules_of(self, directory: str, below: str, above: str) -> list[globs.Rules]:
        names = (_IN_REPOSITORIES, _EVERYWHERE) if self._repository else (_EVERYWHERE,)
        found = []
        for name in names:
            text = _text(f"{directory}/{name}")
            if text:
                found.append(globs.Rules(below, globs.parse(text), above))
        return found

    def _rules_above(self) -> list[globs.Rules]:
        """Return the rules of the directories above, the topmost first."""
        found: list[globs.Rules] = []
        root = _repository(self._top) or self._top
        if self._repository:
            way = os.path.relpath(self._top, root)
            above = "" if way == "." else f"{way}/"
            text = _text(f"{root}/.git/info/exclude")
            found += [globs.Rules("", globs.parse(text), above)] if text else []
        directory = root
        for part in os.path.relpath(self._top, root).split("/") if self._top != root else []:
            way = os.path.relpath(self._top, directory)
            found += self._rules_of(directory, "", f"{way}/")
            directory = f"{directory}/{part}"
        return found


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
