"""The protected paths of one person on one machine.

Architecture invariant: this module does no I/O; `resolve` is handed in where paths are looked up.
"""

from __future__ import annotations

from nono_mcp.policy import protected
from nono_mcp.policy.paths import covers
from nono_sandbox.confinement import READ, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nono_mcp.policy.paths import Place

    Entry = tuple[str, int, str]
    """(path, access refused, what it is), `*` in the last component being any characters."""


class Protected(Value):
    """A protected path that is there."""

    place: Place
    access: int
    what: str


class Protection(Value):
    """What is protected on this machine, and what would be if it were there."""

    present: tuple[Protected, ...]
    absent: tuple[Entry, ...]


class Names:
    """The names that matter in each directory, listed once."""

    def __init__(
        self,
        home: str,
        granted: Sequence[str],
        list_names: Callable[[str], tuple[str, ...] | None],
    ) -> None:
        self._home = home
        self._granted = granted
        self._list_names = list_names
        self._listed: dict[str, frozenset[str] | None] = {}

    def of(self, directory: str) -> frozenset[str] | None:
        """Return the names in *directory*, in lower case too; None if they can't be listed.

        Outside the home, and outside what is granted, only names on the way to a grant matter:
        everything else is out of reach, and needn't be looked at.
        """
        if directory not in self._listed:
            self._listed[directory] = self._look(directory)
        return self._listed[directory]

    def _look(self, directory: str) -> frozenset[str] | None:
        inside_home = covers(self._home, directory)
        if inside_home and directory != self._home:
            above, _, name = directory.rpartition("/")
            around = self.of(above or "/")
            if around is not None and name not in around and name.lower() not in around:
                return frozenset()
        if inside_home or any(covers(grant, directory) for grant in self._granted):
            names = self._list_names(directory)
            if names is None:
                return None
            return frozenset((*names, *(name.lower() for name in names)))
        prefix = directory.rstrip("/") + "/"
        return frozenset(
            grant[len(prefix) :].partition("/")[0]
            for grant in self._granted
            if grant.startswith(prefix)
        )


def look(found: Sequence[Entry], names: Names, resolve: Callable[[str], Place]) -> Protection:
    """Return which of the entries *found* are there, and where they lead."""
    present: list[Protected] = []
    absent: list[Entry] = []
    for path, access, what in found:
        directory, _, pattern = path.rpartition("/")
        there = names.of(directory or "/")
        if there is None:
            candidates = [] if "*" in pattern else [pattern]
        elif "*" in pattern:
            candidates = [name for name in there if matches(name, pattern)]
        else:
            # A file system that folds case finds `.ssh` where `.SSH` is listed.
            candidates = [pattern] if pattern in there or pattern.lower() in there else []
        places = [resolve(f"{directory}/{name}") for name in candidates]
        places = [place for place in places if place.kind]
        present += [Protected(place, access, what) for place in places]
        if not places and "*" not in pattern:
            absent.append((path, access, what))
    return Protection(tuple(present), tuple(absent))


def entries(home: str, environ: Mapping[str, str], *, macos: bool) -> list[Entry]:
    """Return every protected path of a person as (path, access, what it is)."""
    home = home.rstrip("/")
    tables = (
        protected.CREDENTIALS,
        protected.PERSISTENCE,
        protected.FAMILIES,
        protected.SYSTEM,
        protected.SOCKETS,
    )
    found = [
        (path if path.startswith("/") else f"{home}/{path}", access, what)
        for table in tables
        for what, access, paths in table
        for path in paths.split()
    ]
    if macos:
        found += [
            (f"{home}/{path.strip()}", access, what)
            for what, access, paths in protected.MACOS
            for path in paths.strip().splitlines()
        ]
    found += _moved(found, home, environ)
    found += [
        (path, READ | WRITE, what)
        for name, what in protected.VARIABLES
        for path in environ.get(name, "").split(":")
        if path.startswith("/")
    ]
    return found


def _moved(found: list[Entry], home: str, environ: Mapping[str, str]) -> list[Entry]:
    """Return those beneath a directory that the environment has elsewhere (XDG, CARGO_HOME)."""
    moved = []
    for name, usual in protected.MOVABLE:
        usual_path = f"{home}/{usual}/"
        actual = environ.get(name, "").rstrip("/")
        if actual.startswith("/") and f"{actual}/" != usual_path:
            moved += [
                (f"{actual}/{path[len(usual_path) :]}", access, what)
                for path, access, what in found
                if path.startswith(usual_path)
            ]
    return moved


def matches(name: str, pattern: str) -> bool:
    """Tell whether a component's *name* is what *pattern* says, `*` being any characters."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    position = len(first)
    for part in rest[:-1]:
        position = name.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return name.endswith(rest[-1]) and len(name) - len(rest[-1]) >= position
