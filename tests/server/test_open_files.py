"""A server that may open few files, by the limit that it was started with."""

import contextlib
import errno
import os
import resource

import pytest

from tests.server.conftest import Machine, until
from tests.server.test_http import MODERN, Website, calling, listening

pytestmark = pytest.mark.linux

SOFT = 80
"""What a server and two sessions have open, and a little."""
SESSIONS_COUNT = 4
BUSY = os.strerror(errno.ETOOMANYREFS)
"""Nobody sends a descriptor while more are under way than he may have open, in all of the user's
programs (unix(7)): another test has hundreds of them, for a moment."""


def test_a_low_limit_bounds_no_sessions_and_is_their_programs(machine: Machine) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    theirs = f"{SOFT}\\n{'unlimited' if hard == resource.RLIM_INFINITY else hard}"
    with listening(machine, "prlimit", f"--nofile={SOFT}:", "--") as website:
        for number in range(SESSIONS_COUNT):
            client = website.named(f"client-{number}")
            assert theirs in limits_told(client)


def limits_told(client: Website) -> str:
    """Return what a call says of its limits, once it isn't in another test's way."""
    answer = BUSY

    def has_answered() -> bool:
        nonlocal answer
        with contextlib.closing(calling(client, "ulimit -Sn; ulimit -Hn", MODERN)) as asked:
            answer = asked.getresponse().read().decode()
        return BUSY not in answer

    until(has_answered)
    return answer
