"""By which names a directory finds what is in it: as many of them as it takes for one.

Whether names that differ in case are one is for each directory to say: on ext4 one was told so, FAT
is that way, and of a server's nobody knows. So it's asked, by a look for the same file, and only of
what is written nearly as a guarded name is.

Architecture invariant: reads only. What a directory tells apart is never taken for one.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import names, ways

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def as_guarded(name: str, directory: int) -> str:
    """Return the guarded name that finds *name* in the open *directory* too; else *name*."""
    return _if_one(names.spelled(name), name, directory)


def as_guarded_inside(around: str, name: str, directory: int) -> str:
    """Return the same of a name that is guarded in a directory *around* it, the open one."""
    return _if_one(names.spelled_inside(around, name), name, directory)


def way_as_guarded(root: str, parts: Sequence[str]) -> list[str]:
    """Return a way from the directory *root* by the guarded names that find the same.

    In a repository by the names that Git has for what is guarded there.
    """
    way: list[str] = []
    at = root
    for name in parts:
        written = _spelled_in(way[-1] if way else "", name)
        way.append(written if written != name and _is_one_at(at, written, name) else name)
        at = f"{at}/{name}"
    return way


def _spelled_in(around: str, name: str) -> str:
    if names.is_git(around):
        return names.folded(name)
    inside = names.spelled_inside(around, name) if names.is_around(around) else name
    return inside if inside != name else names.spelled(name)


def _is_one_at(path: str, name: str, other: str) -> bool:
    """Tell whether the directory at *path* finds the same by both names, and lists but one."""
    try:
        directory = os.open(path, ways.DIRECTORY)
    except OSError:
        return False
    try:
        # Two hard links may be called so anywhere.
        return is_one(name, other, directory) and not {name, other}.issubset(os.listdir(directory))
    except OSError:
        return False
    finally:
        os.close(directory)


def guarded(directory: int) -> tuple[str, ...]:
    """Return the guarded names that find something in the open *directory*."""
    return tuple(names.guarded(_found(os.listdir(directory), directory)))


def _found(present: Iterable[str], directory: int) -> Iterable[str]:
    return dict.fromkeys(as_guarded(name, directory) for name in present)


def _if_one(spelled: str, name: str, directory: int) -> str:
    return spelled if spelled == name or is_one(spelled, name, directory) else name


def is_one(name: str, other: str, directory: int) -> bool:
    """Tell whether the open *directory* finds the same by both names."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return ways.is_same(found, os.stat(other, dir_fd=directory, follow_symlinks=False))
    except OSError:
        return False
