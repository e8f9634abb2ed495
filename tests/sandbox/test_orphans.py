"""What a killed lane leaves to the process that asked for its run is ended, however it forks."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.sandbox.conftest import supervisor_argv

pytestmark = [pytest.mark.linux, pytest.mark.claim("process.nothing-survives")]
LONG_ENOUGH_S = 60

EVASIVE = """
    import posix, signal, time
    from nono_sandbox import _uapi
    from nono_sandbox.single_run import orphans
    allow_all = bytes([6, 0, 0, 0]) + (0x7FFF0000).to_bytes(4, "little")
    _uapi.prctl(_uapi.PR_SET_CHILD_SUBREAPER, 1)
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    asked, ask = os.pipe()
    told, tell = os.pipe()

    def evade():
        os.close(ask)
        while os.write(tell, b".") and os.read(asked, 1):
            if os.fork():
                os._exit(0)
        os._exit(0)

    lane = os.fork()
    if lane == 0:
        _uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)
        _uapi.seccomp_filter(allow_all)
        os.setsid()
        if os.fork() == 0:
            evade()
        signal.pause()
    os.close(asked)
    os.close(tell)
    os.read(told, 1)
    kill = posix.kill
    kill(lane, signal.SIGKILL)

    def announced(pid, number):
        if pid > 0 and pid != lane:
            try:
                os.write(ask, b"!")
            except BrokenPipeError:
                pass
            os.read(told, 1)
        kill(pid, number)

    posix.kill = announced
    print(json.dumps(orphans.end(lane, since)))
    """
"""One that is another process before a signal for it alone arrives."""


def test_who_gets_away_from_every_signal_to_itself_is_ended_with_its_group() -> None:
    done = subprocess.run(
        supervisor_argv(EVASIVE), capture_output=True, check=False, timeout=LONG_ENOUGH_S
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) is True
