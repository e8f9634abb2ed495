"""The README's first command: it shows what it claims, and leaves nothing behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import CallToolResult

from nono_mcp.demo import main
from nono_mcp.demo.claims import Demonstration
from nono_mcp.demo.processes import running
from nono_mcp.demo.scene import Scene
from nono_mcp.server.results import META_KEY, plain

pytestmark = pytest.mark.linux

NONO = str(Path(sys.executable).parent / "nono")
TIER = os.environ.get("NONO_TEST_TIER", "")
# With what this machine gives, and with the tier that every machine gives.
CHOICES = [["--tier", TIER]] if TIER else [[], ["--tier", "landlock"]]


def demo(*options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | changes
    return subprocess.run(
        [NONO, "demo", *options],
        capture_output=True,
        check=False,
        env=environ,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=200,
    )


@pytest.mark.parametrize("options", CHOICES)
def test_everything_it_claims_holds(tmp_path: Path, options: list[str]) -> None:
    shown = demo(*options, TMPDIR=str(tmp_path), HOME=str(tmp_path))
    assert shown.stderr == ""
    assert shown.returncode == 0, shown.stdout
    assert shown.stdout.count("  ok    ") == 8
    assert "FAIL" not in shown.stdout
    assert "Enforced by: " in shown.stdout
    if options:
        assert "without namespaces" in shown.stdout or options[1] == "namespaces"
    assert not list(tmp_path.iterdir())


def test_a_server_that_doesnt_start_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nono_mcp.demo.scene.launcher", lambda: ["/bin/false"])
    mask = os.umask(0o022)
    try:
        assert main([]) == 1
        assert os.umask(mask) == 0o022, "whoever calls it keeps theirs"
    finally:
        os.umask(mask)
    assert "the server is gone" in capsys.readouterr().err


class Unconfined:
    """A server that runs commands as they are."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        if name == "explain_policy":
            return plain("Enforced by: nothing")
        if name != "run_sandboxed":
            return plain("no such tool", is_error=True)
        output = self._scene.home / "output"
        # Not a pipe: what is left behind would hold it.
        with output.open("wb") as stdout:
            ended = await anyio.run_process(
                arguments.get("argv") or ["/bin/sh", "-c", arguments["command"]],
                check=False,
                cwd=self._scene.project,
                env=self._scene.server([]).env,
                stderr=subprocess.STDOUT,
                stdout=stdout,
            )
        answer = plain(f"exit status\n{output.read_text(errors='replace')}")
        return answer.model_copy(update={"meta": {META_KEY: {"status": ended.returncode}}})


@pytest.mark.anyio
async def test_without_a_sandbox_every_claim_fails_but_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(tmp_path)
    scene.set()
    demonstration = Demonstration(scene)
    await demonstration.run(Unconfined(scene))  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    for mark in re.findall(r"demo-[0-9a-f]{8}", shown):
        for pid in running(mark):
            # It leads a session, and what it waits for doesn't bear the mark.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    assert shown.count("  ok    ") == 1
    assert shown.count("  FAIL  ") == demonstration.failed_count == 7


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_it_says_how_it_is_called() -> None:
    assert demo("--help").stdout.startswith("usage: nono demo")
    assert demo("--tier", "none").returncode == 2
