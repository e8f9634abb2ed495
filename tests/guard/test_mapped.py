"""What a call changes without a new status, since it has the file mapped, is put right."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.guard import judging_spots, tree
from nono_mcp.guard.guard import Guard
from nono_mcp.guard.looking import Changed
from nono_mcp.guard.subtree_guard import SubtreeGuard
from nono_mcp.session import Command, Session
from tests.guard.conftest import LONG_ENOUGH_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.guard.action import Action
    from nono_mcp.guard.spots import Spot
    from tests.guard.conftest import Bench

pytestmark = [
    pytest.mark.linux,
    pytest.mark.claim("guard.put-right"),
    pytest.mark.claim("guard.beneath"),
]

HARMLESS = "[core]\n#" + "x" * 40 + "\n"
EVIL = "[core]\nfsmonitor=evil".ljust(len(HARMLESS) - 1) + "\n"
# A page that is dirty already is written to without a fault, and so without a new time.
MAPPED = """
    import mmap, os, sys, time
    path, harmless, evil = sys.argv[1], sys.argv[2].encode(), sys.argv[3].encode()
    os.makedirs(os.path.dirname(path))
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, harmless)
    os.fsync(fd)
    shared = mmap.mmap(fd, len(harmless))
    shared[0:1] = shared[0:1]
    print("mapped", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    shared[:] = evil
"""
PATHS = [".git/config", "sub/.git/config"]


@pytest.mark.parametrize("path", PATHS)
def test_what_a_job_has_mapped_when_another_call_ends_is_put_right_at_its_own(
    bench: Bench, path: str
) -> None:
    words = ("-I", "-S", "-c", textwrap.dedent(MAPPED), path, HARMLESS, EVIL)

    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with Session.open(bench.request(), tier=bench.tier) as session:
                mapped = anyio.Event()

                async def job() -> None:
                    command = Command(("/usr/bin/python3", *words))
                    result = await session.run(command, on_output=lambda _: mapped.set())
                    assert result.status == 0
                    assert [one.action for one in result.guarded] == ["restored"]
                    assert (bench.workspace / path).read_text() == HARMLESS

                async with anyio.create_task_group() as group:
                    group.start_soon(job)
                    await mapped.wait()
                    other = await session.run(Command(("/bin/true",)))
                    assert other.guarded == ()
                    (bench.workspace / "go").touch()
                again = await session.run(Command(("/bin/true",)))
                assert again.guarded == ()

    anyio.run(act)


def _guard(workspace: Path, state: Path) -> Callable[[], tuple[Action, ...]]:
    guard = Guard(str(state))
    guard.settle([(str(workspace), None)], ())
    guard.begin()
    return guard.put_right


def _below(workspace: Path, state: Path) -> Callable[[], tuple[Action, ...]]:
    below = SubtreeGuard(str(state))
    below.settle(str(workspace), ())
    below.learn(None)
    return lambda: below.put_right(None)


@pytest.mark.parametrize(("path", "make"), [(PATHS[0], _guard), (PATHS[1], _below)])
def test_what_comes_between_is_put_right_by_the_next_look(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    make: Callable[[Path, Path], Callable[[], tuple[Action, ...]]],
) -> None:
    workspace = tmp_path / "work"
    config = workspace / path
    config.parent.mkdir(parents=True)
    config.write_text(HARMLESS)
    put_right = make(workspace, tmp_path / "state")
    config.write_text(EVIL)
    put_back = tree.put_back

    def come_between(*words: object) -> None:
        config.write_text(EVIL)
        put_back(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(tree, "put_back", come_between)
        assert [one.action for one in put_right()] == ["left"]
    assert config.read_text() == EVIL
    assert [one.action for one in put_right()] == ["restored"]
    assert config.read_text() == HARMLESS


@pytest.mark.parametrize(("path", "make"), [(PATHS[0], _guard), (PATHS[1], _below)])
def test_what_changes_once_it_was_judged_is_judged_by_the_next_look(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    make: Callable[[Path, Path], Callable[[], tuple[Action, ...]]],
) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir()
    put_right = make(workspace, tmp_path / "state")
    config = workspace / path
    config.parent.mkdir(parents=True)
    config.write_text(HARMLESS)
    judged = judging_spots.is_in_order

    def is_in_order(spot: Spot, *words: object) -> bool:
        verdict = judged(spot, *words)  # type: ignore[arg-type]
        if spot.name == "config":
            config.write_text(EVIL)
        return verdict

    with monkeypatch.context() as patch:
        patch.setattr(judging_spots, "is_in_order", is_in_order)
        assert put_right() == ()
    assert config.read_text() == EVIL
    assert [one.action for one in put_right()] == ["restored"]
    assert config.read_text() == HARMLESS


UNTOLD = Path("/dev/shm")  # noqa: S108 - of the kind that is meant, on every Linux
STORE = """
    import mmap, os, sys
    fd = os.open(sys.argv[1], os.O_RDWR)
    shared = mmap.mmap(fd, os.fstat(fd).st_size)
    shared[0]
    before = os.fstat(fd)
    shared[:] = sys.argv[2].encode()
    assert os.fstat(fd).st_ctime_ns == before.st_ctime_ns, "it is told"
"""


@pytest.mark.parametrize(("path", "make"), [(PATHS[0], _guard), (PATHS[1], _below)])
def test_a_file_system_that_gives_no_new_time_hides_nothing(
    tmp_path: Path, path: str, make: Callable[[Path, Path], Callable[[], tuple[Action, ...]]]
) -> None:
    with tempfile.TemporaryDirectory(dir=UNTOLD) as place:
        config = Path(place) / path
        config.parent.mkdir(parents=True)
        config.write_text(HARMLESS)
        put_right = make(Path(place), tmp_path / "state")
        words = [sys.executable, "-c", textwrap.dedent(STORE), str(config), EVIL]
        subprocess.run(words, check=True)
        assert [one.action for one in put_right()] == ["restored"]
        assert config.read_text() == HARMLESS


@pytest.mark.parametrize("path", PATHS)
def test_what_the_person_changes_there_without_a_new_time_is_the_persons(
    tmp_path: Path, path: str
) -> None:
    with tempfile.TemporaryDirectory(dir=UNTOLD) as place:
        config = Path(place) / path
        config.parent.mkdir(parents=True)
        config.write_text(HARMLESS)
        guard, below = Guard(str(tmp_path / "state")), SubtreeGuard(str(tmp_path / "state"))
        guard.settle([(place, None)], ())
        below.settle(place, ())
        assert (guard.begin(), below.begin(None), guard.end(), below.end()) == ((), (), (), ())
        words = [sys.executable, "-c", textwrap.dedent(STORE), str(config), EVIL]
        subprocess.run(words, check=True)
        still = below.is_still(learning=True)
        assert still == (path == PATHS[0]), "the top directory is another guard's"
        guard.begin()
        below.begin(Changed(frozenset()))
        assert (guard.end(), below.end()) == ((), ())
        assert config.read_text() == EVIL
