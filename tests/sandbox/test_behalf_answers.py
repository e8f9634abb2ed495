"""Whoever acts on behalf answers as the kernel would, waits as it would, and lends nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.behalf import caller_socket, notifications
from nono_sandbox.confinement import (
    LANDLOCK,
    OPEN,
    Network,
)
from tests.sandbox.local_sockets import LONG_ENOUGH_S, sockets

if TYPE_CHECKING:
    from tests.sandbox.conftest import Confine, Sandbox

pytestmark = pytest.mark.linux


without_namespaces = pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)


@pytest.mark.claim("privilege.none")
def test_whoever_connects_lends_no_privilege(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sockets(
            """
        own = serving("own")
        attempt("own", lambda: connected("own"))
        os.chmod("own", 0o555)
        attempt("closed", lambda: connected("own"))
        os.chmod("own", 0o777)
        os.mkdir("closed")
        os.rename("own", "closed/own")
        os.chmod("closed", 0)
        attempt("beneath what is closed", lambda: connected("closed/own"))
        os.chmod("closed", 0o700)
        attempt("opened", lambda: connected("closed/own"))
        def multicast():
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).connect((0, 1))
        attempt("to a group of the kernel's", multicast)
        """
        )
    )
    assert outcome.done == ["own", "opened"]


@pytest.mark.claim("privilege.none")
def test_a_port_of_the_privileged_isnt_bound_in_an_open_network(confine: Confine) -> None:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii")
    port = 1023
    outcome = confine(network=Network(OPEN)).attack(
        """
        import socket
        attempt("bind", lambda: socket.socket().bind(("127.0.0.1", ARGUMENTS[0])))
        """,
        port,
    )
    assert outcome.said["bind"] == ("EACCES" if int(first) > port else "done")


@without_namespaces
def test_arguments_mean_what_the_kernel_takes_them_for(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sockets(
            """
        own = serving("own")
        memory = in_memory("own")
        HIGH = 0xDEADBEEF << 32
        one = socket.socket(1)
        fd = one.fileno()
        def call(*arguments):
            return lambda: syscall("connect", *arguments)
        say("own", bool(own))
        attempt("no address", call(fd, 0, 110))
        attempt("unmapped", call(fd, 0x10, 110))
        attempt("the kernel's", call(fd, (1 << 64) - 4096, 110))
        attempt("the other half", call(fd, 1 << 63, 110))
        attempt("negative", call(fd, memory, (1 << 64) - 1))
        attempt("too long", call(fd, memory, 129))
        attempt("longer than paths", call(fd, memory, 111))
        attempt("too short", call(fd, memory, 1))
        attempt("no descriptor", call(999, memory, 110))
        attempt("a negative one", call((1 << 64) - 1, memory, 110))
        attempt("no socket", call(0, memory, 110))
        attempt("an O_PATH one", call(os.open("own", os.O_PATH), memory, 110))
        attempt("of another family", call(fd, ctypes.create_string_buffer(
            struct.pack("=HHI8x", 2, 80, 0x100007F)), 16))
        attempt("high halves", call(HIGH | fd, memory, HIGH | 110))
        attempt("twice", call(fd, memory, 110))
        def x32():
            raw(0x40000000 | NUMBERS["connect"], socket.socket(1).fileno(), memory, 110)
        attempt("x32", x32)
        """
        )
    )
    said = outcome.said
    faults = ("no address", "unmapped", "the kernel's", "the other half")
    assert {said[name] for name in faults} == {"EFAULT"}
    lengths = ("negative", "too long", "longer than paths", "too short", "of another family")
    assert {said[name] for name in lengths} == {"EINVAL"}
    assert {said[name] for name in ("no descriptor", "a negative one", "an O_PATH one")} == {
        "EBADF"
    }
    assert (said["no socket"], said["twice"], said["x32"]) == ("ENOTSOCK", "EISCONN", "ENOSYS")
    assert outcome.done == ["high halves"]


def test_a_connection_that_waits_heeds_signals_timeouts_and_the_server(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sockets(
            """
        own = socket.socket(1)
        own.bind("own")
        own.listen(0)
        waiting = [connected("own")]
        memory = in_memory("own")
        def call(one):
            syscall("connect", one.fileno(), memory, 110)
        quick = socket.socket(1)
        quick.setblocking(False)
        attempt("without blocking", lambda: call(quick))
        patient = socket.socket(1)
        patient.setsockopt(1, socket.SO_SNDTIMEO, struct.pack("@qq", 0, 50000))
        attempt("for a while", lambda: call(patient))
        signal.signal(signal.SIGALRM, lambda *_: say("handled", True))
        # Again and again: the first may come before the call.
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        attempt("interrupted", lambda: call(socket.socket(1)))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.siginterrupt(signal.SIGALRM, False)
        def accept_later():
            time.sleep(0.3)
            own.accept()
            own.accept()
        threading.Thread(target=accept_later).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        attempt("restarted", lambda: call(socket.socket(1)))
        signal.setitimer(signal.ITIMER_REAL, 0)
        """
        )
    )
    said = outcome.said
    assert said["handled"]
    assert (said["without blocking"], said["for a while"]) == ("EAGAIN", "EAGAIN")
    assert (said["interrupted"], said["restarted"]) == ("EINTR", "done")


def test_many_at_once_are_served_while_some_wait(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sockets(
            """
        full = socket.socket(1)
        full.bind("full")
        full.listen(0)
        kept = [connected("full")]
        def wait():
            try:
                connected("full")
            except OSError:
                pass
        for _ in range(8):
            threading.Thread(target=wait, daemon=True).start()
        own = serving("own")
        def serve():
            while True:
                one, _ = own.accept()
                one.sendall(one.recv(10))
                one.close()
        threading.Thread(target=serve, daemon=True).start()
        heard = []
        def ask(number):
            for turn in range(10):
                with connected("own") as one:
                    one.sendall(b"%d.%d" % (number, turn))
                    heard.append(one.recv(10) == b"%d.%d" % (number, turn))
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        say("heard", len(heard) == 160 and all(heard))
        sys.stdout.flush()
        os._exit(0)
        """
        )
    )
    assert outcome.said["heard"]


@without_namespaces
def test_a_call_that_ends_while_it_waits_leaves_the_next_one_served(sandbox: Sandbox) -> None:
    waits = """
        own = socket.socket(1)
        own.bind("full")
        own.listen(0)
        kept = [connected("full")]
        say("ready", True)
        connected("full")
        """
    running = sandbox.begin_attack(sockets(waits))
    running.wait_for("ready")
    running.lane.end("test")
    assert running.wait().ended.limit == "test"
    outcome = sandbox.attack(
        sockets(
            """
        own = serving("own")
        attempt("connect", lambda: connected("own"))
        """
        )
    )
    assert outcome.done == ["connect"]


def test_a_socket_that_would_linger_detains_nobody_but_its_owner() -> None:
    """Its owner may have closed it while whoever connects on its behalf has it."""
    with socket.socket() as listening, socket.socket() as lingering:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        lingering.connect(listening.getsockname())
        long = struct.pack("ii", 1, 3 * LONG_ENOUGH_S)
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, long)
        with contextlib.suppress(BlockingIOError):
            while True:
                lingering.send(bytes(65536), socket.MSG_DONTWAIT)
        caller = notifications.Caller(os.getpid())
        caller.take(lingering.fileno())
        os.close(lingering.detach())
        before = signal.getsignal(signal.SIGALRM)
        caller_socket.be_interruptible()
        try:
            began_at = time.monotonic()
            caller_socket.give_back(caller)
            assert time.monotonic() - began_at < LONG_ENOUGH_S
        finally:
            signal.signal(signal.SIGALRM, before)


@without_namespaces
def test_a_caller_that_is_being_killed_is_told_by_an_error(tier: str) -> None:
    """Whoever acts goes on: a thread has no umask left some time before it is gone."""
    del tier
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        for asked in (notifications.umask, lambda tid: notifications.Caller(tid).hold()):
            with pytest.raises(OSError):  # noqa: PT011 - which one depends on how far it is
                asked(pid)
    finally:
        os.waitpid(pid, 0)
