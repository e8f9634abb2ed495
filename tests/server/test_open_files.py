"""A server that may open few files, by the limit that it was started with."""

import contextlib
import resource

import pytest

from tests.server.conftest import Machine, Wire, serving, until
from tests.server.test_http import MODERN, Website, calling, listening

pytestmark = pytest.mark.linux

SOFT = 80
"""What a server and two sessions have open, and a little."""
UNDER_IT = ("prlimit", f"--nofile={SOFT}:", "--")
SESSIONS_COUNT = 4
CALLS_COUNT = 30
"""Of each of which a server and its fork server have several open."""
TELL = "ulimit -Sn; ulimit -Hn"


@pytest.fixture
def theirs() -> str:
    """What a call tells of its limits: those that the server was started with."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return f"{SOFT}\n{'unlimited' if hard == resource.RLIM_INFINITY else hard}"


def test_a_low_limit_bounds_no_sessions_and_is_their_programs(
    machine: Machine, theirs: str
) -> None:
    with listening(machine, *UNDER_IT) as website:
        for number in range(SESSIONS_COUNT):
            client = website.named(f"client-{number}")
            assert theirs.replace("\n", "\\n") in limits_told(client)


def limits_told(client: Website) -> str:
    with contextlib.closing(calling(client, TELL, MODERN)) as asked:
        return asked.getresponse().read().decode()


def test_a_low_limit_bounds_no_calls_and_is_their_programs(machine: Machine, theirs: str) -> None:
    wire = Wire([*UNDER_IT, *serving(machine)], machine.environ)
    try:
        wire.initialize()
        wait = f"until [ -e all ]; do sleep 0.1; done; {TELL}"
        calls = {wire.run(f"touch begun-{number}; {wait}") for number in range(CALLS_COUNT)}
        until(lambda: len(list(machine.workspace.glob("begun-*"))) == CALLS_COUNT)
        (machine.workspace / "all").touch()
        while calls:
            answer = wire.receive()
            calls.remove(answer["id"])
            assert theirs in answer["result"]["content"][0]["text"]
    finally:
        wire.close()
