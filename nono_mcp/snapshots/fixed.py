"""What nobody can change, user 0 neither, until somebody says otherwise: `chattr +i` and `+a`.

A restore that came upon such a file would stop in the middle of its work, so it's looked for
before.

Architecture invariant: nothing is opened or changed here, and what can't be told isn't fixed: the
restore itself will see.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots.steps import PUT, in_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nono_mcp.snapshots.steps import Node, Step

_IMMUTABLE, _APPEND = 0x10, 0x20
"""STATX_ATTR_*, in statx(2)."""
_WORDS: Final = 32
_ATTRIBUTES: Final = 1
_AT_SYMLINK_NOFOLLOW: Final = 0x100


def fixed(root_fd: int, steps: Iterable[Step], replaced: frozenset[bytes]) -> bytes | None:
    """Return the path of the first thing that *steps* are about and nobody can change, if any."""
    seen: set[bytes] = set()
    for node in _changed(steps, replaced):
        if node.key not in seen:
            seen.add(node.key)
            path = node.path()
            if _is_fixed(root_fd, path):
                return path
    return None


def _changed(steps: Iterable[Step], replaced: frozenset[bytes]) -> Iterator[Node]:
    """Yield what is changed or removed, and the directories in which names come or go."""
    for step in steps:
        before, after = step.before, step.after
        if before is not None and after is not None and before.is_directory and after.is_directory:
            if before._replace(target=b"") != after._replace(target=b""):
                yield step.node
            continue
        if before is not None:
            yield step.node
        if step.node.above is not None and not (step.what == PUT and in_place(step, replaced)):
            yield step.node.above


def _is_fixed(root_fd: int, path: bytes) -> bool:
    if sys.platform != "linux":
        try:
            status = os.stat(path or b".", dir_fd=root_fd, follow_symlinks=False)
        except OSError:
            return False
        # Python has them where the system has, which not every Unix does.
        flags: int = getattr(status, "st_flags", 0)
        bits = stat.UF_IMMUTABLE | stat.UF_APPEND | stat.SF_IMMUTABLE | stat.SF_APPEND
        return bool(flags & bits)
    from nono_sandbox._foreign import Pointer, addressof, longs  # noqa: PLC0415 - Linux's alone
    from nono_sandbox._uapi import LIBC  # noqa: PLC0415 - likewise

    words = longs(_WORDS)
    where = Pointer(addressof(words))
    try:
        failed = LIBC.call("statx", root_fd, path or b".", _AT_SYMLINK_NOFOLLOW, 0, where)
    except AttributeError:
        return False  # a libc without it
    return not failed and bool(words[_ATTRIBUTES] & (_IMMUTABLE | _APPEND))
