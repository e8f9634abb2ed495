"""A session that is given one more path: later calls have it, running ones don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import READ, WRITE
from tests.guard.conftest import LONG_ENOUGH_S

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.session import Result
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.anyio, pytest.mark.claim("grants.given-later")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def shell(script: str) -> Command:
    return Command(("/bin/sh", "-c", script))


@pytest.fixture
def data(bench: Bench) -> Path:
    directory = bench.root / "data"
    directory.mkdir()
    (directory / "one").write_text("1")
    return directory


async def test_later_calls_have_it_and_running_ones_dont(bench: Bench, data: Path) -> None:
    results: list[Result] = []
    waiting = f"touch begun; until [ -e go ]; do :; done; ! cat {data}/one"

    async def run(session: Session) -> None:
        results.append(await session.run(shell(waiting)))

    with anyio.fail_after(LONG_ENOUGH_S):
        async with (
            Session.open(bench.request(), tier=bench.tier) as session,
            anyio.create_task_group() as group,
        ):
            group.start_soon(run, session)
            while not (bench.workspace / "begun").exists():  # noqa: ASYNC110 - all it can say
                await anyio.sleep(0.01)
            await session.grant(str(data), READ)
            later = await session.run(shell(f"cat {data}/one && ! touch {data}/two"))
            await session.grant(str(data), READ | WRITE)
            written = await session.run(shell(f"touch {data}/two"))
            (bench.workspace / "go").touch()
    assert [one.status for one in (later, written, *results)] == [0, 0, 0]
    assert (data / "two").exists()


async def test_a_file_alone_is_given(bench: Bench, data: Path) -> None:
    (data / "other").write_text("2")
    async with Session.open(bench.request(), tier=bench.tier) as session:
        await session.grant(str(data / "one"), READ)
        result = await session.run(shell(f"cat {data}/one && ! cat {data}/other"))
    assert result.status == 0


async def test_what_is_refused_changes_nothing(bench: Bench, data: Path) -> None:
    home = bench.root / "home"
    (home / ".ssh").mkdir()
    refused = [home / ".ssh", bench.root / "state" / "nono", bench.root / "config" / "nono"]
    async with Session.open(bench.request(), tier=bench.tier) as session:
        before = session.prepared
        for path in (*refused, "data", data / "none", "/proc"):
            with pytest.raises((PolicyError, RefusedError)):
                await session.grant(str(path), READ)
        assert session.prepared == before
        assert (await session.run(shell(f"! ls {home}/.ssh; ! ls {data}"))).status == 0


@pytest.mark.claim("fs.planted-links")
async def test_a_grant_that_a_call_turned_leads_nowhere_when_another_is_given(
    bench: Bench, data: Path
) -> None:
    inner = bench.workspace / "inner"
    inner.mkdir()
    secret = bench.root / "home" / "secret"
    secret.mkdir(parents=True)
    (secret / "one").write_text("a secret")
    flags = Document(filesystem=FilesystemSection(read=(str(inner),)))
    async with Session.open(bench.request().replace(flags=flags), tier=bench.tier) as session:
        turned = await session.run(shell(f"mv inner moved && ln -s {secret} inner"))
        with pytest.raises(RefusedError, match="where calls may write"):
            await session.grant(str(data), READ)
        read = await session.run(shell(f"cat {secret}/one inner/one"))
    assert turned.status == 0
    assert read.status != 0
    assert b"a secret" not in b"".join(read.output.ends())
