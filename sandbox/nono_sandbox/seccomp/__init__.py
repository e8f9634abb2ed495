"""The seccomp filter of a worker: a table of refusals, compiled to a program for the kernel.

`base_filter` is for whoever starts workers to install on itself once; what it starts inherits
it. A filter that has a listener must be installed before it, since it refuses to make one. Of
several filters the most restrictive answer counts, so `closed_network_filter` can be put on top
for one call.

- What is refused: `table`, `sockets`, `metadata`, in the words of `rules`; numbers: `syscalls`.
- What becomes of it: `bpf`; what that says of a call: `simulate`, for tests.

Architecture invariant: pure, no I/O and no ctypes. It returns the bytes of an array of struct
sock_filter; no_new_privs and seccomp(SECCOMP_SET_MODE_FILTER) are the caller's.
"""

from __future__ import annotations

from nono_sandbox.seccomp.bpf import UnknownCallError, compile_rows
from nono_sandbox.seccomp.metadata import WITHOUT_METADATA
from nono_sandbox.seccomp.rules import ALLOW, Condition, Row
from nono_sandbox.seccomp.sockets import WITHOUT_LOCAL, WITHOUT_NETWORK
from nono_sandbox.seccomp.syscalls import UnsupportedArchitectureError
from nono_sandbox.seccomp.table import Options, rows

__all__ = [
    "ALLOW",
    "Condition",
    "Options",
    "Row",
    "UnknownCallError",
    "UnsupportedArchitectureError",
    "base_filter",
    "closed_network_filter",
    "compile_rows",
    "no_local_filter",
    "rows",
    "unwritten_filter",
]


def base_filter(options: Options, arch: str) -> bytes:
    """Return the filter for workers that *options* describe on `os.uname().machine` *arch*.

    Raises:
        UnsupportedArchitectureError: There is no table for *arch*; don't go on.
        ValueError: The network mode is none that is known; don't go on.
    """
    return compile_rows(rows(options), arch)


def closed_network_filter(arch: str) -> bytes:
    """Return the filter for one call that gives up the network its session has.

    Raises:
        UnsupportedArchitectureError: There is no table for *arch*; don't go on.
    """
    return compile_rows(WITHOUT_NETWORK, arch)


def no_local_filter(arch: str) -> bytes:
    """Return the filter for one call that gives up local sockets bound on its behalf.

    Raises:
        UnsupportedArchitectureError: There is no table for *arch*; don't go on.
    """
    return compile_rows(WITHOUT_LOCAL, arch)


def unwritten_filter(arch: str) -> bytes:
    """Return the filter for one call that gives up everything its session may write.

    Raises:
        UnsupportedArchitectureError: There is no table for *arch*; don't go on.
    """
    return compile_rows(WITHOUT_METADATA, arch)
