"""What attacks on local sockets have in common: words for programs inside, and who is outside."""

import os
import select
import socket
import textwrap
from pathlib import Path

LONG_ENOUGH_S = 60

_SOCKETS = """
    import socket, struct, time
    def serving(path):
        one = socket.socket(socket.AF_UNIX)
        one.bind(path)
        one.listen(64)
        return one
    def connected(path, kind=1):
        one = socket.socket(socket.AF_UNIX, kind)
        one.connect(path)
        return one
    def address(path):
        return struct.pack("=H", 1) + os.fsencode(path).ljust(108, b"\\0")
    def in_memory(path):
        return ctypes.create_string_buffer(address(path), 110)
    """

_DATAGRAMS = """
    DGRAM, SEQPACKET = socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
    kept = []
    def bound(path, kind=DGRAM):
        one = socket.socket(1, kind)
        one.bind(path)
        kept.append(one)
        return one
    def held(content):
        kept.append(ctypes.create_string_buffer(content, len(content)))
        return ctypes.addressof(kept[-1])
    def header(body=b"x", name=b"", control=b"", **changes):
        "Return a struct mmsghdr, the first part of which is a struct msghdr."
        fields = {
            "name_at": held(name) if name else 0, "name_bytes": len(name),
            "spans": held(struct.pack("=QQ", held(body), len(body))), "count": 1,
            "control": held(control) if control else 0, "control_bytes": len(control),
        } | changes
        packed = struct.pack("=Qi4xQQQQi4xI4x", *fields.values(), 0, 99)
        return held(packed)
    def rights(*fds, **changes):
        fields = {"length": 16 + 4 * len(fds), "level": 1, "kind": 1} | changes
        return struct.pack(f"=Qii{len(fds)}i", *fields.values(), *fds) + bytes(-4 * len(fds) % 8)
    def ids(pid, uid, gid):
        return struct.pack("=QiiiII4x", 28, 1, 2, pid, uid, gid)
    def by_sendto(one, path, flags=0):
        return syscall("sendto", one.fileno(), b"x", 1, flags, held(address(path)), 110)
    def by_sendmsg(one, path, flags=0):
        return syscall("sendmsg", one.fileno(), header(name=address(path)), flags)
    def by_sendmmsg(one, path, flags=0):
        return syscall("sendmmsg", one.fileno(), header(name=address(path)), 1, flags)
    def by_connecting(one, path, flags=0):
        syscall("connect", one.fileno(), held(address(path)), 110)
        return one.send(b"x", flags)
    WAYS = (by_sendto, by_sendmsg, by_sendmmsg, by_connecting)
    """


def sockets(script: str) -> str:
    """Return an attack program with what they have in common."""
    return textwrap.dedent(_SOCKETS) + textwrap.dedent(script)


def sending(*scripts: str) -> str:
    """Return an attack program with what those have in common that send messages."""
    return sockets("") + "".join(textwrap.dedent(script) for script in (_DATAGRAMS, *scripts))


class Outsider:
    """A program outside that serves local sockets at some paths, and notices who connects."""

    def __init__(self, *paths: Path) -> None:
        self._all = []
        for path in paths:
            one = socket.socket(socket.AF_UNIX)
            one.bind(str(path))
            one.listen(64)
            path.chmod(0o777)
            self._all.append(one)

    def assert_unreached(self) -> None:
        reached = select.select(self._all, [], [], 0)[0]
        assert [one.getsockname() for one in reached] == []

    def assert_reached(self, count: int) -> None:
        reached = select.select(self._all, [], [], LONG_ENOUGH_S)[0]
        assert len(reached) == count

    def close(self) -> None:
        for one in self._all:
            one.close()


class Receiver:
    """A program outside that takes datagrams at some paths and a name, and notices each."""

    def __init__(self, *places: Path) -> None:
        self.name = f"\0nono-test-{os.urandom(8).hex()}"
        self._all = []
        for address in (*(str(place / "theirs") for place in places), self.name):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            one.bind(address)
            self._all.append(one)
        for place in places:
            (place / "theirs").chmod(0o777)

    def reached(self) -> list[str]:
        return [one.getsockname() for one in select.select(self._all, [], [], 0)[0]]

    def close(self) -> None:
        for one in self._all:
            one.close()
