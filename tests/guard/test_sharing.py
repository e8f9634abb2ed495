"""What calls of another server plant isn't the person's, nor what one left that was killed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.guard import presence
from nono_mcp.guard.guard import Guard
from nono_mcp.guard.subtree_guard import SubtreeGuard
from nono_mcp.policy.document import SnapshotsSection
from nono_mcp.session import Command, Session
from nono_sandbox.errors import ConfinementError
from tests.guard.conftest import LONG_ENOUGH_S

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.guard.action import Action
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.shared")]

HOOK = ".git/hooks/pre-commit"
DEEP = "sub/.envrc"
PLANT = f"mkdir -p .git/hooks sub; echo evil > {HOOK}; echo evil > {DEEP}; echo evil > .npmrc"
PLANTED = (HOOK, DEEP, ".npmrc")


def _told(actions: tuple[Action, ...], top: Path) -> list[str]:
    return sorted(f"{one.action} {os.path.relpath(one.path, top)}" for one in actions)


@pytest.mark.parametrize("keeping", [True, False], ids=["kept", "unkept"])
def test_what_another_servers_call_plants_isnt_taken_for_the_persons(
    bench: Bench, *, keeping: bool
) -> None:
    request = bench.request()
    flags = request.flags.replace(snapshots=SnapshotsSection(enabled=keeping))
    request = request.replace(flags=flags)

    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with (
                Session.open(request, tier=bench.tier) as one,
                Session.open(request, tier=bench.tier) as other,
                anyio.create_task_group() as group,
            ):
                planted = anyio.Event()
                script = f"{PLANT}; echo planted; until [ -e go ]; do sleep 0.02; done; {PLANT}"

                async def job() -> None:
                    words = ("/bin/sh", "-c", script)
                    result = await one.run(Command(words), on_output=lambda _: planted.set())
                    assert result.status == 0
                    found = _told(result.guarded, bench.workspace)
                    assert found == sorted(f"removed {path}" for path in PLANTED)

                group.start_soon(job)
                await planted.wait()
                result = await other.run(Command(("/bin/true",)))
                found = _told(result.guarded, bench.workspace)
                assert found == sorted(f"removed {path}" for path in PLANTED)
                assert not [p for p in PLANTED if (bench.workspace / p).exists()]
                (bench.workspace / "go").touch()

    anyio.run(act)
    assert not [path for path in PLANTED if (bench.workspace / path).exists()]
    assert list((bench.root / "state" / "nono" / "guard" / "top").iterdir()) == []


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what a killed server ran for ended at once."""
    monkeypatch.setattr(presence, "GRACE_NS", 0)


SERVER = """
    import os, signal, sys
    from nono_mcp.guard import presence, quarantine, register, tree
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.guard.guard import Guard

    work, state, where, after, when, kind = sys.argv[1:]
    if kind == "guard":
        guard = Guard(state)
        guard.settle([(work, None)], ())
        begin, end, rest = guard.begin, guard.end, guard.close
    else:
        guard = SubtreeGuard(state)
        guard.settle(work, ())
        begin = lambda: guard.is_still(learning=True) or guard.begin(None)
        end, rest = guard.end, guard.close
    modules = {
        "register": register.Register,
        "presence": presence.Presence,
        "tree": tree,
        "quarantine": quarantine.Quarantine,
    }
    holder, name = where.split(".")
    owner = modules[holder]
    wrapped = getattr(owner, name)

    def until_killed(*words, **options):
        if after == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        wrapped(*words, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    if "again" in when:
        # Nobody else is there by now, and so the next one begins without a turn.
        begin()
        end()
    if "beginning" in when:
        setattr(owner, name, until_killed)
    begin()
    top = work if kind == "guard" else work + "/sub"
    os.makedirs(top + "/.git/hooks", exist_ok=True)
    open(top + "/.git/hooks/pre-push", "w").write("evil")
    open(top + "/.npmrc", "w").write("evil")
    if "ending" in when:
        setattr(owner, name, until_killed)
    end()
    rest()
    raise SystemExit("not killed")
"""
STEPS = [
    (where, after, when)
    for when, steps in {
        "beginning": ("register.publish", "register.join", "presence.run"),
        "ending": ("quarantine.take", "tree.put_back", "presence.rest"),
        "beginning again": ("presence.run",),
        "ending again": ("quarantine.take", "presence.rest"),
    }.items()
    for where in steps
    for after in ("before", "after")
]


def _killed(tmp_path: Path, kind: str, step: tuple[str, str, str]) -> Path:
    """Have a guard that was killed at *step*, and return its workspace."""
    work = tmp_path / "a b"
    top = work if kind == "guard" else work / "sub"
    top.mkdir(parents=True)
    (top / ".npmrc").write_text("the person's")
    words = [sys.executable, "-c", textwrap.dedent(SERVER), str(work), str(tmp_path / "state")]
    done = subprocess.run([*words, *step, kind], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return work


def _next(work: Path, kind: str) -> tuple[Action, ...]:
    """Return what the next server does as its first call begins."""
    state = str(work.parent / "state")
    if kind == "guard":
        guard = Guard(state)
        guard.settle([(str(work), None)], ())
        actions = guard.begin()
        assert guard.end() == ()
        guard.close()
        return actions
    below = SubtreeGuard(state)
    below.settle(str(work), ())
    actions = below.begin(None)
    assert below.end() == ()
    below.close()
    return actions


@pytest.mark.parametrize("kind", ["guard", "below"])
@pytest.mark.parametrize("step", STEPS, ids="-".join)
def test_whenever_a_server_is_killed_what_its_call_did_is_put_right(
    tmp_path: Path, kind: str, step: tuple[str, str, str]
) -> None:
    work = _killed(tmp_path, kind, step)
    top = work if kind == "guard" else work / "sub"
    _next(work, kind)
    assert (top / ".npmrc").read_text() == "the person's"
    assert not (top / ".git" / "hooks" / "pre-push").exists()


BEFORE_REST = ("presence.rest", "before", "ending")
IN_THE_CALL = ("quarantine.take", "before", "ending")


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("kind", ["guard", "below"])
def test_it_is_told_why_and_what_the_person_does_afterwards_stays(
    tmp_path: Path, kind: str
) -> None:
    work = _killed(tmp_path, kind, IN_THE_CALL)
    top = work if kind == "guard" else work / "sub"
    actions = _next(work, kind)
    assert sorted(one.action for one in actions) == ["removed", "restored"]
    assert all("killed" in one.why for one in actions)
    assert _next(work, kind) == (), "the last look at it"
    (top / ".npmrc").write_text("the person's other one")
    (top / ".envrc").write_text("the person's")
    assert _next(work, kind) == ()
    assert (top / ".npmrc").read_text() == "the person's other one"
    assert (top / ".envrc").exists()


@pytest.mark.parametrize("kind", ["guard", "below"])
def test_what_was_killed_before_the_machine_was_restarted_is_over(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _killed(tmp_path, kind, IN_THE_CALL)
    top = work if kind == "guard" else work / "sub"
    monkeypatch.setattr(presence, "_boot", lambda: b"another".ljust(36))
    assert len(_next(work, kind)) == 2
    (top / ".npmrc").write_text("the person's other one")
    assert _next(work, kind) == ()
    assert (top / ".npmrc").read_text() == "the person's other one"


def test_what_ran_right_after_it_was_killed_is_still_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "GRACE_NS", 10**18)
    work = _killed(tmp_path, "guard", IN_THE_CALL)
    assert [len(_next(work, "guard")) for _ in range(3)] == [2, 0, 0]
    (work / ".envrc").write_text("what a process did that the kernel hadn't ended yet")
    assert [one.action for one in _next(work, "guard")] == ["removed"]


@pytest.mark.parametrize("kind", ["guard", "below"])
def test_a_server_that_was_killed_between_calls_leaves_nothing_to_judge(
    tmp_path: Path, kind: str
) -> None:
    work = _killed(tmp_path, kind, ("presence.rest", "after", "ending"))
    top = work if kind == "guard" else work / "sub"
    (top / ".envrc").write_text("the person's")
    assert _next(work, kind) == ()
    assert (top / ".envrc").exists()


@pytest.mark.parametrize("kind", ["guard", "below"])
@pytest.mark.parametrize("data", [b"", b"nono guard 0 of an older version", b"nono guard 1 0000"])
def test_what_cant_be_read_is_said(tmp_path: Path, kind: str, data: bytes) -> None:
    work = _killed(tmp_path, kind, IN_THE_CALL)
    (known,) = (tmp_path / "state" / "guard").glob("*/*/known*")
    known.write_bytes(data)
    (action, *rest) = _next(work, kind)
    assert (action.action, rest) == ("left", [])
    assert "isn't known" in action.why


@pytest.mark.parametrize("kind", ["guard", "below"])
def test_who_cant_tell_others_runs_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / ".npmrc").touch()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises((ConfinementError, OSError)):
            _next(tmp_path / "a b", kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert _next(tmp_path / "a b", kind) == ()


def _guard(work: Path, *closed: str, given_up: tuple[str, ...] = ()) -> Guard:
    guard = Guard(str(work.parent / "state"))
    paths = [f"{work}/{one}" for one in closed]
    guard.settle([(str(work), None)], paths, given_up=[f"{work}/{one}" for one in given_up])
    return guard


@pytest.mark.parametrize("closed", [(), (".vscode",), (".vscode", ".git"), (".git/hooks",)])
@pytest.mark.parametrize("others", [(), (".vscode", ".git/hooks"), (".git",)])
def test_what_one_policy_leaves_out_another_takes_for_the_persons(
    tmp_path: Path, closed: tuple[str, ...], others: tuple[str, ...]
) -> None:
    work = tmp_path / "work"
    (work / ".vscode").mkdir(parents=True)
    (work / ".git" / "hooks").mkdir(parents=True)
    kept = [work / ".vscode" / "tasks.json", work / ".git" / "hooks" / "pre-commit"]
    for path in kept:
        path.write_text("the person's")
    one, other = _guard(work, *closed), _guard(work, *others)
    assert one.begin() == other.begin() == ()
    (work / ".npmrc").write_text("evil")
    if not (closed and others):
        kept[0].write_text("evil")
    done = (*other.end(), *one.end())
    assert {os.path.relpath(each.path, work) for each in done} <= {".npmrc", ".vscode"}
    assert not (work / ".npmrc").exists()
    assert [path.read_text() for path in kept] == ["the person's"] * 2
    one.close()
    other.close()


def test_what_a_policy_gives_up_is_let_be_whoever_else_runs(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    one = _guard(work)
    other = _guard(work, given_up=(".vscode",))
    assert one.begin() == other.begin() == ()
    (work / ".vscode").mkdir()
    assert other.end() == ()
    assert [each.action for each in one.end()] == ["removed"]


def test_what_is_granted_while_a_call_runs_is_taken_in_by_the_next(tmp_path: Path) -> None:
    work, more = tmp_path / "work", tmp_path / "more"
    work.mkdir()
    more.mkdir()
    (more / ".envrc").write_text("the person's")
    guard = _guard(work)
    guard.begin()
    guard.settle([(str(work), None), (str(more), None)], ())
    assert guard.put_right() == ()
    guard.begin()
    (more / ".npmrc").write_text("evil")
    assert [one.action for one in guard.end()] == ["removed"]
    assert guard.end() == ()
    assert (more / ".envrc").exists()


RACER = """
    import os, sys
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.guard.guard import Guard

    work, state, who = sys.argv[1:]
    guard, below = Guard(state), SubtreeGuard(state)
    guard.settle([(work, None)], ())
    below.settle(work, ())
    for number in range(25):
        below.begin(None)
        guard.begin()
        for top in (work, work + "/sub"):
            os.makedirs(top + "/.git/hooks", exist_ok=True)
            for path in (f"{top}/.git/hooks/{who}", f"{top}/.npmrc", f"{top}/.envrc"):
                open(path, "w").write("evil")
        guard.end()
        below.end()
    guard.close()
    below.close()
"""


def test_servers_that_race_leave_nothing_but_the_persons(tmp_path: Path) -> None:
    work, state = tmp_path / "work", tmp_path / "state"
    for top in (work, work / "sub"):
        top.mkdir()
        (top / ".npmrc").write_text("the person's")
    words = [sys.executable, "-c", textwrap.dedent(RACER), str(work), str(state)]
    racers = [subprocess.Popen([*words, str(number)]) for number in range(3)]
    assert [racer.wait(LONG_ENOUGH_S) for racer in racers] == [0] * 3
    for top in (work, work / "sub"):
        assert list((top / ".git" / "hooks").iterdir()) == []
        assert (top / ".npmrc").read_text() == "the person's"
        assert not (top / ".envrc").exists()
    assert [list((state / "guard" / kind).iterdir()) for kind in ("top", "below")] == [[], []]
