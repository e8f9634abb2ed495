"""The protected paths of one person on one machine.

Architecture invariant: this module does no I/O; `resolve` is handed in where paths are looked up.
"""

from __future__ import annotations

from nono_mcp.policy import persistence, protected, protected_system
from nono_mcp.policy.paths import ancestors, covers
from nono_sandbox.confinement import READ, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nono_mcp.policy.paths import Place


class Entry(Value):
    """One protected path: what it is, and which access to it is refused."""

    path: str
    access: int
    what: str


class Protected(Value):
    """A protected path that is there."""

    place: Place
    access: int
    what: str
    is_shut: bool = False
    """Its permissions give this user no access, nor a way to it."""


class Catalogue:
    """Every protected path, by the directory it would be in."""

    def __init__(
        self, home: str, environ: Mapping[str, str], workspace: str = "/", *, macos: bool = False
    ) -> None:
        self.directories: dict[str, dict[str, tuple[int, str]]] = {}
        home = home.rstrip("/")
        # Of a path that is in two tables the later says what it is: what hides comes last.
        for table in (persistence.PERSISTENCE, persistence.FAMILIES):
            self._add_table(table, home)
        if macos:
            self._add_table(protected_system.MACOS, home, ", ")
        for table in (protected.CREDENTIALS, protected_system.SYSTEM, protected_system.SOCKETS):
            self._add_table(table, home)
        self._add_moved(home, environ)
        self._add_named(environ, (home, workspace))

    def match(self, path: str) -> Entry | None:
        """Return what protects *path*, going by its name alone; the nearest, if several do."""
        for one in (path, *ancestors(path)):
            directory, _, name = one.rpartition("/")
            for pattern, (access, what) in self.directories.get(directory, {}).items():
                if matches(name, pattern):
                    return Entry(one, access, what)
        return None

    def _add_table(self, table: protected.Table, home: str, separator: str | None = None) -> None:
        directories = self.directories
        for what, access, by_directory in table:
            for within, names in by_directory.items():
                # The root directory is "" here, as it is to what stands in it: "/etc".
                directory = (within if within[:1] == "/" else f"{home}/{within}").rstrip("/")
                there = directories.get(directory)
                if there is None:
                    there = directories[directory] = {}
                there.update(dict.fromkeys(names.split(separator), (access, what)))

    def _add_named(self, environ: Mapping[str, str], kept: tuple[str, ...]) -> None:
        """Add what variables name, unless it would close all of the home or workspace."""
        for variable, what in protected.VARIABLES:
            for path in environ.get(variable, "").split(":"):
                directory, _, name = path.rstrip("/").rpartition("/")
                if path.startswith("/") and name and not any(covers(path, one) for one in kept):
                    self.directories.setdefault(directory, {})[name] = (READ | WRITE, what)

    def _add_moved(self, home: str, environ: Mapping[str, str]) -> None:
        """Add what is in a directory that the environment has elsewhere (XDG, CARGO_HOME)."""
        for variable, usual in protected.MOVABLE:
            usual_path = f"{home}/{usual}"
            actual = environ.get(variable, "").rstrip("/")
            if not actual.startswith("/") or actual == usual_path:
                continue
            for directory, names in list(self.directories.items()):
                if covers(usual_path, directory):
                    moved = actual + directory[len(usual_path) :]
                    self.directories.setdefault(moved, {}).update(names)


class Protection(Value):
    """What is protected on this machine, and what would be if it were there."""

    present: tuple[Protected, ...]
    absent: tuple[Entry, ...]
    """Of directories that are written, since it could be made there."""
    catalogue: Catalogue


class Scope(Value):
    """Whose machine it is, and what of it is granted."""

    home: str
    granted: Mapping[str, int]
    """Access by location."""

    def written(self) -> list[str]:
        """Return the locations that are granted for writing."""
        return [path for path, access in self.granted.items() if access & WRITE]


class Names:
    """The names that matter in each directory, listed once."""

    def __init__(self, scope: Scope, list_names: Callable[[str], tuple[str, ...] | None]) -> None:
        self._granted = tuple(scope.granted)
        self._listable = _prefixes((scope.home, *scope.granted))
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
        if f"{directory}/".startswith(self._listable):
            above, _, name = directory.rpartition("/")
            if directory != "/" and f"{above}/".startswith(self._listable):
                around = self.of(above or "/")
                if around is not None and name not in around and name.lower() not in around:
                    return frozenset()
            names = self._list_names(directory)
            if names is None:
                return None
            return frozenset((*names, *map(str.lower, names)))
        prefix = directory.rstrip("/") + "/"
        return frozenset(
            grant[len(prefix) :].partition("/")[0]
            for grant in self._granted
            if grant.startswith(prefix)
        )


def _prefixes(paths: Iterable[str]) -> tuple[str, ...]:
    """Return what a path that one of *paths* covers begins with, once it ends in a slash."""
    return tuple(path.rstrip("/") + "/" for path in paths)


def look(
    catalogue: Catalogue, scope: Scope, names: Names, resolve: Callable[[str], Place]
) -> Protection:
    """Return what of the *catalogue* is there, and where it leads.

    What would close the home by lying around it (/root, to root) is passed over.
    """
    around = {scope.home, *ancestors(scope.home)}
    written = _prefixes(scope.written())
    home = _prefixes((scope.home,))
    present: list[Protected] = []
    absent: list[Entry] = []
    for directory, patterns in catalogue.directories.items():
        there = names.of(directory or "/")
        is_written = f"{directory}/".startswith(written)
        if not is_written and there is not None and not there:
            continue
        # Outside the home, what is only kept from being written needs no keeping elsewhere.
        everything = is_written or f"{directory}/".startswith(home)
        looked_for = patterns if everything else _hidden(patterns)
        found = set()
        for name, pattern in _candidates(looked_for, there):
            place = resolve(f"{directory}/{name}")
            if not place.kind:
                continue
            found.add(pattern)
            if place.path not in around:
                present.append(Protected(place, *patterns[pattern]))
        if is_written:
            absent += [
                Entry(f"{directory}/{pattern}", *patterns[pattern])
                for pattern in patterns
                if pattern not in found and "*" not in pattern
            ]
    return Protection(tuple(present), tuple(absent), catalogue)


def _hidden(patterns: Mapping[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """Return those that may not be read."""
    return {name: entry for name, entry in patterns.items() if entry[0] & READ}


def _candidates(
    patterns: Mapping[str, object], there: frozenset[str] | None
) -> Iterator[tuple[str, str]]:
    """Yield (name, pattern) for what may be there; one that can't be listed may hold anything."""
    if there is None:
        yield from ((pattern, pattern) for pattern in patterns if "*" not in pattern)
        return
    for pattern in patterns.keys() & there:
        yield pattern, pattern
    # A file system that folds case finds `.Xauthority` where `.xauthority` is listed.
    globs = {pattern: pattern for pattern in patterns if "*" in pattern}
    globs.update({glob.lower(): glob for glob in globs})
    leads = tuple(glob.partition("*")[0] for glob in globs)
    for name in there:
        if name.startswith(leads):
            yield from ((name, pattern) for glob, pattern in globs.items() if matches(name, glob))
    for pattern in patterns:
        if not pattern.islower() and pattern not in there and pattern.lower() in there:
            yield pattern, pattern


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
