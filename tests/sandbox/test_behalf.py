"""Sockets without namespaces: connected, bound and listened on by another, who judges copies."""

from __future__ import annotations

import contextlib
import os
import select
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
    NAMESPACES,
    OPEN,
    PORTS,
    READ,
    WRITE,
    Narrowing,
    Network,
)
from tests.sandbox.local_sockets import Outsider, sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = pytest.mark.linux
LONG_ENOUGH_S = 60
with_namespaces = pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
without_namespaces = pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)


@pytest.fixture
def outsider(yard: Yard) -> Iterator[Outsider]:
    paths = (yard.workspace / "theirs", yard.reading / "theirs", yard.outside / "theirs")
    with contextlib.closing(Outsider(*paths)) as them:
        yield them


@pytest.mark.claim("net.unix-sockets")
def test_a_socket_of_a_program_outside_isnt_spoken_to_wherever_it_is(
    sandbox: Sandbox, yard: Yard, outsider: Outsider
) -> None:
    outcome = sandbox.attack(
        sockets(
            """
        workspace, reading, outside = ARGUMENTS
        own = serving("own")
        attempt("our own", lambda: connected("own"))
        for path in ("theirs", f"{reading}/theirs", f"{outside}/theirs", f"{workspace}/theirs"):
            attempt(path, lambda: connected(path))
            attempt(path + ", sequenced", lambda: connected(path, socket.SOCK_SEQPACKET))
        os.link("theirs", "linked")
        os.symlink(f"{outside}/theirs", "symlinked")
        os.mkdir("sub2")
        os.rename("theirs", "sub2/own")
        for path in ("linked", "symlinked", "sub2/own", "sub2/../linked"):
            attempt(path, lambda: connected(path))
        os.rename("own", "kept")
        os.rename("linked", "own")
        attempt("replaced", lambda: connected("own"))
        attempt("moved", lambda: connected("kept"))
        fd = os.open("sub2/own", os.O_PATH)
        for path in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}", f"/proc/{os.getpid()}/fd/{fd}"):
            attempt(path, lambda: connected(path))
        for fd in range(3, 40):
            attempt(f"descriptor {fd} of whoever acts", lambda: connected(f"/proc/self/fd/{fd}"))
        attempt("no socket", lambda: connected("notes"))
        attempt("nothing", lambda: connected("nothing"))
        """
        ),
        yard.workspace,
        yard.reading,
        yard.outside,
    )
    assert outcome.done == ["our own", "moved"]
    assert outcome.said["no socket"] == "ECONNREFUSED"
    assert outcome.said["nothing"] == "ENOENT"
    outsider.assert_unreached()


@pytest.mark.claim("net.unix-sockets")
def test_a_thread_that_swaps_the_address_gains_nothing(
    sandbox: Sandbox, outsider: Outsider
) -> None:
    outcome = sandbox.attack(
        sockets(
            """
        own = serving("own")
        ours, theirs = address("own"), address("theirs")
        memory = in_memory("own")
        going = True
        def swap():
            while going:
                ctypes.memmove(memory, theirs, 110)
                ctypes.memmove(memory, ours, 110)
        swapping = threading.Thread(target=swap)
        sys.setswitchinterval(1e-6)
        swapping.start()
        reached = refused = 0
        end = time.monotonic() + 1.5
        while time.monotonic() < end or not reached or not refused:
            one = socket.socket(socket.AF_UNIX)
            try:
                syscall("connect", one.fileno(), memory, 110)
                reached += 1
                own.accept()[0].close()
            except OSError as error:
                assert error.errno == errno.EACCES, error
                refused += 1
        going = False
        swapping.join()
        say("both seen", bool(reached and refused))
        """
        )
    )
    assert outcome.said["both seen"]
    outsider.assert_unreached()


@pytest.mark.claim("net.unix-sockets")
def test_a_target_that_is_replaced_meanwhile_gains_nothing(
    sandbox: Sandbox, yard: Yard, outsider: Outsider
) -> None:
    """By a symlink, by a hard link, and while a socket is being bound to its name."""
    outcome = sandbox.attack(
        sockets(
            """
        outside, = ARGUMENTS
        own = serving("own")
        going = True
        def flip():
            while going:
                for target in ("own", outside + "/theirs", "theirs"):
                    os.symlink(target, "next")
                    os.rename("next", "flipping")
        def plant():
            while going:
                for act in (lambda: os.link("theirs", "planted"),
                            lambda: os.rename("planted", "bound")):
                    try:
                        act()
                    except FileNotFoundError:
                        pass
                    except FileExistsError:
                        pass
        threads = [threading.Thread(target=flip), threading.Thread(target=plant)]
        os.symlink("own", "flipping")
        sys.setswitchinterval(1e-6)
        for one in threads:
            one.start()
        seen = set()
        end = time.monotonic() + 1.5
        while time.monotonic() < end or len(seen) < 2:
            try:
                connected("flipping")
                own.accept()[0].close()
                seen.add("own")
            except OSError as error:
                # In the first tier what lies outside isn't there.
                assert error.errno in (errno.EACCES, errno.ENOENT), error
                seen.add("refused")
            bound = socket.socket(socket.AF_UNIX)
            try:
                os.unlink("bound")
            except FileNotFoundError:
                pass
            try:
                bound.bind("bound")
            except OSError as error:
                assert error.errno == errno.EADDRINUSE, error
            for _ in range(3):
                try:
                    connected("bound")
                except OSError:
                    pass  # refused, or nobody listens
        going = False
        for one in threads:
            one.join()
        say("seen", sorted(seen))
        """
        ),
        yard.outside,
    )
    assert outcome.said["seen"] == ["own", "refused"]
    outsider.assert_unreached()


@pytest.mark.claim("net.unix-sockets")
def test_a_socket_that_was_granted_by_itself_is_spoken_to(
    confine: Confine, yard: Yard, outsider: Outsider
) -> None:
    """To write it, that is; and no other is, though it takes the name."""
    paths = [yard.outside / "theirs", yard.reading / "theirs", yard.workspace / "theirs"]
    status = paths[0].stat()
    grants = [yard.granted(path, READ | WRITE) for path in paths[:2]]
    outcome = confine(*grants, sockets=((status.st_dev, status.st_ino),)).attack(
        sockets(
            """
        for path in ARGUMENTS:
            attempt(path, lambda: connected(path))
        os.symlink(ARGUMENTS[0], "link")
        attempt("by a link", lambda: connected("link"))
        os.chdir(os.path.dirname(ARGUMENTS[0]))
        attempt("from there", lambda: connected("theirs"))
        """
        ),
        *paths,
    )
    assert outcome.done == [str(paths[0]), "by a link", "from there"]
    outsider.assert_reached(1)


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


@pytest.mark.claim("net.unix-sockets")
@with_namespaces
def test_in_a_network_of_its_own_every_kind_of_its_own_socket_is_spoken_to(
    sandbox: Sandbox, yard: Yard
) -> None:
    """By paths, looked up as the kernel would for the worker itself, and by names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(str(yard.workspace / "datagrams"))
        outcome = sandbox.attack(
            sockets(
                """
            kept = []
            def reached(path, kind=1):
                one = socket.socket(1, kind)
                kept.append(one)
                one.bind(path)
                if kind != 2:
                    one.listen()
                other = socket.socket(1, kind)
                other.connect(path)
                other.send(b"x")
            attempt("a stream", lambda: reached("stream"))
            attempt("sequenced", lambda: reached("sequenced", 5))
            attempt("datagrams", lambda: reached("own-datagrams", 2))
            attempt("a name", lambda: reached("\\0name"))
            attempt("a name of datagrams", lambda: reached("\\0datagrams", 2))
            attempt("in /tmp", lambda: reached("/tmp/stream"))
            os.symlink(os.getcwd() + "/stream", "link")
            attempt("a link", lambda: connected("link"))
            os.mkdir("deep")
            os.chdir("deep")
            attempt("a parent's", lambda: connected("../stream"))
            attempt("theirs", lambda: connected("../datagrams", 2))
            attempt("nothing", lambda: connected("nothing"))
            attempt("no socket", lambda: connected("../notes"))
            # Of the machine's processes, seen by whoever acts, nothing is told.
            say("machine", sorted({
                errno.errorcode[socket.socket(1).connect_ex(f"/proc/{pid}/status")]
                for pid in (os.getpid() + 100, *ARGUMENTS)}))
            """
            ),
            os.getpid(),
            os.getppid(),
        )
        assert select.select([theirs], [], [], 0)[0] == []
    own = ["a stream", "sequenced", "datagrams", "a name", "a name of datagrams", "in /tmp"]
    assert outcome.done == [*own, "a link", "a parent's"]
    said = outcome.said
    assert (said["theirs"], said["nothing"], said["no socket"]) == (
        "EACCES",
        "ENOENT",
        "ECONNREFUSED",
    )
    assert said["machine"] == ["ENOENT"]


@pytest.mark.claim("net.unix-sockets")
@without_namespaces
def test_no_name_of_a_program_outside_is_reached(sandbox: Sandbox) -> None:
    name = f"\0nono-test-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(name)
        outside.listen()
        outcome = sandbox.attack(
            sockets(
                """
            name, = ARGUMENTS
            one = socket.socket(1)
            def raw_connect(body):
                syscall("connect", one.fileno(), ctypes.create_string_buffer(body, 110),
                        len(body))
            attempt("connect", lambda: connected(name))
            attempt("connect, sequenced", lambda: connected(name, 5))
            attempt("its whole length", lambda: raw_connect(
                struct.pack("=H", 1) + name.encode().ljust(108, b"\\0")))
            attempt("unnamed", lambda: raw_connect(struct.pack("=H", 1)))
            attempt("unspecified", lambda: raw_connect(struct.pack("=H14x", 0)))
            for kind, words in ((3, "raw"), (0x10003, "raw, high bit"), (4, "rdm")):
                attempt(words, lambda: socket.socket(1, kind))
                attempt(words + ", paired", lambda: socket.socketpair(1, kind))
            """
            ),
            name,
        )
        assert outcome.done == []
        assert {outcome.said[name] for name in ("unnamed", "unspecified")} == {"EINVAL"}
        assert outcome.said["connect"] == "ECONNREFUSED"
        assert select.select([outside], [], [], 0)[0] == []


@pytest.mark.claim("net.unix-sockets")
@without_namespaces
def test_a_socket_is_made_where_a_file_could_be_and_nowhere_else(
    sandbox: Sandbox, yard: Yard
) -> None:
    before = yard.seen(yard.outside), yard.seen(yard.reading)
    outcome = sandbox.attack(
        sockets(
            """
        outside, reading = ARGUMENTS
        os.symlink(outside, "way")
        for path in (f"{outside}/new", f"{reading}/new", "way/new", "../outside/new",
                     f"/proc/{os.getppid()}/cwd/new", "notes", "no/new"):
            attempt(path, lambda: serving(path))
        fd = os.open(outside, os.O_PATH)
        attempt("by O_PATH", lambda: serving(f"/proc/self/fd/{fd}/new"))
        os.umask(0o027)
        attempt("in the workspace", lambda: serving("new"))
        attempt("by its whole name", lambda: serving(os.getcwd() + "/sub/new"))
        os.chdir("sub")
        attempt("from elsewhere", lambda: serving("newer"))
        attempt("a long name", lambda: serving("n" * 107))
        say("mode", oct(os.stat("newer").st_mode))
        one = serving("../named")
        say("name", one.getsockname())
        """
        ),
        yard.outside,
        yard.reading,
    )
    kept = ["in the workspace", "by its whole name", "from elsewhere", "a long name"]
    assert outcome.done == kept
    assert (outcome.said["mode"], outcome.said["name"]) == ("0o140750", "../named")
    assert (yard.seen(yard.outside), yard.seen(yard.reading)) == before
    assert (yard.workspace / "sub/newer").stat().st_uid == os.getuid()


@pytest.mark.claim("net.unix-sockets")
@without_namespaces
def test_a_call_that_gave_up_writes_binds_nothing(sandbox: Sandbox, yard: Yard) -> None:
    for writes in ((), (str(yard.workspace / "sub"),)):
        outcome = sandbox.attack(
            sockets(
                """
            attempt("bind", lambda: serving("new"))
            attempt("a pair", lambda: socket.socketpair())
            """
            ),
            narrowing=Narrowing(writes=writes),
        )
        assert outcome.done == ["a pair"]
        assert not (yard.workspace / "new").exists()


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
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        attempt("interrupted", lambda: call(socket.socket(1)))
        signal.siginterrupt(signal.SIGALRM, False)
        def accept_later():
            time.sleep(0.3)
            own.accept()
            own.accept()
        threading.Thread(target=accept_later).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        attempt("restarted", lambda: call(socket.socket(1)))
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
def test_descriptors_travel_and_a_socket_that_did_is_judged_alike(
    sandbox: Sandbox, outsider: Outsider
) -> None:
    outcome = sandbox.attack(
        sockets(
            """
        own = serving("own")
        def child():
            one = connected("own")
            files = [os.open("notes", os.O_RDONLY), socket.socket(1).fileno()]
            socket.send_fds(one, [b"x"], files)
        unbound = socket.socket(1)
        def child():
            one = connected("own")
            socket.send_fds(one, [b"x"], [os.open("notes", os.O_RDONLY), unbound.fileno()])
        pid = in_child(child)
        other, _ = own.accept()
        _, (file, passed), _, _ = socket.recv_fds(other, 1, 2)
        os.waitpid(pid, 0)
        say("read", os.read(file, 100).decode())
        passed = socket.socket(fileno=passed)
        attempt("theirs", lambda: passed.connect("theirs"))
        attempt("ours", lambda: passed.connect("own"))
        """
        )
    )
    assert outcome.said["read"] == "as they were"
    assert outcome.done == ["ours"]
    outsider.assert_unreached()


@without_namespaces
def test_without_whoever_acts_nothing_is_connected(sandbox: Sandbox, outsider: Outsider) -> None:
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(
        sockets(
            """
        own = serving("own")
        say("ready", True)
        os.read(0, 1)
        for path in ("own", "theirs"):
            attempt(path, lambda: connected(path))
        attempt("bind", lambda: serving("new"))
        """
        ),
        stdin=read_end,
    )
    os.close(read_end)
    running.wait_for("ready")
    os.kill(sandbox.server.pid, signal.SIGKILL)
    sandbox.server.close()
    os.write(write_end, b"x")
    os.close(write_end)
    said = running.wait().said
    assert [said[name] for name in ("own", "theirs", "bind")] == ["ENOSYS"] * 3
    outsider.assert_unreached()


REACHED = ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"]  # noqa: S104  # asked for


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


@pytest.mark.claim("net.ports")
@without_namespaces
def test_of_a_named_port_loopback_alone_is_reached_and_served(confine: Confine, yard: Yard) -> None:
    del yard
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as named,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free,
    ):
        port, bound = named.getsockname()[1], free.getsockname()[1]
        free.close()
        sandbox = confine(network=Network(PORTS, connect_ports=(port,), bind_ports=(bound,)))
        outcome = sandbox.attack(
            sockets(
                """
            port, bound, unnamed = ARGUMENTS
            for address in ("127.0.0.1", "127.8.7.6", "0.0.0.0", "255.255.255.255", "224.0.0.1"):
                attempt(address, lambda: socket.socket().connect((address, port)))
            for address in ("::ffff:127.0.0.1", "ff02::1"):
                attempt(address, lambda: socket.socket(10).connect((address, port)))
            for address in ("0.0.0.0", "127.0.0.1"):
                one = socket.socket()
                one.setsockopt(1, 2, 1)
                one.bind((address, bound))
                one.listen()
                say("served as " + address, one.getsockname()[0])
                one.close()
            for v6_only in (0, 1):
                one = socket.socket(10)
                one.setsockopt(1, 2, 1)
                one.setsockopt(41, 26, v6_only)
                one.bind(("::", bound))
                say(f"served as :: {v6_only}", one.getsockname()[0])
                one.close()
            attempt("listen unbound", lambda: socket.socket().listen())
            attempt("listen unbound, IPv6", lambda: socket.socket(10).listen())
            attempt("bind to any port", lambda: socket.socket().bind(("127.0.0.1", 0)))
            attempt("listen on a local one", lambda: serving("own"))
            def inet(port):
                return struct.pack("=H", 2) + struct.pack("!H4s8x", port, bytes((127, 0, 0, 1)))
            memory = ctypes.create_string_buffer(inet(port), 16)
            going = True
            def swap():
                while going:
                    ctypes.memmove(memory, inet(unnamed), 16)
                    ctypes.memmove(memory, inet(port), 16)
            sys.setswitchinterval(1e-6)
            thread = threading.Thread(target=swap)
            thread.start()
            seen, kept, end = set(), [], time.monotonic() + 1
            while time.monotonic() < end or len(seen) < 2:
                kept = [*kept[-5:], socket.socket()]
                kept[-1].setblocking(False)
                try:
                    syscall("connect", kept[-1].fileno(), memory, 16)
                except OSError as error:
                    seen.add(error.errno)
            going = False
            say("seen", sorted(errno.errorcode[one] for one in seen))
            """
            ),
            port,
            bound,
            other.getsockname()[1],
        )
        said = outcome.said
        refused = ("listen unbound", "listen unbound, IPv6", "bind to any port")
        assert not set(refused) & set(outcome.done)
        assert outcome.done == [*REACHED, "listen on a local one"]
        assert said["127.8.7.6"] == "ECONNREFUSED"
        assert {said["255.255.255.255"], said["224.0.0.1"], said["ff02::1"]} == {"EACCES"}
        served = [said["served as 0.0.0.0"], said["served as 127.0.0.1"], said["served as :: 0"]]
        assert served == ["127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1"]
        assert said["served as :: 1"] == "::1"
        assert {"EACCES", "EINPROGRESS"} == set(said["seen"])
        assert select.select([other], [], [], 0)[0] == []
