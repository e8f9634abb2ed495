"""Blocked commands in a session: for its first call, and once it was given something more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.document import CommandsSection
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import READ

if TYPE_CHECKING:
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.anyio, pytest.mark.claim("commands.blocked")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def said(session: Session, script: str) -> tuple[int, str]:
    output: list[bytes] = []
    command = Command(("/bin/sh", "-c", script))
    result = await session.run(command, on_output=output.append)
    return result.status, b"".join(output).decode()


async def test_what_is_blocked_stays_so(bench: Bench) -> None:
    (bench.root / "data").mkdir()
    (bench.root / "tmp").mkdir()
    (bench.root / "elsewhere").mkdir()
    request = bench.request()
    flags = request.flags.replace(commands=CommandsSection(blocked=("rm",)))
    request = request.replace(flags=flags, tmpdir=str(bench.root / "tmp"))
    (bench.workspace / "kept").touch()
    async with Session.open(request, tier=bench.tier) as session:
        assert await said(session, "rm kept") == (
            126,
            "nono: rm is blocked by the policy of this sandbox\n",
        )
        # Where scripts of ours are looked for, another time.
        trap = f"cd $TMPDIR; mv .nono-blocked x; ln -s {bench.root}/elsewhere .nono-blocked; true"
        await said(session, trap)
        await session.grant(str(bench.root / "data"), READ)
        assert (await said(session, "rm kept"))[0] == 126
        assert (await said(session, "/bin/rm kept"))[0] == 126
    assert (bench.workspace / "kept").exists()
    assert not list((bench.root / "elsewhere").iterdir())
