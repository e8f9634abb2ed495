"""A fresh process under a filter, as root and as an ordinary user."""

import ctypes
import json
import os
import select
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nono_sandbox.seccomp.syscalls import numbers

pytestmark = pytest.mark.linux
ARCH = os.uname().machine
NOBODY = 65534
IDENTITIES = [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]
LONG_ENOUGH_S = 120

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1


class SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class Kernel:
    """System calls by name or number, raw: registers hold just what is given."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        self._numbers = numbers(ARCH)

    def __call__(self, call: str | int, *args: object) -> int:
        """Return the call's result, or its errno negated."""
        number = self._numbers[call] if isinstance(call, str) else call
        words = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
        ctypes.set_errno(0)
        result: int = self._libc.syscall(ctypes.c_long(number), *words)
        return -ctypes.get_errno() if result == -1 else result

    def has(self, call: str) -> bool:
        return call in self._numbers

    def install(self, program: bytes) -> None:
        """Give up gaining privileges, then take *program* for a filter."""
        assert self("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        fprog = SockFprog(len(program) // 8, program)
        assert self("seccomp", SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(fprog)) == 0


Work = Callable[[], Any]
Confined = Callable[..., Any]


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture(params=IDENTITIES, ids=lambda uid: "root" if uid == 0 else "user")
def uid(request: pytest.FixtureRequest) -> int:
    identity: int = request.param
    return identity


@pytest.fixture
def yard(uid: int) -> Iterator[Path]:
    """A directory that *uid* owns and can reach, unlike tmp_path of another user."""
    path = Path(tempfile.mkdtemp(prefix="yard-"))
    os.chown(path, uid, -1)
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def confined(kernel: Kernel, uid: int) -> Confined:
    """Run a function in a child process as *uid* under filters, and return its JSON-able result."""

    def run(work: Work, *programs: bytes) -> Any:  # noqa: ANN401  # whatever the work returns
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_fd)
            _child(work, programs, kernel, uid, write_fd)
        os.close(write_fd)
        with os.fdopen(read_fd, "rb") as stream:
            ready, _, _ = select.select([stream], [], [], LONG_ENOUGH_S)
            if not ready:
                os.kill(pid, signal.SIGKILL)
            answer = stream.read()
        _, status = os.waitpid(pid, 0)
        assert answer, f"the confined process said nothing and ended with status {status}"
        result = json.loads(answer)
        assert "error" not in result, result["error"]
        return result["value"]

    return run


def _child(
    work: Work, programs: tuple[bytes, ...], kernel: Kernel, uid: int, write_fd: int
) -> None:
    try:
        os.setsid()
        if os.geteuid() != uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        for program in programs:
            kernel.install(program)
        answer = {"value": work()}
    except BaseException:  # noqa: BLE001  # a forked child must not return into pytest
        answer = {"error": traceback.format_exc()}
    try:
        os.write(write_fd, json.dumps(answer).encode())
    finally:
        os._exit(0)
