"""What a worker does itself, without executing a program: an agent's file tools.

A worker is confined before it gets here, so that whatever an agent named is opened with the
worker's rights and no others. It costs a fork instead of the start of an interpreter.

- Files: `reading`, `writing`, `editing`, by way of `opening`.
- Directories: `listing`, `searching`, `walking`, `globs`.
- Why something wasn't done: `failures`.

The request is JSON on standard input. The answer is a line of JSON, then bytes as that line says;
one with "error" in it means that nothing was changed.

Architecture invariant: the standard library, imported by the fork server before anything is
confined. Nothing here judges a path: the kernel does.
"""

from __future__ import annotations

import errno
import json
import os

from nono_sandbox.builtin import editing, listing, reading, searching, writing
from nono_sandbox.builtin.failures import FailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Never

    Operation = Callable[[Mapping[str, Any]], tuple[dict[str, object], bytes]]

OPERATIONS: Mapping[str, Operation] = {
    "read_file": reading.read_file,
    "write_file": writing.write_file,
    "edit_file": editing.edit_file,
    "list_directory": listing.list_directory,
    "search_files": searching.search_files,
}
_READ_BYTES = 1 << 20


def main(name: str) -> Never:
    """Do the operation *name* and exit."""
    try:
        header, body = answer(name, json.loads(_all_of(0)))
    except MemoryError:
        header, body = {"error": "it takes more memory than a call may use"}, b""
    _write(1, json.dumps(header).encode() + b"\n" + body)
    os._exit(0)


def answer(name: str, request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Return what comes of the operation *name*."""
    try:
        return OPERATIONS[name](request)
    except FailedError as error:
        return {"error": str(error), "path": error.path}, b""
    except OSError as error:
        code = error.errno or errno.EIO
        # Where it really is: a symlink's name says nothing of what was refused.
        path = _leading_to(error.filename) if isinstance(error.filename, str) else ""
        return {"error": os.strerror(code), "errno": code, "path": path}, b""
    except RecursionError:
        return {"error": "it is nested too deeply"}, b""


def _leading_to(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:
        return path  # some links of /proc may not even be read


def _all_of(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, _READ_BYTES):
        parts.append(part)
    return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
