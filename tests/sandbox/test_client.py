"""How the end of a call is told."""

from __future__ import annotations

import signal

import pytest

from nono_sandbox.call_end import CallEnd


@pytest.mark.parametrize(
    ("wait_status", "failure", "status"),
    [
        (0, None, 0),
        (7 << 8, None, 7),
        (255 << 8, None, 255),
        (signal.SIGKILL, None, 137),
        (signal.SIGSEGV | 0x80, None, 139),
        (126 << 8, (126, "no"), 126),
        (127 << 8, (127, "none"), 127),
        (None, None, 137),
    ],
)
def test_a_status_is_told_as_a_shell_tells_it(
    wait_status: int | None, failure: tuple[int, str] | None, status: int
) -> None:
    assert CallEnd(wait_status, "", failure, 0.0, 0.0, 0, leftovers=False).status == status
