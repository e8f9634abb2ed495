"""A server that may open few files, by the limit that it was started with."""

import contextlib
import resource

import pytest

from tests.server.conftest import Machine
from tests.server.test_http import MODERN, calling, listening

pytestmark = pytest.mark.linux

SOFT = 80
"""What a server and two sessions have open, and a little."""
SESSIONS_COUNT = 4


def test_a_low_limit_bounds_no_sessions_and_is_their_programs(machine: Machine) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    theirs = f"{SOFT}\\n{'unlimited' if hard == resource.RLIM_INFINITY else hard}"
    with listening(machine, "prlimit", f"--nofile={SOFT}:", "--") as website:
        for number in range(SESSIONS_COUNT):
            client = website.named(f"client-{number}")
            with contextlib.closing(calling(client, "ulimit -Sn; ulimit -Hn", MODERN)) as asked:
                answer = asked.getresponse().read().decode()
            assert theirs in answer
