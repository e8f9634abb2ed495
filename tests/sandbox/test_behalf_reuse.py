"""Who waits for a call is killed, and another thread has its number before it is acted for."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox import _uapi, namespaces
from nono_sandbox.behalf import notifications
from nono_sandbox.behalf.answerer import Answerer
from nono_sandbox.confinement import PORTS, WRITE, Grant, Network
from nono_sandbox.seccomp import bpf
from nono_sandbox.seccomp.rules import NOTIFY, Row
from nono_sandbox.seccomp.syscalls import numbers
from tests.ports import unused_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.linux


class Killed:
    """A process that is killed while its call waits; then its number is the test's own thread's.

    It's forked off the test, so that its arguments, which the test has to keep, mean in here what
    they mean in there.
    """

    def __init__(self, call: str, arguments: tuple[Any, ...]) -> None:
        mine, its = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)
                program = bpf.compile_rows((Row(call, NOTIFY, "it waits"),), _uapi.MACHINE)
                flags = _uapi.SECCOMP_FILTER_FLAG_NEW_LISTENER
                socket.send_fds(its, [b"x"], [_uapi.seccomp_filter(program, flags)])
                _uapi.syscall(call, numbers(_uapi.MACHINE)[call], *arguments)
            finally:
                os._exit(1)
        with mine, its:
            _, (self.listener,), _, _ = socket.recv_fds(mine, 1, 1)
        self.notice = notifications.receive(self.listener)

    def reuse(self) -> notifications.Notice:
        """Return what waits, as if it were this thread's."""
        assert self.notice is not None
        return self.notice.replace(tid=threading.get_native_id())

    def kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


@pytest.fixture
def alarms() -> Iterator[None]:
    """Leave this process's handler of alarms as it was."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, before)


def act_for(
    killed: Killed,
    monkeypatch: pytest.MonkeyPatch,
    checks: int = 0,
    **terms: Any,  # noqa: ANN401 - what is said of a lane
) -> None:
    """Have a call acted for whose thread is killed once it was found to wait *checks* times."""
    left = [checks]

    def valid(notice: notifications.Notice) -> bool:
        if not left[0]:
            killed.kill()
        left[0] -= 1
        return is_valid(notice)

    is_valid = notifications.valid
    notice = killed.reuse()
    monkeypatch.setattr(notifications, "valid", valid)
    monkeypatch.setattr(notifications, "receive", lambda _: notice)
    asked = [terms["asked"].detach()] if "asked" in terms else []
    said = "", terms.get("network", Network()), terms.get("writable", ()), terms.get("sockets", ())
    answerer = Answerer(select.poll())
    try:
        answerer.meet(said, [killed.listener, os.open("/", os.O_PATH), *asked])
        answerer.attend([(killed.listener, select.POLLIN)])
        answerer.attend([(killed.listener, select.POLLHUP)])
    finally:
        killed.kill()


def buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, len(content))


def address(path: Path) -> ctypes.Array[ctypes.c_char]:
    return buffer(b"\1\0" + os.fsencode(path) + b"\0")


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("there")
        one.listen()
        yield one


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@pytest.mark.usefixtures("alarms", "listening")
def test_no_socket_of_who_has_its_number_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a network of the session's own, where nothing of it is held before."""
    name = address(tmp_path / "there")
    sockets = (identity(tmp_path / "there"),)
    with socket.socket(socket.AF_UNIX) as ours:
        killed = Killed("connect", (ours.fileno(), name, len(name)))
        act_for(killed, monkeypatch, sockets=sockets, asked=namespaces.asking())
        with pytest.raises(OSError, match="not connected"):
            ours.getpeername()


@pytest.mark.usefixtures("alarms")
def test_no_socket_of_who_has_its_number_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    name = buffer(b"\2\0" + port.to_bytes(2, "big") + bytes((127, 0, 0, 1)) + bytes(8))
    with socket.socket() as ours:
        killed = Killed("bind", (ours.fileno(), name, len(name)))
        act_for(killed, monkeypatch, network=Network(PORTS, bind_ports=(port,)))
        assert ours.getsockname() == ("0.0.0.0", 0)  # noqa: S104 - none


@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("checks", [0, 1])
def test_nothing_of_who_has_its_number_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: int
) -> None:
    """Neither what it holds, nor to where it is."""
    monkeypatch.chdir(tmp_path)
    name = address(Path("there")) if checks else None
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
    ):
        theirs.bind("there")
        if not checks:
            ours.connect("there")
        sent = (ours.fileno(), buffer(b"ours"), 4, 0, name, len(name) if name else 0)
        killed = Killed("sendto", sent)
        act_for(killed, monkeypatch, checks, sockets=(identity(tmp_path / "there"),))
        assert select.select([theirs], [], [], 0)[0] == []


@pytest.mark.usefixtures("alarms")
def test_no_mode_is_changed_where_who_has_its_number_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch(0o600)
    name = buffer(b"file\0")
    killed = Killed("fchmodat", (_uapi.AT_FDCWD, name, 0o644))
    grant = Grant(str(tmp_path), WRITE, identity=identity(tmp_path))
    act_for(killed, monkeypatch, writable=(grant,))
    assert file.stat().st_mode & 0o777 == 0o600
