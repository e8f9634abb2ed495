"""The live processes of macOS, by libproc: what `tree` walks.

`proc_listpids(PROC_ALL_PIDS)` instead of `proc_listchildpids`: children by parent would lose what
launchd has adopted. Names and layouts are those of <libproc.h>, <sys/proc_info.h> and, for the
identities, of XNU's bsd/sys/proc_info_private.h (`PROC_PIDUNIQIDENTIFIERINFO`; `p_puniqueid` is
"set on fork/spawn, doesn't change if reparented"), which Apple publishes and doesn't promise.

Nobody has run it on a Mac.
"""

from __future__ import annotations

import ctypes
import os

from nono_sandbox.errors import UnsupportedError
from nono_sandbox.seatbelt.tree import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

LIBPROC = "/usr/lib/libproc.dylib"
PROC_ALL_PIDS = 1
PROC_PIDUNIQIDENTIFIERINFO = 17
SPARE = 64
"""Room for the processes that start between counting and listing."""


class ProcUniqIdentifierInfo(ctypes.Structure):
    """struct proc_uniqidentifierinfo."""

    _fields_: ClassVar = [
        ("p_uuid", ctypes.c_uint8 * 16),
        ("p_uniqueid", ctypes.c_uint64),
        ("p_puniqueid", ctypes.c_uint64),
        ("p_idversion", ctypes.c_int32),
        ("p_orig_ppidversion", ctypes.c_int32),
        ("p_reserve2", ctypes.c_uint64),
        ("p_reserve3", ctypes.c_uint64),
    ]


def processes(library: str = LIBPROC) -> Iterator[Process]:
    """Yield every process that can be asked; zombies can't.

    Raises:
        UnsupportedError: There is no libproc here.
    """
    try:
        libproc = ctypes.CDLL(library, use_errno=True)
    except OSError as error:
        raise UnsupportedError(f"{library}: this isn't macOS") from error
    for pid in _pids(libproc):
        info = ProcUniqIdentifierInfo()
        size = ctypes.sizeof(info)
        got = libproc.proc_pidinfo(
            ctypes.c_int(pid),
            ctypes.c_int(PROC_PIDUNIQIDENTIFIERINFO),
            ctypes.c_uint64(0),
            ctypes.byref(info),
            ctypes.c_int(size),
        )
        try:
            session = os.getsid(pid)
        except OSError:
            continue
        if got == size:
            yield Process(pid, session, info.p_uniqueid, info.p_puniqueid)


def _pids(libproc: ctypes.CDLL) -> list[int]:
    none = ctypes.c_void_p(None)
    kind, unused = ctypes.c_uint32(PROC_ALL_PIDS), ctypes.c_uint32(0)
    count = libproc.proc_listpids(kind, unused, none, ctypes.c_int(0)) // ctypes.sizeof(
        ctypes.c_int
    )
    buffer = (ctypes.c_int * (count + SPARE))()
    size = ctypes.c_int(ctypes.sizeof(buffer))
    # Whether a count or bytes come back has changed between wrappers; unused places are zero.
    libproc.proc_listpids(kind, unused, buffer, size)
    return [pid for pid in buffer if pid > 0]
