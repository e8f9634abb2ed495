"""What a call leaves whose server is killed, or whose `nono run`, is put right by the next."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.session import Command, Session
from nono_sandbox.confinement import NAMESPACES
from tests.guard.conftest import LONG_ENOUGH_S
from tests.guard.runs import ENVIRON

if TYPE_CHECKING:
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.shared")]

NONO = Path(sys.executable).parent / "nono"
PLANTED = (".git/hooks/pre-commit", "sub/.envrc")
PLANT = (
    f"mkdir -p .git/hooks sub; echo evil > {PLANTED[0]}; echo evil > {PLANTED[1]}; "
    f"echo evil > sub/.npmrc; echo planted; exec sleep {LONG_ENOUGH_S}"
)
SERVER = """
    import pickle, sys, anyio
    from nono_mcp.session import Command, Session

    request, script = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2]

    async def main():
        async with Session.open(request, tier=request.tier) as session:
            words = ("/bin/sh", "-c", script)
            await session.run(Command(words), on_output=lambda data: print(data, flush=True))

    anyio.run(main)
"""


def _killed(bench: Bench, *words: str) -> None:
    """Kill what plants, once it has."""
    (bench.workspace / "sub").mkdir(exist_ok=True)
    (bench.workspace / "sub" / ".npmrc").write_text("the person's")
    environ = ENVIRON | {"HOME": str(bench.root / "home")}
    environ["XDG_STATE_HOME"] = str(bench.root / "state")
    with subprocess.Popen(
        words, cwd=bench.workspace, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "planted" in process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        assert process.wait(LONG_ENOUGH_S) == -signal.SIGKILL
    assert all((bench.workspace / path).exists() for path in PLANTED)


def _killed_server(bench: Bench) -> None:
    request = pickle.dumps(bench.request()).hex()
    _killed(bench, sys.executable, "-c", textwrap.dedent(SERVER), request, PLANT)


def test_the_next_server_puts_it_right_before_any_call(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    _killed_server(bench)

    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with Session.open(bench.request(), tier=bench.tier) as session:
                assert not [p for p in PLANTED if (bench.workspace / p).exists()]
                assert (bench.workspace / "sub" / ".npmrc").read_text() == "the person's"
                result = await session.run(Command(("/bin/true",)))
                assert result.guarded == ()

    anyio.run(act)
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "killed" in text]) == 3


# In the second tier what may be written around what is denied is refused.
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_what_was_denied_before_it_was_made_is_taken_away_by_the_next_run(bench: Bench) -> None:
    denied = bench.workspace / "denied"
    command = (str(NONO), "run", "--allow-cwd", "--deny", str(denied), "--", "sh", "-c")
    _killed(bench, *command, f"echo evil > {denied}; {PLANT}")
    assert denied.exists()
    environ = ENVIRON | {"HOME": str(bench.root / "home")}
    environ["XDG_STATE_HOME"] = str(bench.root / "state")
    done = subprocess.run(
        [*command, "true"], cwd=bench.workspace, env=environ, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert not denied.exists()


def test_a_run_that_was_killed_is_told_of_by_the_next(bench: Bench) -> None:
    command = (str(NONO), "run", "--tier", bench.tier, "--allow-cwd", "--", "sh", "-c")
    _killed(bench, *command, PLANT)
    environ = ENVIRON | {"HOME": str(bench.root / "home")}
    environ["XDG_STATE_HOME"] = str(bench.root / "state")
    done = subprocess.run(
        [*command, "true"],
        cwd=bench.workspace,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert ".git/hooks/pre-commit" in done.stderr
    assert "killed" in done.stderr
    assert not (bench.workspace / PLANTED[0]).exists()


def test_a_server_and_a_run_of_one_workspace_know_of_each_other(bench: Bench) -> None:
    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with (
                Session.open(bench.request(), tier=bench.tier) as session,
                anyio.create_task_group() as group,
            ):
                planted = anyio.Event()

                async def job() -> None:
                    words = ("/bin/sh", "-c", PLANT)
                    await session.run(Command(words), on_output=lambda _: planted.set())

                group.start_soon(job)
                await planted.wait()
                environ = ENVIRON | {"HOME": str(bench.root / "home")}
                environ["XDG_STATE_HOME"] = str(bench.root / "state")
                words = [NONO, "run", "--tier", bench.tier, "--allow-cwd", "--", "true"]
                done = await anyio.run_process(
                    [str(word) for word in words], cwd=bench.workspace, env=environ
                )
                assert b"taken away again" in done.stderr
                assert not (bench.workspace / PLANTED[0]).exists()
                group.cancel_scope.cancel()

    anyio.run(act)
    assert not [path for path in PLANTED if (bench.workspace / path).exists()]
