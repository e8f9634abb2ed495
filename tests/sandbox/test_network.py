"""Network: closed means closed, and what is open is open to what was named alone."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import NAMESPACES, OPEN, PORTS, Narrowing, Network
from tests.ports import unused_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.conftest import Confine, Sandbox, Yard

with_own_network = pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
LOOPBACK = "127.0.0.1"


class Listeners:
    """Sockets of the machine, outside, that notice whoever reaches them."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "socket")
        self.datagram_path = str(directory / "datagrams")
        # Of which macOS knows none.
        self.abstract = f"\0nono-test-{os.urandom(8).hex()}"
        if sys.platform != "linux":
            self.abstract = self.path
        self._all = [
            self._bound(socket.AF_INET, socket.SOCK_STREAM, (LOOPBACK, 0)),
            self._bound(socket.AF_INET, socket.SOCK_DGRAM, (LOOPBACK, 0)),
            self._bound(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            self._bound(socket.AF_UNIX, socket.SOCK_STREAM, self.path),
            self._bound(socket.AF_UNIX, socket.SOCK_DGRAM, self.datagram_path),
        ]
        if sys.platform == "linux":
            self._all.append(self._bound(socket.AF_UNIX, socket.SOCK_STREAM, self.abstract))
            tcp_fastopen = 23
            self._all[0].setsockopt(socket.IPPROTO_TCP, tcp_fastopen, 16)
        self.tcp, self.udp, self.tcp6 = (one.getsockname()[1] for one in self._all[:3])

    @staticmethod
    def _bound(family: int, kind: int, address: tuple[str, int] | str) -> socket.socket:
        one = socket.socket(family, kind)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
        return one

    def accept(self) -> bytes:
        """Return what the next one to reach the TCP listener has to say."""
        self._all[0].settimeout(60)
        one, _ = self._all[0].accept()
        with one:
            return one.recv(100)

    def assert_unreached(self) -> None:
        reached = select.select(self._all, [], [], 0)[0]
        assert [one.getsockname() for one in reached] == []

    def close(self) -> None:
        for one in self._all:
            one.close()


@pytest.fixture
def listeners(yard: Yard) -> Iterator[Listeners]:
    with contextlib.closing(Listeners(yard.outside)) as them:
        yield them


REACHES = """
    import socket, struct
    from socket import AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_STREAM
    tcp, udp, tcp6, path, datagram_path, abstract, *named = ARGUMENTS
    def connected(family, kind, address, protocol=0):
        one = socket.socket(family, kind, protocol)
        one.settimeout(5)
        one.connect(address)
    def sent(family, kind, address, protocol=0):
        socket.socket(family, kind, protocol).sendto(b"x", address)
    def datagram_pair():
        one, _ = socket.socketpair(AF_UNIX, SOCK_DGRAM)
        one.sendto(b"x", datagram_path)
    local = "127.0.0.1"
    attempt("TCP", lambda: connected(AF_INET, SOCK_STREAM, (local, tcp)))
    attempt("TCP to any address", lambda: connected(AF_INET, SOCK_STREAM, ("0.0.0.0", tcp)))
    attempt("TCP over IPv6", lambda: connected(AF_INET6, SOCK_STREAM, ("::1", tcp6)))
    attempt("TCP to a mapped address", lambda: connected(
        AF_INET6, SOCK_STREAM, ("::ffff:127.0.0.1", tcp)))
    attempt("TCP from a thread", lambda: in_thread(
        lambda: connected(AF_INET, SOCK_STREAM, (local, tcp))))
    attempt("a socket by path", lambda: connected(AF_UNIX, SOCK_STREAM, path))
    attempt("a datagram by path", lambda: sent(AF_UNIX, SOCK_DGRAM, datagram_path))
    attempt("a datagram of a pair", datagram_pair)
    os.symlink(path, "link")
    attempt("a socket by a link", lambda: connected(AF_UNIX, SOCK_STREAM, "link"))
    attempt("an abstract socket", lambda: connected(AF_UNIX, SOCK_STREAM, abstract))
    attempt("the resolver", lambda: sent(AF_INET, SOCK_DGRAM, ("127.0.0.53", 53)))
    """
LINUX_REACHES = """
    FASTOPEN = 0x20000000
    def fast_open_sendto():
        socket.socket().sendto(b"x", FASTOPEN, ("127.0.0.1", tcp))
    def fast_open_sendmsg():
        socket.socket().sendmsg([b"x"], [], FASTOPEN, ("127.0.0.1", tcp))
    def fast_open_sendmmsg():
        address = struct.pack("=H", 2) + struct.pack("!H4s8x", tcp, bytes((127, 0, 0, 1)))
        name, data = ctypes.create_string_buffer(address), ctypes.create_string_buffer(b"x")
        vector = (ctypes.c_uint64 * 2)(ctypes.addressof(data), 1)
        header = struct.pack("@PIxxxxPNPNixxxxIxxxx", ctypes.addressof(name), 16,
                             ctypes.addressof(vector), 1, 0, 0, 0, 0)
        syscall("sendmmsg", socket.socket().fileno(), header, 1, FASTOPEN)
    attempt("MPTCP", lambda: connected(2, 1, (local, tcp), 262))
    attempt("MPTCP over IPv6", lambda: connected(10, 1, ("::1", tcp6), 262))
    attempt("SCTP", lambda: connected(2, 1, (local, tcp), 132))
    attempt("SMC", lambda: connected(43, 1, (local, tcp)))
    attempt("Fast Open by sendto", fast_open_sendto)
    attempt("Fast Open by sendmsg", fast_open_sendmsg)
    attempt("Fast Open by sendmmsg", fast_open_sendmmsg)
    attempt("a socket by O_PATH", lambda: connected(
        1, 1, f"/proc/self/fd/{os.open(path, os.O_PATH)}"))
    """
if sys.platform == "linux":
    REACHES += LINUX_REACHES
# In a network of its own a datagram may be sent to where nobody listens.
INTO_THE_VOID = ["UDP", "the resolver", "connected UDP"]
UDP = """
    attempt("UDP", lambda: sent(AF_INET, SOCK_DGRAM, (local, udp)))
    attempt("connected UDP", lambda: connected(AF_INET, SOCK_DGRAM, (local, udp)))
    """
if sys.platform == "linux":
    UDP += """
    attempt("UDP-Lite", lambda: sent(2, 2, (local, udp), 136))
    """

NAMED = """
    attempt("the named one", lambda: connected(AF_INET, SOCK_STREAM, (local, named[0])))
    """


@pytest.mark.claim("net.closed")
def test_a_closed_network_reaches_nobody(sandbox: Sandbox, listeners: Listeners) -> None:
    them = listeners
    outcome = sandbox.attack(
        REACHES + UDP,
        *(them.tcp, them.udp, them.tcp6, them.path, them.datagram_path, them.abstract),
    )
    allowed = INTO_THE_VOID if sandbox.tier == NAMESPACES else []
    assert [name for name in outcome.done if name not in allowed] == []
    listeners.assert_unreached()


@pytest.mark.linux  # these are Linux's kinds
@pytest.mark.claim("net.closed")
@pytest.mark.parametrize("mode", ["closed", PORTS, OPEN])
def test_no_socket_of_other_kinds_is_to_be_had(confine: Confine, mode: str) -> None:
    outcome = confine(network=Network(mode)).attack(
        """
        import socket
        for name, family, kind, protocol in (
            ("raw", 2, 3, 255), ("raw ICMP", 2, 3, 1), ("raw TCP", 2, 3, 6), ("ping", 2, 2, 1),
            ("ping over IPv6", 10, 2, 58), ("raw over IPv6", 10, 3, 255),
            ("packet", 17, 3, 768), ("packet datagrams", 17, 2, 768), ("vsock", 40, 1, 0),
            ("netlink netfilter", 16, 3, 12), ("netlink audit", 16, 3, 9),
            ("netlink uevents", 16, 2, 15), ("netlink generic", 16, 3, 16),
            ("netlink sock_diag", 16, 2, 4), ("crypto", 38, 5, 0), ("bluetooth", 31, 3, 1),
            ("CAN", 29, 3, 1), ("AX.25", 3, 5, 0), ("X.25", 9, 5, 0), ("TIPC", 30, 4, 0),
            ("KCM", 41, 5, 0), ("QIPCRTR", 42, 2, 0), ("SMC", 43, 1, 0), ("XDP", 44, 3, 0),
            ("key", 15, 3, 2), ("PPPoX", 24, 2, 0), ("RDS", 21, 5, 0), ("RxRPC", 33, 2, 2),
            ("DCCP", 2, 6, 33), ("SCTP", 2, 1, 132), ("SCTP, sequenced", 2, 5, 132),
            ("UDP-Lite", 2, 2, 136), ("MPTCP", 2, 1, 262), ("MPTCP over IPv6", 10, 1, 262),
            ("old packet", 2, 10, 768),
        ):
            attempt(name, lambda: socket.socket(family, kind, protocol))
            attempt(name + ", high bits", lambda: syscall(
                "socket", 1 << 32 | family, 1 << 32 | kind | 0o2000000, 1 << 32 | protocol))
        attempt("io_uring", lambda: syscall("io_uring_setup", 8, bytes(120)))
        """
    )
    assert outcome.done == []


@pytest.mark.claim("net.closed")
def test_nobody_outside_reaches_a_server_inside(sandbox: Sandbox) -> None:
    """Not one that was bound, and not one that listens without having been."""
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(
        """
        import select, socket
        def listening(bound):
            one = socket.socket()
            if bound:
                one.bind(("0.0.0.0", 0))
            one.listen()
            say("port", one.getsockname()[1])
            return one
        kept = []
        for bound in (False, True):
            try:
                kept.append(listening(bound))
            except OSError as error:
                say("no", str(error))
            say("next", bound)
            os.read(0, 1)
            say("reached", len(select.select(kept, [], [], 0)[0]))
        """,
        stdin=read_end,
    )
    os.close(read_end)
    for bound in ("false", "true"):
        running.wait_for(f'["next", {bound}]')
        port = running.said.get("port")
        if port is not None:
            # Somebody else of the machine may be served there: it's asked inside who was reached.
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, port), timeout=5).close()
        os.write(write_end, b"x")
    os.close(write_end)
    outcome = running.wait()
    assert (outcome.status, outcome.said["reached"]) == (0, 0)


@pytest.mark.claim("net.closed")
@with_own_network
def test_in_a_network_of_its_own_only_loopback_is_there(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        import socket, struct, fcntl
        say("names", [name for _, name in socket.if_nameindex()])
        one = socket.socket()
        attempt("take lo down", lambda: fcntl.ioctl(
            one, 0x8914, struct.pack("16sH22x", b"lo", 0)))
        attempt("give it an address", lambda: fcntl.ioctl(
            one, 0x8916, struct.pack("16sHH4s16x", b"lo", 2, 0, bytes((10, 0, 0, 1)))))
        attempt("a tunnel", lambda: os.open("/dev/net/tun", os.O_RDWR))
        attempt("a route", lambda: one.setsockopt(0, 36, b"1"))  # IP_TRANSPARENT=19 etc. need more
        attempt("transparent", lambda: one.setsockopt(0, 19, 1))
        attempt("a mark", lambda: one.setsockopt(1, 36, 1))
        """
    )
    assert outcome.said["names"] == ["lo"]
    assert outcome.done == []


@with_own_network
def test_in_a_network_of_its_own_one_call_reaches_what_another_serves(sandbox: Sandbox) -> None:
    serving = sandbox.begin_attack(
        """
        import socket
        one = socket.create_server(("127.0.0.1", 0))
        say("port", one.getsockname()[1])
        other, _ = one.accept()
        other.sendall(b"hello")
        """,
        lane=sandbox.new_lane(),
    )
    serving.wait_for("port")
    outcome = sandbox.attack(
        """
        import socket
        with socket.create_connection(("127.0.0.1", ARGUMENTS[0])) as one:
            say("heard", one.recv(5).decode())
        """,
        serving.said["port"],
        lane=sandbox.new_lane(),
    )
    assert outcome.said["heard"] == "hello"
    assert serving.wait().status == 0


@pytest.mark.claim("net.ports")
def test_of_the_machines_ports_only_the_named_ones_are_reached(
    confine: Confine, listeners: Listeners
) -> None:
    them = listeners
    with contextlib.closing(socket.create_server((LOOPBACK, 0))) as named:
        port = named.getsockname()[1]
        sandbox = confine(network=Network(PORTS, connect_ports=(port,)))
        outcome = sandbox.attack(
            REACHES + UDP + NAMED,
            *(them.tcp, them.udp, them.tcp6, them.path, them.datagram_path, them.abstract, port),
        )
        allowed = INTO_THE_VOID if sandbox.tier == NAMESPACES else []
        assert [name for name in outcome.done if name not in allowed] == ["the named one"]
        listeners.assert_unreached()


@pytest.mark.claim("net.ports")
def test_a_port_is_served_only_if_it_was_named(confine: Confine) -> None:
    """In a network of its own it may be served there, where nobody else is."""
    port = unused_port()
    sandbox = confine(network=Network(PORTS, bind_ports=(port,)))
    read_end, write_end = os.pipe()
    serving = sandbox.begin_attack(
        """
        import select, socket
        port, = ARGUMENTS
        servers = []
        def serve(address, number, family=socket.AF_INET):
            servers.append(socket.create_server((address, number), family=family))
            say("ports", [one.getsockname()[1] for one in servers])
        attempt("another", lambda: serve("127.0.0.1", port ^ 1))
        attempt("any", lambda: serve("127.0.0.1", 0))
        attempt("another over IPv6", lambda: serve("::1", port ^ 1, socket.AF_INET6))
        attempt("the named one", lambda: serve("127.0.0.1", port))
        say("ready", True)
        servers[-1].accept()[0].sendall(b"hello")
        os.read(0, 1)
        say("reached", len(select.select(servers, [], [], 0)[0]))
        """,
        port,
        stdin=read_end,
    )
    os.close(read_end)
    serving.wait_for("ready")
    with socket.create_connection((LOOPBACK, port)) as one:
        assert one.recv(5) == b"hello"
    for other in set(serving.said["ports"]) - {port}:
        # Somebody else of the machine may be served there: it's asked inside who was reached.
        with contextlib.suppress(OSError):
            socket.create_connection((LOOPBACK, other), timeout=5).close()
    os.close(write_end)
    outcome = serving.wait()
    assert outcome.said["reached"] == 0
    if sandbox.tier != NAMESPACES:
        assert outcome.done == ["the named one"]


@pytest.mark.claim("net.closed")
@pytest.mark.parametrize("mode", [PORTS, OPEN])
def test_a_call_can_give_up_the_network_of_its_session(
    confine: Confine, listeners: Listeners, mode: str
) -> None:
    them = listeners
    sandbox = confine(network=Network(mode, connect_ports=(them.tcp, them.tcp6)))
    outcome = sandbox.attack(
        REACHES + UDP,
        *(them.tcp, them.udp, them.tcp6, them.path, them.datagram_path, them.abstract),
        narrowing=Narrowing(network_closed=True),
    )
    assert outcome.done == []
    listeners.assert_unreached()


@pytest.mark.claim("net.unix-sockets")
@pytest.mark.parametrize("mode", ["closed", PORTS, OPEN])
def test_whatever_the_network_no_local_socket_outside_is_reached(
    confine: Confine, listeners: Listeners, mode: str
) -> None:
    outcome = confine(network=Network(mode)).attack(
        """
        import socket
        path, datagram_path, abstract = ARGUMENTS
        def connected(address):
            socket.socket(socket.AF_UNIX).connect(address)
        def sent(make):
            make().sendto(b"x", datagram_path)
        attempt("by path", lambda: connected(path))
        attempt("by name", lambda: connected(abstract))
        attempt("a datagram", lambda: sent(lambda: socket.socket(1, 2)))
        attempt("a datagram of a pair", lambda: sent(lambda: socket.socketpair(1, 2)[0]))
        attempt("bind outside", lambda: socket.socket(1).bind(path + "-new"))
        """,
        listeners.path,
        listeners.datagram_path,
        listeners.abstract,
    )
    assert outcome.done == []
    listeners.assert_unreached()


@pytest.mark.claim("net.unix-sockets")
def test_a_local_socket_in_what_is_merely_read_isnt_spoken_to(confine: Confine, yard: Yard) -> None:
    """To read a directory isn't to use the services in it."""
    path = str(yard.reading / "socket")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(path)
        one.listen()
        outcome = confine().attack(
            """
            import socket
            attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect(ARGUMENTS[0]))
            """,
            path,
        )
        assert outcome.done == []
        assert select.select([one], [], [], 0)[0] == []


def test_local_sockets_work_between_the_calls_of_a_session(sandbox: Sandbox) -> None:
    """Named by paths; in a network of their own by other names, too."""
    names = ["socket", "sub/socket"]
    if sandbox.tier == NAMESPACES:
        names += ["\0of-the-session", "/tmp/socket"]  # noqa: S108  # its own
    serving = sandbox.begin_attack(
        """
        import socket
        servers = []
        for address in ARGUMENTS:
            servers.append(socket.socket(socket.AF_UNIX))
            servers[-1].bind(address)
            servers[-1].listen()
        say("ready", True)
        for server in servers:
            server.accept()[0].sendall(b"hello")
        """,
        *names,
        lane=sandbox.new_lane(),
    )
    serving.wait_for("ready")
    outcome = sandbox.attack(
        """
        import socket
        for address in ARGUMENTS:
            one = socket.socket(socket.AF_UNIX)
            attempt(address, lambda: one.connect(address) or say("heard", one.recv(5).decode()))
        """,
        *names,
        lane=sandbox.new_lane(),
    )
    assert outcome.done == names
    assert serving.wait().status == 0


def test_local_sockets_work_in_the_workspace(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        import socket
        one = socket.socket(socket.AF_UNIX)
        one.bind("socket")
        one.listen()
        attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect("socket"))
        """
    )
    assert outcome.done == ["connect"]


def test_an_open_network_is_open(confine: Confine, listeners: Listeners) -> None:
    received = []
    accepting = threading.Thread(target=lambda: received.append(listeners.accept()))
    accepting.start()
    outcome = confine(network=Network(OPEN)).attack(
        """
        import socket
        with socket.create_connection(("127.0.0.1", ARGUMENTS[0])) as one:
            one.sendall(b"hello")
        """,
        listeners.tcp,
    )
    accepting.join()
    assert (outcome.status, received) == (0, [b"hello"])
