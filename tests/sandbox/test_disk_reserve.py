"""A session's calls leave some of the disk, however many of them share it out."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox import wire
from nono_sandbox.confinement import NAMESPACES
from tests.sandbox.conftest import LONG_ENOUGH_S, supervisor_argv

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Yard

pytestmark = [pytest.mark.linux, pytest.mark.claim("limits.disk-free")]
MIB = 1 << 20
DISK_BYTES = 16 * MIB
KEPT_BYTES = DISK_BYTES // 4
# Small, and nobody else's: of a mount namespace of its own, it goes with the last process in it.
ON_A_DISK = """
    mount -t tmpfs -o "size=$1,mode=755,nr_inodes=${INODES:-0}" none "$2" && shift 2 && exec "$@"
    """
SUPERVISOR = """
    import select, time
    from nono_sandbox import wire
    from nono_sandbox.client import ForkServer
    from nono_sandbox.confinement import Call, Limits
    tier, confinement, workspace, calls = wire.whole(eval(sys.argv[2]))
    others, workspace = workspace, workspace + "/work"
    os.mkdir(workspace)
    os.chdir(workspace)
    grants = []
    for grant in confinement.grants:
        if grant.path == others:
            status = os.stat(workspace)
            grant = grant.replace(path=workspace, identity=(status.st_dev, status.st_ino))
        grants.append(grant)
    server = ForkServer.start(tier)
    server.configure(confinement.replace(grants=tuple(grants), cwd=workspace))
    lane = server.lane()
    limits = Limits(disk_free_bytes_min=1 << 30)
    found = []
    for who, script in calls:
        if who == "another program meanwhile":
            if not os.fork():
                while not os.path.exists("began"):
                    time.sleep(0.01)
                with open(others + "/others", "wb") as stream:
                    stream.write(bytes(int(script)))
                os.close(os.open("ended", os.O_CREAT))
                os._exit(0)
            continue
        if who == "another program":
            with open(others + "/others", "wb") as stream:
                stream.write(bytes(int(script)))
            continue
        environment = (("PATH", "/usr/bin:/bin"),)
        lane.begin(Call(("/bin/sh", "-c", script), environment, workspace, limits), (0, 2, 2))
        while lane.ended is None:
            select.select([lane], [], [])
            lane.receive()
        status = os.statvfs(workspace)
        found.append([lane.ended.limit, status.f_bavail * status.f_frsize])
    print(json.dumps(found))
    """
AT_ONCE = f"head -c {DISK_BYTES * 13 // 16} /dev/zero > first"
SLOWLY = """
    for i in $(seq 64); do
        head -c 32768 /dev/zero >> next
        sleep $1
    done
    """
AND_STAYS = "sleep 50"
"""Until whoever looks, who may be late, has seen it."""


@pytest.fixture
def limits_of(tier: str, yard: Yard) -> Callable[..., list[Any]]:
    """Return what runs calls of one session on a disk, and how each of them ended."""
    confinement = yard.confinement()
    namespaces = ("-m",) if os.geteuid() == 0 else ("-r", "-m")

    def run(*calls: tuple[str, str]) -> list[Any]:
        message = wire.plain((tier, confinement, str(yard.workspace), calls))
        around = ["unshare", *namespaces, "sh", "-c", ON_A_DISK, "sh"]
        disk = [str(DISK_BYTES), str(yard.workspace)]
        done = subprocess.run(
            [*around, *disk, *supervisor_argv(SUPERVISOR, repr(message))],
            capture_output=True,
            check=False,
            timeout=LONG_ENOUGH_S,
        )
        assert done.returncode == 0, done
        found: list[Any] = json.loads(done.stdout)
        return found

    return run


def test_one_call_after_another_takes_no_more_than_a_little(
    limits_of: Callable[..., list[Any]],
) -> None:
    slowly = SLOWLY.replace("$1", "0.1") + AND_STAYS
    (first, second, third) = limits_of(("call", AT_ONCE), ("call", slowly), ("call", slowly))
    assert first[0] in ("", "disk-free")  # it may be over before anybody looks
    assert first[1] < KEPT_BYTES
    assert (second[0], third[0]) == ("disk-free", "disk-free")


def test_what_another_program_took_is_no_calls_doing(limits_of: Callable[..., list[Any]]) -> None:
    slowly = SLOWLY.replace("$1", "0.005")
    (found,) = limits_of(("another program", str(DISK_BYTES * 13 // 16)), ("call", slowly))
    assert found[0] == ""


def test_what_another_program_fills_is_no_calls_doing_where_inodes_are_scarcer(
    limits_of: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is free is then told by inodes, as on most ext4, until the blocks run out."""
    monkeypatch.setenv("INODES", str(DISK_BYTES // 4096 // 4))
    meanwhile = ("another program meanwhile", str(DISK_BYTES * 31 // 32))
    # It is looked at first, and afterwards, if anybody comes to it.
    call = "sleep 0.3; : > began; while [ ! -e ended ]; do sleep 0.05; done; sleep 0.5"
    (found,) = limits_of(meanwhile, ("call", call))
    assert found[0] == ""
    assert found[1] < KEPT_BYTES // 4


MAPPED = """
    exec python3 -c '
import mmap, os, time
time.sleep(0.3)
# Numbers are given in turn: past those that the other file system has given already.
for i in range(64):
    os.close(os.open(str(i), os.O_CREAT))
fd = os.open("big", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, SIZE)
number = os.fstat(fd).st_ino
held = mmap.mmap(fd, SIZE)
os.unlink("big")
os.closerange(3, 64)
# One of that number on a file system of the session own, removed and open.
for _ in range(10000):
    other = os.open("/tmp/other", os.O_RDWR | os.O_CREAT)
    os.unlink("/tmp/other")
    if os.fstat(other).st_ino >= number:
        break
    os.close(other)
for at in range(0, SIZE, 65536):
    held[at : at + 65536] = bytes([1]) * 65536
    time.sleep(0.005)
time.sleep(50)'
    """


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_a_removed_file_that_is_mapped_counts_whatever_else_has_its_number(
    limits_of: Callable[..., list[Any]],
) -> None:
    """The other file system is the session's own /tmp."""
    (found,) = limits_of(("call", MAPPED.replace("SIZE", str(DISK_BYTES * 7 // 8))))
    assert found[0] == "disk-free"
