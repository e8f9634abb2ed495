"""What a call shut behind itself, and a workspace that the person moved while one ran."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.guard import finding, ways
from nono_mcp.guard.looking import Changed
from nono_mcp.guard.subtree_guard import SubtreeGuard
from nono_mcp.session import Command, Session
from tests.guard.conftest import LONG_ENOUGH_S

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.session import Result
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.beneath")]
MODES = ("000", "111", "300", "400", "444", "555")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_shut_hides_nothing(bench: Bench) -> None:
    """Several levels of it, with the plant itself; to be looked at by who isn't root."""
    scripts = [
        f"mkdir -p {m}/x/y/.vscode && cd {m} && echo evil > x/y/.vscode/tasks.json "
        f"&& chmod {m} x/y/.vscode x/y x ."
        for m in MODES
    ]
    assert bench.run(*scripts) == [f"removed {m}/x/y/.vscode" for m in MODES]


def test_what_is_shut_and_holds_nothing_is_as_it_was(bench: Bench) -> None:
    bench.run("mkdir -p a/b/c && chmod 0 a/b/c && chmod 100 a/b && chmod 0 a")
    path = bench.workspace / "a"
    assert mode(path) == 0
    path.chmod(0o700)
    assert mode(path / "b") == 0o100
    assert mode(path / "b" / "c") == 0


def test_what_may_not_be_written_is_put_right_all_the_same(bench: Bench) -> None:
    script = (
        "mkdir -p .vscode .git/hooks; echo evil > .vscode/tasks.json; "
        "echo evil > .git/hooks/pre-push; chmod 555 .vscode .git/hooks .git ."
    )
    assert bench.run(script) == ["removed .git/hooks/pre-push", "removed .vscode"]
    assert mode(bench.workspace) == mode(bench.workspace / ".git" / "hooks") == 0o555
    bench.workspace.chmod(0o700)


def test_hooks_are_put_back_where_none_may_be_made(bench: Bench, repository: Path) -> None:
    bench.run("(rm -r .git/hooks && chmod 555 .git) || true")
    assert (repository / ".git" / "hooks" / "post-commit").exists()
    (repository / ".git").chmod(0o700)


def test_modes_are_given_back_when_a_walk_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    opened: list[str] = []
    entered = ways.entered

    def shut(name: str, parent: int) -> tuple[int, int | None]:
        opened.append(name)
        return entered(name, parent)[0], 0o711

    monkeypatch.setattr(ways, "entered", shut)
    (tmp_path / "a" / "b" / ".envrc").touch()
    root = os.open(tmp_path, ways.DIRECTORY)
    try:
        walk = finding.by_walk(root, (), packages=True, forcing=True)
        assert next(iter(walk)).name == ".envrc"
        assert mode(tmp_path / "a") != 0o711, "while what is in it is looked into"
        walk.close()  # type: ignore[attr-defined]
    finally:
        os.close(root)
    assert opened == ["a", "b"]
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o711


def test_what_cant_be_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = ways.entered

    def full(name: str, parent: int) -> tuple[int, int | None]:
        if name == "d":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return entered(name, parent)

    workspace = tmp_path / "work"
    workspace.mkdir()
    below = SubtreeGuard(str(tmp_path / "state"))
    below.settle(str(workspace), ())
    below.learn(None)
    (workspace / "d" / "f").mkdir(parents=True)
    (workspace / "e").mkdir()
    monkeypatch.setattr(ways, "entered", full)
    for changed in (None, Changed(frozenset(), frozenset({"d/f"}))):
        (action,) = below.put_right(changed)
        assert (action.action, action.path) == ("left", f"{workspace}/d")
        assert os.strerror(errno.EMFILE) in action.why


@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "replaced"])
@pytest.mark.parametrize("within", [False, True], ids=["granted itself", "within a grant"])
def test_a_workspace_that_is_moved_meanwhile_is_told(
    bench: Bench, *, replaced: bool, within: bool
) -> None:
    outer = bench.root / "outer"
    outer.mkdir()
    bench.workspace.rename(outer / "work")
    bench.workspace.symlink_to(outer / "work")
    moved = outer / "moved"
    ended: list[Result] = []
    script = "touch begun; until [ -e go ]; do :; done; mkdir d; echo evil > d/.envrc"
    request = bench.request(allow=(str(outer),) if within else ())

    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with (
                Session.open(request, tier=bench.tier) as session,
                anyio.create_task_group() as group,
            ):

                async def run() -> None:
                    ended.append(await session.run(Command(("/bin/sh", "-c", script))))

                group.start_soon(run)
                while not (bench.workspace / "begun").exists():  # noqa: ASYNC110 - all it can say
                    await anyio.sleep(0.01)
                (outer / "work").rename(moved)
                if replaced:
                    (outer / "work" / "d" / ".vscode").mkdir(parents=True)
                    (outer / "work" / "d" / ".vscode" / "mine").touch()
                (moved / "go").touch()

    anyio.run(act)
    told = {(one.action, one.path) for one in ended[0].guarded}
    assert told == {("left", str(outer / "work"))}
    assert all("isn't where it was" in one.why for one in ended[0].guarded)
    assert (outer / "work" / "d" / ".vscode" / "mine").exists() == replaced
