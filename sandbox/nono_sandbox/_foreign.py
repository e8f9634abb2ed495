"""Calls into libc: as much of `ctypes` as `_uapi` needs, at a tenth of its import.

`ctypes` is Python around the extension module `_ctypes`, and most of its import is spent on types
and checks that aren't used here.

Architecture invariant: whatever is passed is passed as it is. A Python integer is a C int; what
is longer is wrapped by whoever calls.
"""

from __future__ import annotations

import _ctypes
from _ctypes import addressof, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Simple = _ctypes._SimpleCData[int]  # noqa: SLF001 - the name it has
else:
    Simple = _ctypes._SimpleCData  # noqa: SLF001 - the name it has

__all__ = [
    "Char", "Int", "Library", "Long", "Pointer", "UInt", "ULong", "addressof", "get_errno", "longs"
]  # fmt: skip


class Int(Simple):
    """A C int."""

    _type_ = "i"


class UInt(Simple):
    """A C unsigned int."""

    _type_ = "I"


class Long(Simple):
    """A C long."""

    _type_ = "l"


class ULong(Simple):
    """A C unsigned long, and a size_t."""

    _type_ = "L"


class Pointer(Simple):
    """A C void pointer."""

    _type_ = "P"


class Char(Simple):
    """A C char."""

    _type_ = "c"


def longs(count: int) -> _ctypes.Array[Long]:
    """Return *count* C longs, all zero, for libc to write to."""
    # `_ctypes` makes each of these types once, which takes longer than most of what it's for.
    return (Long * count)()


class _ReturningInt(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = Int


class _ReturningLong(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = Long


class Library:
    """What this process has loaded already, libc among it."""

    def __init__(self) -> None:
        self._handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]

    def call(self, name: str, *arguments: object) -> int:
        """Call the function *name*, whose result is an int."""
        return self.returning_int(name)(*arguments)

    def returning_int(self, name: str) -> Callable[..., int]:
        """Return the function *name*, whose result is an int."""
        return _ReturningInt((name, self))  # type: ignore[arg-type]

    def returning_long(self, name: str) -> Callable[..., int]:
        """Return the function *name*, whose result is a long."""
        return _ReturningLong((name, self))  # type: ignore[arg-type]
