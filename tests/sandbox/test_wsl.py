"""WSL2 from the texts it shows."""

from __future__ import annotations

import pytest

from nono_sandbox import wsl
from nono_sandbox.confinement import READ, WRITE, Confinement, Grant

WSL2 = "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1) (gcc (GCC) 11.2.0) #1"
WSL2_OWN = "Linux version 6.6.36-microsoft-standard-WSL2+ (me@here) #3 SMP"
WSL1 = "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc version 5.4.0) #1237"
DEBIAN = "Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org) (gcc-12 12.2.0) #1 SMP"

MOUNTS = """\
/dev/sdc / ext4 rw,relatime,discard,errors=remount-ro,data=ordered 0 0
none /usr/lib/wsl/drivers 9p ro,nosuid,nodev,noatime,dirsync,aname=drivers;fmask=222 0 0
tools /init 9p ro,relatime,dirsync,aname=tools;fmask=022,loose,access=client 0 0
C:\\134 /mnt/c 9p rw,noatime,dirsync,aname=drvfs;path=C:\\;uid=1000;gid=1000 0 0
D:\\134 /mnt/d\\040rive drvfs rw,noatime 0 0
proc /proc proc rw,nosuid,nodev,noexec,noatime 0 0
broken
"""
ENABLED = "enabled\ninterpreter /init\nflags: PF\noffset 0\nmagic 4d5a\n"
INTEROP = {wsl.INTEROP_FILES[0]: ENABLED}


@pytest.mark.parametrize(
    ("version", "two", "one"),
    [
        (WSL2, True, False),
        (WSL2_OWN, True, False),
        (WSL1, False, True),
        (DEBIAN, False, False),
        ("", False, False),
    ],
)
def test_the_kernel_says_which_it_is(version: str, two: bool, one: bool) -> None:  # noqa: FBT001 - a table
    assert wsl.is_wsl2(version) is two
    assert wsl.is_wsl1(version) is one


def test_windows_mounts_are_found_and_their_names_unescaped() -> None:
    found = {mount.path: (mount.file_system, mount.source) for mount in wsl.windows_mounts(MOUNTS)}
    assert found == {
        "/usr/lib/wsl/drivers": ("9p", "none"),
        "/init": ("9p", "tools"),
        "/mnt/c": ("9p", "C:\\"),
        "/mnt/d rive": ("drvfs", "D:\\"),
    }


def test_a_grant_on_a_windows_mount_is_warned_of() -> None:
    made = Confinement(
        "/home/u/ws",
        (
            Grant("/home/u/ws", READ | WRITE),
            Grant("/mnt/c/Users/u/ws", READ | WRITE),
            Grant("/mnt/cdrom", READ),
        ),
    )
    found = wsl.findings(made, MOUNTS, {})
    assert [(one.id, one.path) for one in found] == [("wsl.windows-files", "/mnt/c/Users/u/ws")]
    assert "9p" in found[0].message


def test_a_windows_mount_inside_a_writable_grant_is_warned_of() -> None:
    made = Confinement("/mnt", (Grant("/mnt", READ | WRITE),))
    found = wsl.findings(made, MOUNTS, {})
    assert [(one.id, one.path) for one in found] == [
        ("wsl.windows-inside", "/mnt/c"),
        ("wsl.windows-inside", "/mnt/d rive"),
    ]


def test_interop_is_said_of_grants_where_windows_programs_are() -> None:
    made = Confinement("/", (Grant("/mnt/c/Windows", READ), Grant("/usr", READ)))
    with_interop = {one.id for one in wsl.findings(made, MOUNTS, INTEROP)}
    assert with_interop == {"wsl.windows-files", "wsl.interop"}
    assert {one.id for one in wsl.findings(made, MOUNTS, {})} == {"wsl.windows-files"}


@pytest.mark.parametrize(
    ("texts", "enabled"),
    [
        (INTEROP, True),
        ({wsl.INTEROP_FILES[1]: ENABLED}, True),
        ({wsl.INTEROP_FILES[0]: "disabled\n"}, False),
        ({}, False),
    ],
)
def test_interop_is_what_the_handlers_file_says(texts: dict[str, str], enabled: bool) -> None:  # noqa: FBT001 - a table
    assert wsl.interop_enabled(texts) is enabled
