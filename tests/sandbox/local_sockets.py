"""What attacks on local sockets have in common: words for programs inside, and who is outside."""

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


def sockets(script: str) -> str:
    """Return an attack program with what they have in common."""
    return textwrap.dedent(_SOCKETS) + textwrap.dedent(script)


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
