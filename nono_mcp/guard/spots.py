"""Where in a directory the guard looks: its own names, and those of the repositories in it.

Specified by gitrepository-layout(5). A spot is a name in a directory, and what may be there.

Architecture invariant: reads only, by open directories, and no more than `LISTED_MAX` names in one.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_mcp.guard import names, spelling, ways
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    See = Callable[["Spot", int], bool]
    Into = Callable[[tuple[str, ...], int, See], None]

LISTED_MAX = 1000
"""Hooks, submodules or linked worktrees of one repository; with more of them it isn't kept."""
MODULES_DEPTH_MAX = 24
WORKTREES_DEPTH_MAX = 4
"""Linked worktrees of linked worktrees, which Git doesn't make."""

HOOKS = "hooks"
MODULES = "modules"
WORKTREES = "worktrees"
STANDARD = frozenset(
    (HOOKS, MODULES, WORKTREES, "branches", "info", "lfs", "logs", "objects", "refs", "rr-cache")
)
"""Directories of a repository's own, which are no submodules."""

AS_IT_WAS = "as it was"
CONFIGURATION = "configuration"
"""What makes Git run something must have been there before."""
DIRECTORY = "directory"
"""A directory, and no symlink to one."""
GIT = "git"
"""A repository, or the file of a working tree whose repository is guarded as well."""
AROUND = "around"
"""A directory of which some names are guarded, or a file; and no symlink to one."""
COMMON = "common"
"""What a linked worktree says of the repository it belongs to."""

TOO_MANY = "too many"
"""Whatever it is, it goes."""


class Spot(Value):
    """A guarded name in an open directory."""

    directory: tuple[str, ...]
    name: str
    rule: str
    what: str

    @property
    def key(self) -> tuple[tuple[str, ...], str]:
        """Return by what the spot is known."""
        return self.directory, self.name

    @property
    def path(self) -> str:
        """Return the path of the spot, relative to where the grant begins."""
        return "/".join((*self.directory, self.name))


class TooManyError(Exception):
    """A directory holds more than is looked through."""


def visit(root: int, present: Iterable[str], see: See) -> None:
    """Call *see* with every spot beneath the open directory *root*, and the directory it is in.

    Of the names in *root* those *present* are there. What *see* doesn't say yes to isn't entered.
    """
    for name in present:
        if names.is_around(name):
            visit_around((), name, root, see)
        elif not names.is_git(name):
            see(Spot((), name, AS_IT_WAS, names.what(name)), root)
    visit_git((), root, see)


def visit_around(at: tuple[str, ...], name: str, parent: int, see: See) -> None:
    """Call *see* with the directory *name* in the directory *at*, and what is guarded in that."""
    if see(Spot(at, name, AROUND, names.AROUND), parent):
        _descend(at, name, parent, see, _within_around)


def _within_around(at: tuple[str, ...], around: int, see: See) -> None:
    found = {spelling.as_guarded_inside(at[-1], name, around) for name in os.listdir(around)}
    for name in sorted(found):
        what = names.what_inside(at[-1], name)
        if what:
            see(Spot(at, name, AS_IT_WAS, what), around)


def visit_git(at: tuple[str, ...], parent: int, see: See) -> None:
    """Call *see* with the spots of the `.git` in the directory *at*, which is open as *parent*."""
    if see(Spot(at, ".git", GIT, names.REPOSITORY), parent):
        _descend(at, ".git", parent, see, _repository)


def visit_bare(at: tuple[str, ...], directory: int, see: See) -> None:
    """Call *see* with the spots of the repository that the open *directory*, *at*, itself is."""
    _repository(at, directory, see)


def standing(path: str) -> list[Spot]:
    """Return what stands in the directory *path* and has to stay as it is: files, and hooks whole.

    What can't be looked at isn't there.
    """
    found: list[Spot] = []

    def see(spot: Spot, parent: int) -> bool:
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        whole = spot.rule == AS_IT_WAS or (spot.rule == DIRECTORY and spot.name == HOOKS)
        if whole:
            found.append(spot)
        return stat.S_ISDIR(status.st_mode) and not whole

    def see_if_there(spot: Spot, parent: int) -> bool:
        try:
            return see(spot, parent)
        except FileNotFoundError:
            return False

    try:
        root = os.open(path, ways.DIRECTORY)
    except OSError:
        return []
    try:
        visit(root, sorted(spelling.guarded(root)), see_if_there)
    except OSError:
        return []
    finally:
        os.close(root)
    return found


def _repository(at: tuple[str, ...], git: int, see: See, common: str = AS_IT_WAS) -> None:
    """See what a repository, or a submodule's, can be told to run by."""
    see(Spot(at, "config", CONFIGURATION, names.GIT), git)
    see(Spot(at, "config.worktree", CONFIGURATION, names.GIT), git)
    see(Spot(at, "commondir", common, names.GIT), git)
    for name, inner in _PARTS:
        if see(Spot(at, name, DIRECTORY, names.GIT), git):
            _descend(at, name, git, see, inner)


def _hooks(at: tuple[str, ...], hooks: int, see: See) -> None:
    for name in _listed(hooks):
        # What `git init` brings along; under such a name Git runs nothing.
        if not name.endswith(".sample"):
            see(Spot(at, name, AS_IT_WAS, names.HOOK), hooks)


def _info(at: tuple[str, ...], info: int, see: See) -> None:
    see(Spot(at, "attributes", AS_IT_WAS, names.GIT), info)


def _modules(at: tuple[str, ...], modules: int, see: See) -> None:
    """See each submodule's repository, whose name may hold slashes."""
    if len(at) > MODULES_DEPTH_MAX:
        raise TooManyError
    for name in _listed(modules):
        if see(Spot(at, name, DIRECTORY, names.GIT), modules):
            _descend(at, name, modules, see, _module)


def _module(at: tuple[str, ...], module: int, see: See) -> None:
    if is_module(module):
        _repository(at, module, see)
        _inner(at, module, see)
    else:
        _modules(at, module, see)


def _inner(at: tuple[str, ...], directory: int, see: See) -> None:
    """See repositories within one: `a/b` is a submodule, though `a` was made to look like one."""
    if len(at) > MODULES_DEPTH_MAX:
        raise TooManyError
    with os.scandir(directory) as entries:
        found = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
    for name in sorted(set(found) - STANDARD):
        _descend(at, name, directory, see, _within)


def _within(at: tuple[str, ...], directory: int, see: See) -> None:
    if is_module(directory):
        _repository(at, directory, see)
    _inner(at, directory, see)


def is_module(directory: int) -> bool:
    """Tell whether the open *directory* is a repository, and not just part of one's name."""
    return ways.is_there("HEAD", directory) or ways.is_there("config", directory)


def _worktrees(at: tuple[str, ...], worktrees: int, see: See) -> None:
    if at.count(WORKTREES) > WORKTREES_DEPTH_MAX:
        raise TooManyError
    for name in _listed(worktrees):
        if see(Spot(at, name, DIRECTORY, names.GIT), worktrees):
            _descend(at, name, worktrees, see, _worktree)


def _worktree(at: tuple[str, ...], worktree: int, see: See) -> None:
    # Without a commondir Git takes it for a repository of its own, with all that one has.
    _repository(at, worktree, see, COMMON)


_PARTS = ((HOOKS, _hooks), ("info", _info), (MODULES, _modules), (WORKTREES, _worktrees))


def _descend(at: tuple[str, ...], name: str, parent: int, see: See, into: Into) -> None:
    try:
        directory = ways.enter(name, parent)
    except (FileNotFoundError, NotADirectoryError):
        return  # nothing is there, or what `see` left as it was before
    try:
        into((*at, name), directory, see)
    except TooManyError:
        see(Spot(at, name, TOO_MANY, "more of it than is looked through"), parent)
    finally:
        os.close(directory)


def _listed(directory: int) -> list[str]:
    found = os.listdir(directory)
    if len(found) > LISTED_MAX:
        raise TooManyError
    return sorted(found)
