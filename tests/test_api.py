"""The Python API: what a program that imports us is given, looked at from outside."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import nono_mcp
from nono_mcp.audit import reading
from nono_mcp.policy.errors import RefusedError, quoted
from nono_sandbox.confinement import NAMESPACES

pytestmark = [pytest.mark.linux, pytest.mark.anyio]

SECRET = "correct-horse-battery"  # noqa: S105 - planted, to be looked for

TIER = os.environ.get("NONO_TEST_TIER") or None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text(SECRET)
    (home / "project").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "disabled:")
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home / "project"


async def test_a_command_runs_confined_and_what_it_did_is_put_back(project: Path) -> None:
    (project / "kept.txt").write_text("before")
    async with nono_mcp.Session("~/project", timeout_s=60, tier=TIER) as session:
        done = await session.run("echo after > kept.txt; touch made; echo said; exit 3")
        assert (done.status, done.text, done.limit) == (3, "said\n", "")
        assert (project / "kept.txt").read_text() == "after\n"
        stolen = await session.run(["cat", str(project.parent / ".ssh" / "id_ed25519")])
        assert stolen.status != 0
        assert SECRET not in stolen.text
        back = await session.rollback(done.before)
        assert (back.verified, back.restored_count, back.removed_count) == (True, 1, 1)
        assert (project / "kept.txt").read_text() == "before"
        await session.rollback(back.before)
        assert (project / "made").exists()
    log = reading.tail_text(str(project.parent / ".local/state/nono"), reading.Filters(), None, 50)
    assert done.id in log.text


@pytest.mark.claim("guard.put-right")
@pytest.mark.parametrize("closed", [False, True])
async def test_a_rollback_brings_back_nothing_that_a_command_beside_had_planted(
    project: Path, *, closed: bool
) -> None:
    """By whatever reason: nobody looked at what the snapshot holds."""
    planted = project / ".npmrc"
    (project / "go").write_text("")
    async with nono_mcp.Session(project, tier=TIER) as session, anyio.create_task_group() as group:
        plant = "echo evil > .npmrc; while [ -e go ]; do sleep 0.05; done"
        group.start_soon(session.run, plant)
        with anyio.fail_after(60):
            while not planted.exists():  # noqa: ASYNC110 - no event tells of it
                await anyio.sleep(0.01)
        tested = await session.run("rm go; exit 1")
    assert not planted.exists()
    if closed:
        planted.write_text("the person's")
    async with nono_mcp.Session(project, tier=TIER) as session:
        await session.rollback(tested.before)
    assert (planted.read_text() if planted.exists() else "") in ("", "the person's")
    assert (project / "go").exists()


async def test_a_commands_surroundings_are_what_was_asked_for(project: Path) -> None:
    (project / "sub").mkdir()
    heard: list[bytes] = []
    async with nono_mcp.Session(project, tier=TIER, environment={"GIVEN": "1"}) as session:
        done = await session.run(
            'pwd; cat; echo "$GIVEN$MORE"',
            cwd="sub",
            stdin="typed\n",
            environment={"MORE": "2"},
            on_output=heard.append,
        )
        assert done.text == f"{project}/sub\ntyped\n12\n"
        assert b"".join(heard) == done.output
        late = await session.run("sleep 1000", timeout_s=0.2)
        assert late.limit == "wall"
        missing = await session.run(["no-such-program"])
        assert missing.status == 127
        assert missing.failure
        long = await session.run("yes | head -c 1000000")
        assert long.omitted_bytes == 1_000_000 - len(long.output) > 0


async def test_files_are_read_and_written_by_workers(project: Path) -> None:
    data = os.urandom(300_000)
    given, others = project.parents[1] / "given", project.parents[1] / "others"
    given.mkdir()
    (given / "file").write_text("given")
    others.write_text(SECRET)
    (project / "link").symlink_to(others)
    async with nono_mcp.Session(project, tier=TIER, read=[str(given)]) as session:
        await session.write_file("deep/er/data", data)
        assert (project / "deep/er/data").read_bytes() == data
        assert await session.read_file(f"{project}/deep/er/data") == data
        assert await session.read_file(f"{given}/file") == b"given"
        with pytest.raises(nono_mcp.FileError):
            await session.write_file(f"{given}/file", "changed")
        for path in (str(others), "link", "missing"):
            with pytest.raises(nono_mcp.FileError):
                await session.read_file(path)
    assert (given / "file").read_text() == "given"
    assert others.read_text() == SECRET


async def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(project: Path) -> None:
    os.mkfifo(project / "fifo")
    (project / "holes").touch()
    os.truncate(project / "holes", 1 << 40)
    async with nono_mcp.Session(project, tier=TIER) as session:
        for path in ("fifo", "/dev/zero"):
            with anyio.fail_after(60), pytest.raises(nono_mcp.FileError, match="no regular file"):
                await session.read_file(path)
            with anyio.fail_after(60), pytest.raises(nono_mcp.FileError, match="no regular file"):
                await session.write_file(path, "x")
        with pytest.raises(nono_mcp.FileError, match="holes: over "):
            await session.read_file("holes")
        for path in ("new/", "new/er/."):
            with pytest.raises(nono_mcp.FileError, match="names a directory"):
                await session.write_file(path, "x")
    assert not (project / "new").exists()


async def test_a_file_that_another_session_led_astray_says_what_to_do(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = project.parent / "docs"
    (project / "bin").mkdir()
    docs.mkdir()
    # It lasts as long as it's let.
    (project / "bin/cat").write_text("#!/bin/sh\ntouch begun\nexec sleep 1000\n")
    (project / "bin/cat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{project}/bin:{os.environ['PATH']}")
    async with (
        nono_mcp.Session(project, tier=TIER, allow=[str(docs)]) as session,
        nono_mcp.Session(project, tier=TIER) as other,
    ):
        if session.tier != NAMESPACES:
            return  # there nothing is mounted that could be moved

        async def lead_astray() -> None:
            await other.run("until [ -e begun ]; do sleep 0.01; done; rmdir ~/docs")

        async with anyio.create_task_group() as group:
            group.start_soon(lead_astray)
            with pytest.raises(nono_mcp.FileError) as failed:
                await session.write_file(f"{docs}/written", "x")
    assert "was moved or removed meanwhile" in str(failed.value)
    written = f"{quoted(str(docs))}, {quoted(str(project))}"
    assert f"what it wrote to {written} may lie in" in str(failed.value)
    assert str(failed.value).endswith("look there, and run it again")


async def test_a_call_that_is_cancelled_and_a_session_that_ends_leave_nothing(
    project: Path,
) -> None:
    mark = f"marked-{project.parents[1].name}-{os.getpid()}"
    async with nono_mcp.Session(project, tier=TIER) as session:
        with anyio.move_on_after(0.5):
            await session.run(f"sh -c 'sleep 1000; :' {mark}")
        assert not marked(mark)
    with pytest.raises(RuntimeError, match="isn't open"):
        await session.run("true")


def marked(mark: str) -> list[str]:
    ended = subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False, text=True)
    return ended.stdout.split()


async def test_what_a_policy_refuses_starts_nothing(project: Path) -> None:
    with pytest.raises(RefusedError):
        async with nono_mcp.Session(project.parent, tier=TIER):
            pass


def test_importing_the_package_imports_none_of_it() -> None:
    code = "import sys, nono_mcp; assert not [m for m in sys.modules if m.startswith('nono_mcp.')]"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        nono_mcp.nothing  # noqa: B018 - it raises
