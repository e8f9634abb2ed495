"""A session whose private home another of the workspace shares, which hasn't got its grant."""

from pathlib import Path

import anyio
import pytest

from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.policy.errors import quoted
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import NAMESPACES
from tests.server.conftest import DEADLINE_S, ERAS, TIER, Connect, Machine

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.linux,
    pytest.mark.claim("fs.own-home-shared"),
    pytest.mark.parametrize("era", ERAS[1:], indirect=True),
]

# Whoever stands in a directory keeps the kernel from telling that it's gone.
CHANGES = 'cd ~/docs && rmdir ~/docs; mkdir ~/docs; touch "$1/changed"'
STAYS = 'until [ -e "$1/stop" ]; do sleep 0.01; done'


async def test_a_call_that_another_session_led_astray_is_told_to_be_and_the_next_is_well(
    connect: Connect, machine: Machine
) -> None:
    docs = machine.home / "docs"
    docs.mkdir()
    flags = Document(filesystem=FilesystemSection(allow=(str(docs),)))
    write = f"echo x >> '{docs}/written'"
    answers: list[str] = []
    async with (
        connect(flags=flags) as agent,
        Session.open(machine.request(), tier=TIER) as other,
        anyio.create_task_group() as group,
    ):

        async def run() -> None:
            answers.append(await agent.run(f"until [ -e stop ]; do {write}; done 2>&-"))

        def astray() -> list[Path]:
            return list((machine.root / "state/nono/homes").rglob("written"))

        with anyio.fail_after(DEADLINE_S):
            group.start_soon(run)
            while not (docs / "written").exists():  # noqa: ASYNC110 - in a process of its own
                await anyio.sleep(0.01)
            script = f"{CHANGES}; {STAYS}"
            argv = ("/bin/sh", "-c", script, "-", str(machine.workspace))
            group.start_soon(other.run, Command(argv))
            while not (machine.workspace / "changed").exists():  # noqa: ASYNC110 - likewise
                await anyio.sleep(0.01)
            if other.tier != NAMESPACES:
                (machine.workspace / "stop").touch()
            while not answers:  # noqa: ASYNC110 - likewise
                await anyio.sleep(0.01)
            (docs / "written").unlink()
            found = astray()
            # Who led it astray is still there.
            assert (await agent.run(write)).startswith("exit status 0")
            (machine.workspace / "stop").touch()
        if other.tier == NAMESPACES:
            assert answers[0].startswith("stopped: a grant was moved away while it ran")
            assert f"{quoted(str(docs))} may lie in " in answers[0]
            assert f"{machine.root}/state/nono/homes/" in answers[0]
        else:
            assert answers[0].startswith("exit status 0")
    assert (docs / "written").read_text() == "x\n"
    assert astray() == found
