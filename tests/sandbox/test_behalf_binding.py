"""Without namespaces: where sockets are made on behalf, and the ports they have."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import (
    LANDLOCK,
    PORTS,
    Narrowing,
    Network,
)
from tests.ports import unused_port
from tests.sandbox.local_sockets import sockets

if TYPE_CHECKING:
    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)]


@pytest.mark.claim("net.unix-sockets")
def test_a_socket_is_made_where_a_file_could_be_and_nowhere_else(
    sandbox: Sandbox, yard: Yard
) -> None:
    before = yard.seen(yard.outside), yard.seen(yard.reading)
    outcome = sandbox.attack(
        sockets(
            """
        outside, reading = ARGUMENTS
        os.symlink(outside, "way")
        os.mkdir("shut", 0o555)  # not to who has every capability, say
        for path in (f"{outside}/new", f"{reading}/new", "way/new", "../outside/new", "shut/new",
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


REACHED = ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"]  # noqa: S104  # asked for


@pytest.mark.claim("net.ports")
def test_of_a_named_port_loopback_alone_is_reached_and_served(confine: Confine, yard: Yard) -> None:
    del yard
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as named,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other,
    ):
        port, bound = named.getsockname()[1], unused_port()
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
            def swap():
                ctypes.memmove(memory, inet(unnamed), 16)
                ctypes.memmove(memory, inet(port), 16)
            kept = []
            def connect():
                kept[:] = [*kept[-5:], socket.socket()]
                kept[-1].setblocking(False)
                syscall("connect", kept[-1].fileno(), memory, 16)
            race([swap], {"swapped": connect}, ["swapped"])
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
        assert said["swapped"] == ["EACCES", "EINPROGRESS"]
        assert select.select([other], [], [], 0)[0] == []
