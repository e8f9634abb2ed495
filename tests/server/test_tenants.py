"""Sessions of those who share a server: what ends one's ends nobody else's."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from nono_mcp.server import tenants
from nono_mcp.server.errors import ServeError
from nono_mcp.server.tenants import Allowance, BusyError, Tenants
from nono_mcp.server.turns import Share, Turns
from tests.server.conftest import DEADLINE_S

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class House:
    """Begins sessions, of which one fails when it's told to."""

    failing: dict[str, BaseException] = field(default_factory=dict)
    fail: anyio.Event = field(default_factory=anyio.Event)
    failed: anyio.Event = field(default_factory=anyio.Event)

    @asynccontextmanager
    async def begin(self, name: str, share: Share) -> AsyncIterator[ASGIApp]:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            """Answer nothing: who asks is let in, or isn't."""

        async with share, anyio.create_task_group() as group:
            group.start_soon(self._fail, name)
            yield app
            group.cancel_scope.cancel()

    async def _fail(self, name: str) -> None:
        if name in self.failing:
            await self.fail.wait()
            self.failed.set()
            raise self.failing.pop(name)
        await anyio.sleep_forever()


def tenants_of(house: House, *names: str, **options: int) -> Tenants:
    allowances = {name: Allowance(4, 8) for name in names}
    return Tenants(house.begin, allowances, Turns(8), **{"sessions_max": 4} | options)


@pytest.mark.claim("shared.no-starving")
@pytest.mark.parametrize(
    "error",
    [RuntimeError("a mistake of ours"), KeyError("key"), ServeError("lost"), OSError(5, "gone")],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_ends_ones_session_the_others_go_on(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    house = House({"alice": error})
    found = tenants_of(house, "alice", "bob")
    with anyio.fail_after(DEADLINE_S), caplog.at_level(logging.WARNING, "nono"):
        async with found.open():
            async with found.session("bob") as bobs:
                async with found.session("alice") as first:
                    house.fail.set()
                    await house.failed.wait()
                    while "alice" in [one.name for one in found.present]:
                        await anyio.lowlevel.checkpoint()
                async with found.session("bob") as still:
                    assert still is bobs
            # Hers is begun anew, and what it had of the turns is free again.
            async with found.session("alice") as second:
                assert second is not first
            alice = next(one for one in found.present if one.name == "alice")
            assert alice.share.running_count == 1
    assert "alice's session" in caplog.text
    assert str(error.args[-1]) in caplog.text


async def test_who_waits_for_a_session_that_fails_is_told_so() -> None:
    class Failing(House):
        @asynccontextmanager
        async def begin(self, name: str, share: Share) -> AsyncIterator[ASGIApp]:
            if name:
                raise ZeroDivisionError(name)
            yield share  # type: ignore[misc]

    found = tenants_of(Failing(), "alice")
    async with found.open():
        with pytest.raises(ServeError, match="ZeroDivisionError"):
            async with found.session("alice"):
                pytest.fail("there is none")
        assert not found.present


@pytest.mark.claim("shared.no-starving")
async def test_where_there_are_too_many_requests_each_still_has_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tenants, "REQUESTS_MAX", 8)
    found = tenants_of(House(), "alice", "bob")
    async with found.open(), anyio.create_task_group() as group:

        async def hold(name: str) -> None:
            async with found.session(name):
                await anyio.sleep_forever()

        for _ in range(8):
            group.start_soon(hold, "alice")
        with anyio.fail_after(DEADLINE_S):
            while sum(one.requests_count for one in found.present) < 8:
                await anyio.lowlevel.checkpoint()
        async with found.session("bob"), found.session("bob"):
            with pytest.raises(BusyError):
                async with found.session("bob"):
                    pytest.fail("an equal part is two")
        with pytest.raises(BusyError):
            async with found.session("alice"):
                pytest.fail("hers are all taken")
        group.cancel_scope.cancel()
