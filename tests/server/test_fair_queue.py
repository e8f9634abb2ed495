"""Whose turn it is."""

import anyio
import pytest

from nono_mcp.server.fair_queue import Share, Turns

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Callers:
    """Take turns, and note in which order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ends: dict[str, anyio.Event] = {}

    async def call(self, share: Share, name: str) -> None:
        self.ends[name] = anyio.Event()
        async with share:
            self.begun.append(name)
            await self.ends[name].wait()


async def settled() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_who_asks_once_waits_for_nobody_who_asks_often() -> None:
    turns = Turns(2)
    alice, bob = turns.share(10), turns.share(10)
    callers = Callers()
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(callers.call, alice, f"alice-{number}")
        await settled()
        group.start_soon(callers.call, bob, "bob")
        await settled()
        assert callers.begun == ["alice-0", "alice-1"]
        assert (alice.running_count, alice.waiting_count, bob.waiting_count) == (2, 3, 1)
        callers.ends["alice-1"].set()
        await settled()
        assert callers.begun[2] in ("bob", "alice-2")
        callers.ends["alice-0"].set()
        await settled()
        assert "bob" in callers.begun[:4]
        assert len(callers.begun) == 4
        group.cancel_scope.cancel()


async def test_nobody_has_more_than_their_share_and_what_is_free_is_anothers() -> None:
    turns = Turns(3)
    alice, bob = turns.share(1), turns.share(10)
    callers = Callers()
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.call, alice, f"alice-{number}")
        for number in range(3):
            group.start_soon(callers.call, bob, f"bob-{number}")
        await settled()
        assert sorted(callers.begun) == ["alice-0", "bob-0", "bob-1"]
        callers.ends["bob-0"].set()
        await settled()
        assert callers.begun[3:] == ["bob-2"]
        group.cancel_scope.cancel()
    assert (alice.running_count, bob.running_count, alice.waiting_count) == (0, 0, 0)


async def test_a_turn_that_was_given_up_while_it_was_given_is_somebody_elses() -> None:
    turns = Turns(1)
    share = turns.share(5)
    callers = Callers()
    async with anyio.create_task_group() as group:
        group.start_soon(callers.call, share, "first")
        await settled()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await callers.call(share, "cancelled while waiting")
        async with anyio.create_task_group() as other:
            other.start_soon(callers.call, share, "cancelled when its turn came")
            await settled()
            callers.ends["first"].set()
            await anyio.lowlevel.checkpoint()
            other.cancel_scope.cancel()
        group.start_soon(callers.call, share, "last")
        await settled()
        assert callers.begun[-1] == "last"
        group.cancel_scope.cancel()
    assert (share.running_count, share.waiting_count) == (0, 0)
