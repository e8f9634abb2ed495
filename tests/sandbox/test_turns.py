"""Who acts on behalf of a session's calls: none of them keeps him from the others."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox.confinement import LANDLOCK
from tests.sandbox.local_sockets import sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Sandbox

pytestmark = pytest.mark.linux

FLOOD = """
    full = socket.socket(1)
    full.bind("full")
    full.listen(0)
    kept = [connected("full")]
    refused = threading.Event()
    def flood():
        while True:
            try:
                connected("full")
            except BlockingIOError:
                refused.set()
                time.sleep(0.001)
    for _ in range(200):
        threading.Thread(target=flood, daemon=True).start()
    refused.wait()
    say("as many as may", True)
    time.sleep(1000)
    """
BYSTANDER = """
    one, other = socket.socketpair(1, socket.SOCK_DGRAM)
    for number in range(100):
        one.sendmsg([b"%d" % number])
        assert other.recv(9) == b"%d" % number
    say("sent", True)
    own = socket.socket(1)
    own.bind("own")
    own.listen(0)
    kept = [connected("own")]
    def accept():
        time.sleep(0.1)
        kept.append(own.accept())
    threading.Thread(target=accept).start()
    attempt("wait", lambda: connected("own"))
    """


class Act:
    """A call that nobody takes."""

    wake_fd = -1
    on_giving_up = 11
    patience_s = float("inf")

    def __init__(self) -> None:
        self.tries = 0

    def attempt(self) -> None:
        self.tries += 1

    def given_up(self, number: int) -> int:
        return -number


class Caller:
    """A thread that waits for its call."""

    held_count = 3

    def interrupted(self) -> bool:
        return False


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Callable[[int], Act | None]]:
    """Return a queue, and what has another call of a lane wait in it, if there is room."""
    from nono_sandbox.behalf import notifications, pending  # noqa: PLC0415  # they're Linux's alone

    monkeypatch.setattr(notifications, "valid", lambda _: True)
    queue: Any = pending.Queue(select.poll(), contextlib.nullcontext())  # type: ignore[arg-type]
    ids = iter(range(1000))

    def begun(lane: int) -> Act | None:
        act: Any = Act()
        notice = notifications.Notice(lane, next(ids), 1, 42, ())
        caller: Any = Caller()
        return act if queue.begin(notice, caller, act) is None else None

    return queue, begun


def test_lanes_take_turns_however_many_of_one_wait(
    begin: tuple[Any, Callable[[int], Act | None]],
) -> None:
    queue, begun = begin
    many = [begun(1) for _ in range(40)]
    one = begun(2)
    assert one is not None
    rounds = 0
    while one.tries < 10:
        select.select([], [], [], queue.timeout_ms() / 1000)
        before = sum(act.tries for act in many if act), one.tries
        queue.look(set())
        after = sum(act.tries for act in many if act), one.tries
        assert after[0] - before[0] <= 1
        rounds += 1
    # Nor is any of the many left out.
    while min(act.tries for act in many if act) < 3:
        select.select([], [], [], queue.timeout_ms() / 1000)
        queue.look(set())
    assert max(act.tries for act in many if act) - min(act.tries for act in many if act) <= 1
    assert rounds <= 10 * len(many)


@pytest.mark.parametrize(
    ("held_count", "room"), [(3, [64, 32, 16, 8]), (16, [16, 8, 4, 2])], ids=["calls", "held"]
)
def test_however_many_wait_there_is_room_for_those_of_another_lane(
    begin: tuple[Any, Callable[[int], Act | None]],
    monkeypatch: pytest.MonkeyPatch,
    held_count: int,
    room: list[int],
) -> None:
    _, begun = begin
    monkeypatch.setattr(Caller, "held_count", held_count)
    counts = []
    for lane in range(4):
        count = 0
        while begun(lane) is not None:
            count += 1
        counts.append(count)
    assert counts == room


def sent(one: socket.socket, at: int, size_bytes: int) -> int | None:
    """Try once to send what lies *at* an address of this process, on behalf of itself."""
    from nono_sandbox.behalf import caller_socket, messages, notifications, sending  # noqa: PLC0415

    caller = notifications.Caller(os.getpid())
    message = messages.Message(b"", ((at, size_bytes),), size_bytes, b"", 0)
    kind = caller_socket.kind(one.fileno())
    try:
        return sending.Sending(caller, one.fileno(), kind, message, b"").attempt()
    finally:
        caller.close()


def test_of_a_stream_one_try_sends_so_much_however_fast_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from nono_sandbox.behalf import sending  # noqa: PLC0415  # it's Linux's alone

    monkeypatch.setattr(sending, "CHUNK_BYTES_MAX", 8)
    held = ctypes.create_string_buffer(100)
    one, other = socket.socketpair()
    with one, other:
        assert sent(one, ctypes.addressof(held), 100) is None
        assert len(other.recv(100)) == 8 * sending.CHUNKS_MAX


def test_nothing_is_copied_of_a_message_that_no_socket_holds() -> None:
    """It may be as long as memory is: what isn't there is told only by who looks."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        assert sent(one, 16, 1 << 30) == -errno.EMSGSIZE
        assert sent(one, 16, 1) == -errno.EFAULT


@pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)
def test_while_a_call_floods_others_send_and_wait(sandbox: Sandbox) -> None:
    flood = sandbox.begin_attack(sockets(FLOOD), lane=sandbox.new_lane())
    flood.wait_for("as many as may")
    outcome = sandbox.attack(sockets(BYSTANDER), lane=sandbox.new_lane())
    assert outcome.said == {"sent": True, "wait": "done"}
    flood.lane.end("test")
    flood.wait()
