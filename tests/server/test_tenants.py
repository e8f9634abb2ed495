"""Sessions of those who share a server: what ends one's ends nobody else's."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from nono_mcp.server import tenants
from nono_mcp.server.addressing import Who
from nono_mcp.server.errors import ServeError
from nono_mcp.server.fair_queue import Turns
from nono_mcp.server.tenant import Allowance, Tenant
from nono_mcp.server.tenants import BusyError, Tenants
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
    idle: bool = False
    """None has a turn."""
    slow: anyio.Event | None = None
    beginning: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def begin(self, tenant: Tenant) -> AsyncIterator[ASGIApp]:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            """Answer nothing: who asks is let in, or isn't."""

        self.beginning.append(tenant.who.principal)
        if self.slow is not None:
            await self.slow.wait()
        turn = contextlib.nullcontext() if self.idle else tenant.part
        async with turn, anyio.create_task_group() as group:
            group.start_soon(self._fail, tenant.who.principal)
            yield app
            group.cancel_scope.cancel()

    async def _fail(self, name: str) -> None:
        if name in self.failing:
            await self.fail.wait()
            self.failed.set()
            raise self.failing.pop(name)
        await anyio.sleep_forever()


def tenants_of(house: House, *names: str, **options: int) -> Tenants:
    allowances = {name: Allowance(4, 8, 4) for name in names}
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
            async with found.session(Who("bob")) as bobs:
                async with found.session(Who("alice")) as first:
                    house.fail.set()
                    await house.failed.wait()
                    while "alice" in found.present:
                        await anyio.lowlevel.checkpoint()
                async with found.session(Who("bob")) as still:
                    assert still is bobs
            # Hers is begun anew, and what it had of the turns is free again.
            async with found.session(Who("alice")) as second:
                assert second is not first
            assert found.present["alice"].share.running_count == 1
    assert "alice's session" in caplog.text
    assert str(error.args[-1]) in caplog.text


async def test_who_waits_for_a_session_that_fails_is_told_so() -> None:
    class Failing(House):
        @asynccontextmanager
        async def begin(self, tenant: Tenant) -> AsyncIterator[ASGIApp]:
            if tenant.who.principal:
                raise ZeroDivisionError(tenant)
            async with super().begin(tenant) as app:
                yield app

    found = tenants_of(Failing(), "alice")
    async with found.open():
        with pytest.raises(ServeError, match="ZeroDivisionError"):
            async with found.session(Who("alice")):
                pytest.fail("there is none")
        assert not found.present


@pytest.mark.claim("shared.no-starving")
async def test_where_there_are_too_many_requests_each_still_has_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tenants, "REQUESTS_MAX", 8)
    found = tenants_of(House(), "alice", "bob", "carol", "dave")
    async with found.open(), anyio.create_task_group() as group:

        async def hold(name: str) -> None:
            async with found.session(Who(name)):
                await anyio.sleep_forever()

        for _ in range(8):
            group.start_soon(hold, "alice")
        with anyio.fail_after(DEADLINE_S):
            while sum(one.requests_count for one in found.present.values()) < 8:
                await anyio.lowlevel.checkpoint()
        async with found.session(Who("bob")), found.session(Who("bob")):
            with pytest.raises(BusyError):
                async with found.session(Who("bob")):
                    pytest.fail("an equal part is two")
        with pytest.raises(BusyError):
            async with found.session(Who("alice")):
                pytest.fail("hers are all taken")
        group.cancel_scope.cancel()


async def ask(found: Tenants, who: Who) -> None:
    async with found.session(who):
        pass


@pytest.mark.claim("shared.no-starving")
async def test_for_one_more_session_the_one_that_is_unused_for_longest_ends() -> None:
    found = tenants_of(House(idle=True), "alice")
    async with found.open():
        for name in ("a", "b", "c", "d"):
            await ask(found, Who("alice", name))
        await ask(found, Who("alice", "a"))
        async with found.session(Who("alice", "c")) as third:
            await ask(found, Who("alice", "e"))
            assert {who.name for who in found.sessions} == {"a", "c", "d", "e"}
            await ask(found, Who("alice", "f"))
            assert {who.name for who in found.sessions} == {"a", "c", "e", "f"}
            async with (
                found.session(Who("alice", "a")),
                found.session(Who("alice", "e")),
                found.session(Who("alice", "f")),
            ):
                with pytest.raises(BusyError):
                    await ask(found, Who("alice", "g"))
        async with found.session(Who("alice", "c")) as still:
            assert still is third
        assert found.present["alice"].sessions_count == 4


@pytest.mark.claim("shared.no-starving")
async def test_a_session_whose_command_runs_or_waits_is_used() -> None:
    found = tenants_of(House(), "alice")  # each takes a turn, and there are four
    with anyio.fail_after(DEADLINE_S):
        async with found.open():
            for name in ("a", "b", "c", "d"):
                await ask(found, Who("alice", name))
            with pytest.raises(BusyError):
                await ask(found, Who("alice", "e"))


@pytest.mark.claim("shared.no-starving")
async def test_whoever_has_no_session_gets_one_whatever_the_others_hold() -> None:
    names = ("alice", "bob", "carol", "dave")
    found = tenants_of(House(idle=True), *names, sessions_max=4)
    async with found.open(), contextlib.AsyncExitStack() as stack:
        for number in range(2):
            await stack.enter_async_context(found.session(Who("alice", f"{number}")))
        with pytest.raises(BusyError):
            await ask(found, Who("alice", "2"))
        for name in ("bob", "carol"):
            await stack.enter_async_context(found.session(Who(name)))
        assert {name: one.sessions_count for name, one in found.present.items()} == {
            "alice": 2,
            "bob": 1,
            "carol": 1,
        }
        # All are used; what isn't any more is had by whoever has fewer.
        with pytest.raises(BusyError):
            await ask(found, Who("dave"))
        await stack.aclose()
        await ask(found, Who("dave"))
        assert {name: one.sessions_count for name, one in found.present.items()} == {
            "alice": 1,
            "bob": 1,
            "carol": 1,
            "dave": 1,
        }


async def test_of_one_principal_few_sessions_begin_at_once() -> None:
    slow = anyio.Event()
    house = House(idle=True, slow=slow)
    found = tenants_of(house, "alice", "bob")
    with anyio.fail_after(DEADLINE_S):
        async with found.open(), anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(ask, found, Who("alice", name))
            group.start_soon(ask, found, Who("bob"))
            await anyio.wait_all_tasks_blocked()
            assert sorted(house.beginning) == ["alice", "alice", "bob"]
            slow.set()


@pytest.mark.claim("shared.no-starving")
async def test_who_left_with_a_job_running_makes_room_for_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tenants, "LEFT_S", 0.0)
    monkeypatch.setattr(tenants, "LOOK_S", 0.01)
    found = Tenants(House().begin, {"alice": Allowance(1, 8, 4)}, Turns(8), sessions_max=4)
    async with found.open():
        named, left = Who("alice", "named"), Who.anew("alice")
        async with found.session(left):
            pass
        with anyio.fail_after(DEADLINE_S):
            async with found.session(named):
                assert found.sessions == (named,)
        # Whoever has a name comes back to it.
        with anyio.move_on_after(0.1):
            async with found.session(Who.anew("alice")):
                pytest.fail("the one turn is the named one's")
        assert named in found.sessions


@pytest.fixture
def several_looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Return what waits until somebody has looked several times for who is gone."""
    monkeypatch.setattr(tenants, "LOOK_S", 0.01)
    began = 0
    sleep = anyio.sleep

    async def counted(delay_s: float) -> None:
        nonlocal began
        began += 1
        await sleep(delay_s)

    async def several() -> None:
        until = began + 4
        with anyio.fail_after(DEADLINE_S):
            while began < until:
                await sleep(0.01)

    monkeypatch.setattr(anyio, "sleep", counted)
    return several


async def test_while_nobody_waits_who_left_keeps_what_runs(
    monkeypatch: pytest.MonkeyPatch, several_looks: Callable[[], Awaitable[None]]
) -> None:
    monkeypatch.setattr(tenants, "LEFT_S", 0.0)
    found = Tenants(House().begin, {"alice": Allowance(1, 8, 4)}, Turns(8), sessions_max=4)
    async with found.open():
        left = Who.anew("alice")
        async with found.session(left):
            pass
        await several_looks()
        assert found.sessions == (left,)


async def test_who_left_just_now_keeps_what_runs(
    monkeypatch: pytest.MonkeyPatch, several_looks: Callable[[], Awaitable[None]]
) -> None:
    monkeypatch.setattr(tenants, "LEFT_S", 3600.0)
    found = Tenants(House().begin, {"alice": Allowance(1, 8, 4)}, Turns(8), sessions_max=4)
    async with found.open(), anyio.create_task_group() as group:
        named, left = Who("alice", "named"), Who.anew("alice")
        async with found.session(left):
            pass

        async def want() -> None:
            with anyio.fail_after(DEADLINE_S):
                async with found.session(named):
                    assert found.sessions == (named,)

        group.start_soon(want)
        await several_looks()
        assert found.sessions == (left, named)
        # Or nobody would ever be let in.
        monkeypatch.setattr(tenants, "LEFT_S", 0.0)
