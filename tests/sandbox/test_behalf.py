"""Sockets acted on behalf of: whom a worker reaches by them, and where it makes them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import (
    LANDLOCK,
    NAMESPACES,
    READ,
    WRITE,
)
from tests.sandbox.local_sockets import Outsider, sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = pytest.mark.linux


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
        def swap():
            ctypes.memmove(memory, theirs, 110)
            ctypes.memmove(memory, ours, 110)
        def connect():
            with socket.socket(socket.AF_UNIX) as one:
                syscall("connect", one.fileno(), memory, 110)
                own.accept()[0].close()
        race([swap], {"connect": connect}, ["connect"])
        """
        )
    )
    assert outcome.said["connect"] == ["EACCES", "done"]
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
        def flip():
            for target in ("own", outside + "/theirs", "theirs"):
                os.symlink(target, "next")
                os.rename("next", "flipping")
        def plant():
            for act in (lambda: os.link("theirs", "planted"),
                        lambda: os.rename("planted", "bound")):
                try:
                    act()
                except FileNotFoundError:
                    pass
                except FileExistsError:
                    pass
        os.symlink("own", "flipping")
        def connect():
            with connected("flipping"):
                own.accept()[0].close()
        def bind():
            try:
                os.unlink("bound")
            except FileNotFoundError:
                pass
            with socket.socket(socket.AF_UNIX) as one:
                one.bind("bound")
        def connect_to_bound():
            for _ in range(3):
                connected("bound").close()
        tried = {"flipping": connect, "bind": bind, "bound": connect_to_bound}
        race([flip, plant], tried, ["flipping"], ["ENOENT"])
        """
        ),
        yard.outside,
    )
    # In the first tier what lies outside isn't there.
    assert set(outcome.said["flipping"]) - {"ENOENT"} == {"EACCES", "done"}
    assert set(outcome.said["bind"]) <= {"EADDRINUSE", "done"}
    assert "done" not in outcome.said["bound"]
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
