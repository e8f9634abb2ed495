"""A server that may open few files, by the limit that it was started with."""

import contextlib
import resource

import pytest

from tests.server.conftest import Machine, Wire, serving, until
from tests.server.test_http import MODERN, Website, calling, listening

pytestmark = pytest.mark.linux

SOFT = 80
"""What a server and two sessions have open, and a little."""
SESSIONS_COUNT = 4
LOWER = 32
CALLS_COUNT = 14
"""Of each of which a server and its fork server have several open."""
TELL = "ulimit -Sn; ulimit -Hn"


def under(soft: int) -> list[str]:
    return ["prlimit", f"--nofile={soft}:", "--"]


def theirs(soft: int) -> str:
    """Return what a call tells of its limits where the server was started with *soft*."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return f"{soft}\n{'unlimited' if hard == resource.RLIM_INFINITY else hard}"


def test_a_low_limit_bounds_no_sessions_and_is_their_programs(machine: Machine) -> None:
    with listening(machine, *under(SOFT)) as website:
        for number in range(SESSIONS_COUNT):
            client = website.named(f"client-{number}")
            assert theirs(SOFT).replace("\n", "\\n") in limits_told(client)


def limits_told(client: Website) -> str:
    with contextlib.closing(calling(client, TELL, MODERN)) as asked:
        return asked.getresponse().read().decode()


def test_a_low_limit_bounds_no_calls_and_is_their_programs(machine: Machine) -> None:
    wire = Wire([*under(LOWER), *serving(machine)], machine.environ)
    try:
        wire.initialize()
        wait = f"until [ -e all ]; do sleep 0.1; done; {TELL}"
        calls = {wire.run(f"touch begun-{number}; {wait}") for number in range(CALLS_COUNT)}
        until(lambda: len(list(machine.workspace.glob("begun-*"))) == CALLS_COUNT)
        (machine.workspace / "all").touch()
        while calls:
            answer = wire.receive()
            calls.remove(answer["id"])
            assert theirs(LOWER) in answer["result"]["content"][0]["text"]
    finally:
        wire.close()
