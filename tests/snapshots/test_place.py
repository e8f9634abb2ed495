"""The store's locks: who can't have one is told so, and waits for nobody for ever."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nono_mcp.snapshots import place
from nono_mcp.snapshots.errors import BusyError

HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.linux
def test_who_holds_a_lock_and_is_stopped_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "LOCK_WAIT_S", 0.05)
    tmp_path.chmod(0o700)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    dir_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(BusyError, match="the store busy"), place.locked(
            dir_fd, "lock", "the store"
        ):  # fmt: skip
            pytest.fail("it is somebody else's")
        holder.kill()
    with place.locked(dir_fd, "lock", "the store"):
        pass
    os.close(dir_fd)
