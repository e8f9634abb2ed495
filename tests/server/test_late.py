"""A lane that can't answer, as one whose program is read from where nobody does."""

import contextlib
import os
import signal
from pathlib import Path

import anyio
import pytest

from nono_mcp import running
from nono_mcp.kept_lanes import LANES_MIN
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import NAMESPACES
from nono_sandbox.errors import LaneLostError
from tests.server.conftest import TIER, Machine, until

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

TRUE = Command(("/bin/true",))
LONG_ENOUGH_S = 60


def lanes_of(session: Session) -> list[int]:
    """Return the processes of the lanes, once nobody is left who forked one for a namespace."""
    pid = session.fork_server_pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wanted = 1 if session.tier == NAMESPACES else LANES_MIN
    until(lambda: len(children.read_text(encoding="ascii").split()) == wanted)
    return [int(child) for child in children.read_text(encoding="ascii").split()]


async def test_it_is_waited_for_no_longer_than_its_call_may_take_and_some(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_LATE_S_MAX", 0.1)
    monkeypatch.setattr(running, "_KILL_S_MAX", 0.1)
    with anyio.fail_after(LONG_ENOUGH_S):
        async with Session.open(machine.request(), tier=TIER) as session:
            assert (await session.run(TRUE)).status == 0
            stopped = lanes_of(session)
            for lane in stopped:
                os.kill(lane, signal.SIGSTOP)
            try:
                for _ in stopped:
                    with pytest.raises(LaneLostError):
                        await session.run(Command(("/bin/true",), timeout_s=0.1))
                assert (await session.run(TRUE)).status == 0
            finally:
                for lane in stopped:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(lane, signal.SIGCONT)
