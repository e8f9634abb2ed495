"""A policy on WSL2, told by the files that are there; what it closes is tried on Linux."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp import doctor
from nono_mcp.policy import interop, load
from nono_mcp.policy.decide import Allow
from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.session import Command, Session
from nono_sandbox import system
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from nono_sandbox.support import Support
from tests.policy.views import denied

if TYPE_CHECKING:
    from pathlib import Path

    from tests.policy.conftest import Machine

CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
"""


class Windows:
    """What is there on WSL2: a handler for Windows programs, and where it asks for them."""

    def __init__(self, root: Path) -> None:
        self.sockets = root / "windows" / "WSL"
        self.handler = root / "windows" / "init"
        self.sockets.mkdir(parents=True)
        self.handler.write_text("#!/bin/sh\n")
        self.handler.chmod(0o755)
        self.enabled = root / "WSLInterop"
        self.enabled.write_text("enabled\ninterpreter /init\n")
        self.mounts = root / "mounts"
        self.mounts.write_text("/dev/sdc / ext4 rw 0 0\n")


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    here = Windows(tmp_path)
    monkeypatch.setattr(system, "_WSL_FILES", (str(here.enabled),))
    monkeypatch.setattr(interop, "FILES", (str(here.enabled),))
    monkeypatch.setattr(interop, "CLOSED", (str(here.sockets), str(here.handler)))
    monkeypatch.setattr(interop, "MOUNTS", str(here.mounts))
    return here


def around(windows: Windows, **more: tuple[str, ...]) -> Document:
    lists = {"allow": (str(windows.sockets.parent),)} | more
    return Document(filesystem=FilesystemSection().replace(**lists))


def test_what_starts_windows_programs_is_closed(machine: Machine, windows: Windows) -> None:
    prepared = machine.prepare(flags=around(windows))
    assert {str(windows.sockets), str(windows.handler)} <= set(denied(prepared))
    for path, operation in ((windows.sockets, "write"), (windows.handler, "execute")):
        _, verdict = load.explain(prepared, str(path), operation)
        assert not isinstance(verdict, Allow)
        assert "what starts Windows programs" in verdict.reason


def test_it_is_open_to_who_gives_that_up_by_name(machine: Machine, windows: Windows) -> None:
    bypass = (str(windows.sockets), str(windows.handler))
    prepared = machine.prepare(flags=around(windows, bypass=bypass))
    assert isinstance(load.explain(prepared, str(windows.handler), "execute")[1], Allow)


def test_where_windows_programs_dont_start_nothing_is_closed(
    machine: Machine, windows: Windows
) -> None:
    windows.enabled.write_text("disabled\n")
    assert str(windows.handler) not in denied(machine.prepare(flags=around(windows)))


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_windows_files_are_warned_of(machine: Machine, windows: Windows, tier: str) -> None:
    place = str(machine.workspace.resolve())
    windows.mounts.write_text(f"C:\\134 {place} 9p rw,aname=drvfs 0 0\n")
    tmpdir = machine.root / "tmp"
    tmpdir.mkdir()
    prepared = machine.prepare(tier=tier, tmpdir=str(tmpdir))
    assert any(place in text and "Windows" in text for text in prepared.notices)


@pytest.mark.linux
@pytest.mark.anyio
async def test_no_call_reaches_windows(machine: Machine, windows: Windows) -> None:
    address = str(windows.sockets / "1_interop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003 - positional only
        request = machine.request(flags=around(windows))
        with anyio.fail_after(60):
            async with Session.open(request, tier=NAMESPACES) as session:
                argv = (sys.executable, "-I", "-S", "-c", CONNECT, address)
                result = await session.run(Command(argv=argv))
        assert result.status == 1
        with pytest.raises(BlockingIOError):
            listener.accept()
        # It is one that can be reached.
        with socket.socket(socket.AF_UNIX) as outside:
            outside.connect(address)
            listener.accept()[0].close()


def test_doctor_knows_which_wsl_it_is(windows: Windows) -> None:
    windows.mounts.write_text("C:\\134 /mnt/c 9p rw,aname=drvfs 0 0\n")
    two = remarks("5.15.153.1-microsoft-standard-WSL2")
    assert any("/mnt/c" in remark for remark in two)
    assert any(str(windows.sockets) in remark for remark in two)
    assert any("WSL1" in remark for remark in remarks("4.4.0-19041-Microsoft"))
    windows.enabled.write_text("disabled\n")
    assert not any("Windows programs" in one for one in remarks("6.6-microsoft-standard-WSL2"))


def remarks(kernel: str) -> list[str]:
    return doctor.remarks_on(Support(kernel, "x86_64", 4, 0, ""), lambda _: "", lambda _: False)
