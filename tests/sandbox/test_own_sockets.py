"""Which local sockets are known to be a session's own, and how many at once."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from nono_sandbox.behalf import own_sockets
from nono_sandbox.behalf.own_sockets import OwnSockets

pytestmark = pytest.mark.linux


def bind(name: str, known: OwnSockets) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.bind(name)
    assert known.add(one.fileno(), os.open(name, os.O_PATH))
    return one


def are_known(known: OwnSockets) -> list[str]:
    found = []
    for path in sorted(Path().iterdir()):
        fd = os.open(path, os.O_PATH)
        if known.knows(fd):
            found.append(path.name)
        os.close(fd)
    return found


def held_count(directory: Path) -> int:
    all_held = (fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
    return sum(path.parent == directory for path in all_held)


def test_no_more_are_held_however_many_are_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a descriptor of who acts on behalf. What has no name any more goes first."""
    monkeypatch.setattr(own_sockets, "KNOWN_MAX", 4)
    monkeypatch.chdir(tmp_path)
    known = OwnSockets()
    with ExitStack() as stack:
        for name in "abcd":
            stack.enter_context(bind(name, known))
        Path("b").unlink()
        stack.enter_context(bind("e", known))
        assert are_known(known) == ["a", "c", "d", "e"]
        assert held_count(tmp_path) == 4
        stack.enter_context(bind("f", known))
        assert are_known(known) == ["c", "d", "e", "f"]
        assert held_count(tmp_path) == 4
