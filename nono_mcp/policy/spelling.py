"""How a path is written where directories find a file by other spellings too.

The kernel reports a name as somebody asked for it first, which needn't be how it's listed, and
paths are compared as they are written. On most such file systems all spellings are one name to the
kernel, so that what is mounted there is met by each; on those of a server (FUSE, 9P, CIFS) they
aren't.

Architecture invariant: reads only. Where names are told apart, it costs one look at each path.
"""

from __future__ import annotations

import os

from nono_sandbox.opath import LOOK


def is_found_otherwise(location: str, status: os.stat_result) -> bool:
    """Tell whether what has that *status*, at *location*, is found in another case as well."""
    named, beneath = _lettered(location)
    if not named:
        return False
    other = _in_other_case(named)
    try:
        if not os.path.samestat(os.lstat(other + beneath), status):
            return False
        # Two hard links may be called so anywhere.
        names = {os.path.basename(named), os.path.basename(other)}
        return not names.issubset(os.listdir(os.path.dirname(named)))
    except OSError:
        return False


def is_loose(location: str, descriptor: int) -> bool:
    """Tell whether the other spelling of what is open is a name of its own to the kernel."""
    named, beneath = _lettered(location)
    other = os.open(_in_other_case(named) + beneath, LOOK)
    try:
        names = {os.readlink(f"/proc/self/fd/{one}") for one in (descriptor, other)}
    finally:
        os.close(other)
    return len(names) > 1


def as_written(location: str) -> str:
    """Return *location* as its directories list it."""
    written = ""
    for name in location.split("/")[1:]:
        written = f"{written}/{_listed(written or '/', name)}"
    return written


def _lettered(location: str) -> tuple[str, str]:
    """Part *location* behind the last of its names that has letters."""
    named = location
    while named and _in_other_case(named) == named:
        named = named.rpartition("/")[0]
    return named, location[len(named) :]


def _in_other_case(location: str) -> str:
    above, _, name = location.rpartition("/")
    return f"{above}/{name.swapcase()}"


def _listed(directory: str, name: str) -> str:
    """Return how *directory* lists what it finds by *name*."""
    try:
        present = os.listdir(directory)
        if name in present:
            return name
        status = os.lstat(f"{directory}/{name}")
        # A short name of FAT's, or letters that fold, are no other case of it.
        for one in sorted(present, key=lambda one: one.casefold() != name.casefold()):
            if os.path.samestat(os.lstat(f"{directory}/{one}"), status):
                return one
    except OSError:
        return name
    return name
