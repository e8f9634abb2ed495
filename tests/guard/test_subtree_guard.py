"""What a call plants beneath the top directory is gone when it has been answered."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.guard import baseline
from nono_mcp.session import Command, Session
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.undo.values import Wanted
from tests.guard.conftest import LONG_ENOUGH_S, git, seen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nono_mcp.guard.action import Action
    from nono_mcp.session import Result
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.beneath")]
EVIL = "printf '[core]\\nfsmonitor=evil\\n'"
INIT = "git init -q sub"
BARE = "git init -q --bare bare"

PLANTED = {
    "a/.vscode": "mkdir -p a/.vscode && echo '{}' > a/.vscode/tasks.json",
    "a/b/c/.envrc": "mkdir -p a/b/c && echo evil > a/b/c/.envrc",
    "d/.npmrc": "echo evil > d/.npmrc",
    "d/.claude": "mkdir x && echo evil > x/settings.json && mv x d/.claude",
    "d/.idea": "mkdir -p d/.idea && echo evil > d/.idea/a && chmod 0 d/.idea",
    "shut/.codex": "mkdir -p shut/.codex && echo evil > shut/.codex/a && chmod 0 shut",
    "moved/.envrc": "mkdir t && echo evil > t/.envrc && mv t moved",
    "d/.envrc": "echo evil > t && ln t d/.envrc",
    "d/.mcp.json": "ln -s ../t d/.mcp.json",
    "d/.husky": "mkfifo d/.husky",
    "sub/.git/config": f"{INIT} && {EVIL} >> sub/.git/config",
    "sub/.git/hooks/pre-commit": f"{INIT} && echo evil > sub/.git/hooks/pre-commit",
    "sub/.git/commondir": f"{INIT} && echo ../../evil > sub/.git/commondir",
    "sub/.git/config.worktree": f"{INIT} && {EVIL} > sub/.git/config.worktree",
    "sub/.git/info/attributes": f"{INIT} && echo '* filter=x' > sub/.git/info/attributes",
    "sub/.git": "mkdir -p sub && echo 'gitdir: ../evil' > sub/.git",
    "link/.git": f"{INIT} && mkdir link && ln -s ../sub/.git link/.git",
    "sub/.git/modules/a/b/config": (
        f"{INIT} && mkdir -p sub/.git/modules/a/b && {EVIL} > sub/.git/modules/a/b/config"
    ),
    "sub/.git/worktrees/w/modules/m/config": (
        f"{INIT} && d=sub/.git/worktrees/w/modules/m && mkdir -p $d && {EVIL} > $d/config"
    ),
    "sub/.git/worktrees/w/config": (
        f"{INIT} && d=sub/.git/worktrees/w && mkdir -p $d/objects $d/refs && echo x > $d/HEAD "
        f"&& {EVIL} > $d/config"
    ),
    "sub/.git/worktrees/w/hooks/pre-commit": (
        f"{INIT} && d=sub/.git/worktrees/w/hooks && mkdir -p $d && echo evil > $d/pre-commit"
    ),
    "bare/HEAD": f"{BARE} && {EVIL} >> bare/config",
    "d/HEAD": "git init -q --bare t && echo x > t/hooks/post-checkout && mv t/* d",
    "x/HEAD": "mkdir -p x y/objects y/refs && echo ref: refs/heads/m > x/HEAD "
    f"&& echo ../y > x/commondir && {EVIL} > y/config",
    "node_modules/p/.git/config": (
        f"git init -q node_modules/p && {EVIL} >> node_modules/p/.git/config"
    ),
}  # fmt: skip


def test_what_a_call_plants_is_taken_away(bench: Bench) -> None:
    """Each attack by a call of its own, in a directory of its own."""
    scripts = [f"mkdir -p {n}/d && cd {n} && {one}" for n, one in enumerate(PLANTED.values())]
    bench.run(*scripts)
    start = len(f"{bench.workspace}/")
    found = [[f"{a.action} {a.path[start:]}" for a in r.guarded] for r in bench.results]
    assert found == [[f"removed {n}/{path}"] for n, path in enumerate(PLANTED)]
    assert not [n for n, p in enumerate(PLANTED) if os.path.lexists(bench.workspace / f"{n}/{p}")]


def test_a_workspace_made_a_bare_repository_is_none_afterwards(bench: Bench) -> None:
    script = f"git init -q --bare t && {EVIL} > t/config && mv t/* ."
    assert bench.run(script) == ["removed HEAD"]


CHANGED = {
    "a file": "echo evil > d/.npmrc",
    "a file by a rename": "echo evil > t && mv t d/.npmrc",
    "a file by a link": "ln d/.npmrc t && echo evil > t && rm t",
    "a file by a link, of another call": ("ln d/.npmrc t", "echo evil > t"),
    "a file replaced by a link": "rm d/.npmrc && ln -s ../t d/.npmrc",
    "a directory's file": "echo evil > d/.vscode/tasks.json",
    "a directory's new file": "echo evil > d/.vscode/settings.json",
    "a directory's file by a link": "ln d/.vscode/tasks.json t && echo evil > t",
    "settings": "git -C sub config core.fsmonitor evil",
    "settings by a link": "ln sub/.git/config t && echo '[core]pager=evil' >> t && rm t",
    "a hook": "echo evil >> sub/.git/hooks/post-commit",
    "a hook made": "echo evil >> sub/.git/hooks/pre-push",
    "a hook turned on": "chmod +x sub/.git/hooks/post-commit",
    "a bare one's settings": f"{EVIL} >> bare.git/config",
    "a bare one's hook": "echo evil >> bare.git/hooks/update",
    "a worktree's target": (
        "mkdir -p t/.git && mv sub/.git/worktrees/wt w && echo gitdir: $PWD/w > wt/.git; "
        "mv w sub/.git/worktrees/wt; echo gitdir: $PWD/sub/.git/worktrees/wt > wt/.git"
    ),
}  # fmt: skip


def test_what_was_there_is_as_it_was(bench: Bench) -> None:
    directory = bench.workspace / "d"
    (directory / ".vscode").mkdir(parents=True)
    (directory / ".vscode" / "tasks.json").write_text("{}")
    (directory / ".npmrc").write_text("mine")
    git(bench.workspace, "init", "-q", "sub")
    git(bench.workspace / "sub", "commit", "-q", "--allow-empty", "-m", "first")
    git(bench.workspace / "sub", "config", "alias.x", "!mine")
    git(bench.workspace / "sub", "worktree", "add", "-q", "../wt")
    git(bench.workspace, "init", "-q", "--bare", "bare.git")
    (bench.workspace / "sub" / ".git" / "hooks" / "post-commit").write_text("mine")

    def state() -> tuple[object, str]:
        guarded = ("d", "sub/.git/config", "sub/.git/hooks", "bare.git", "wt")
        settings = git(bench.workspace / "sub", "config", "--list", "--local")
        return [seen(bench.workspace / name) for name in guarded], settings

    before = state()
    wrong = []

    def check(name: str) -> None:
        if state() != before:
            wrong.append(name)

    scripts: list[str | Callable[[], None]] = ["true"]
    for name, attack in CHANGED.items():
        scripts += [attack] if isinstance(attack, str) else attack
        scripts += [partial(check, name), "rm -rf t w"]
    bench.run(*scripts)
    assert wrong == []


EVERYDAY = """
set -e
git init -q fresh
cd fresh && echo 1 > a && mkdir .git/info -p && git add a && git commit -qm a
git config user.name Ann && git branch other && cd ..
git clone -q fresh copy
git clone -q --bare fresh fresh.git
git clone -q --mirror fresh mirror.git
git clone -q fresh.git again
git -C again -c protocol.file.allow=always submodule --quiet add "$PWD/fresh" lib/sub
git -C again commit -qm sub
git -C again worktree add -q ../linked
git -C linked -c protocol.file.allow=always submodule --quiet update --init
git -C fresh.git worktree add -q ../of-bare other
git -C of-bare commit -q --allow-empty -m more
git -C of-bare push -q -f origin other 2>/dev/null || true
git -C copy pull -q
git -C copy gc -q
git -C linked/lib/sub checkout -q -b new
mv copy moved
git -C moved status -s
"""


def test_everyday_git_goes_on(bench: Bench) -> None:
    assert bench.run(EVERYDAY, "git -C moved log && git -C of-bare log") == []
    assert git(bench.workspace / "of-bare", "log", "-1", "--format=%s") == "more\n"
    assert git(bench.workspace / "again" / "lib" / "sub", "status", "--short") == ""
    assert git(bench.workspace / "linked" / "lib" / "sub", "branch", "--show-current") == "new\n"


def test_copies_and_moves_of_what_is_the_persons_stay(bench: Bench, repository: Path) -> None:
    (repository / "a" / ".vscode").mkdir(parents=True)
    (repository / "a" / ".vscode" / "tasks.json").write_text("mine")
    (repository / ".npmrc").write_text("mine")
    git(repository, "config", "alias.x", "!mine")
    git(repository, "add", "--all")
    git(repository, "commit", "-qm", "settings")
    script = (
        "git worktree add -q wt && cp -a . $TMPDIR/c && cp -a $TMPDIR/c copy && mv a b && cp -r b c"
    )
    assert bench.run(script, "git -C copy config user.name A; rm -r b") == []
    assert (repository / "wt" / ".npmrc").read_text() == "mine"
    assert (repository / "copy" / ".git" / "hooks" / "post-commit").exists()
    assert bench.run("echo x >> c/.vscode/tasks.json") == ["restored c/.vscode"]


def test_packages_stay_as_they_were_published_and_are_told_of(bench: Bench) -> None:
    script = (
        "for p in node_modules/p vendor/q; do mkdir -p $p/.vscode; echo 1 > $p/.vscode/a; "
        "echo 1 > $p/.npmrc; done; echo evil > vendor/.envrc"
    )
    found = bench.run(script, "rm -r vendor")
    assert found == ["left node_modules", "left vendor", "removed vendor/.envrc"]
    assert (bench.workspace / "node_modules" / "p" / ".npmrc").read_text() == "1\n"
    assert bench.run("mv node_modules/p app") == ["removed app/.npmrc", "removed app/.vscode"]


def test_the_persons_own_edits_between_calls_stay(bench: Bench) -> None:
    directory = bench.workspace / "d"

    def edit() -> None:
        directory.mkdir(exist_ok=True)
        (directory / ".envrc").write_text("mine")
        git(bench.workspace, "init", "-q", "sub")
        git(bench.workspace / "sub", "config", "core.pager", "less")

    assert bench.run("true", edit, "true", "echo 1 > d/file; git -C sub config user.name A") == []
    assert (directory / ".envrc").read_text() == "mine"
    assert bench.run("echo evil > d/.envrc") == ["restored d/.envrc"]
    assert (directory / ".envrc").read_text() == "mine"
    assert git(bench.workspace / "sub", "config", "core.pager") == "less\n"


def test_a_directory_made_a_repository_keeps_what_is_the_persons(bench: Bench) -> None:
    source = bench.workspace / "src"
    (source / "hooks").mkdir(parents=True)
    (source / "hooks" / "use.ts").write_text("mine")
    (source / "config").write_text("mine")
    assert bench.run("cd src && mkdir refs objects && touch HEAD") == ["removed src/HEAD"]
    assert (source / "hooks" / "use.ts").read_text() == (source / "config").read_text() == "mine"


def test_what_is_given_up_stays(bench: Bench) -> None:
    script = "mkdir -p a/.vscode && echo 1 > a/.vscode/a && echo 1 > a/.envrc"
    assert bench.run(script, bypass=("a/.vscode",)) == ["removed a/.envrc"]
    assert (bench.workspace / "a" / ".vscode" / "a").exists()


def test_a_file_of_git_doesnt_lead_to_what_isnt_looked_at(bench: Bench) -> None:
    """Nor does one that led somewhere harmless when it was made."""
    (bench.workspace / "m").mkdir()
    made = (
        "git init -q sub && git init -q --bare sub/.git/modules/m "
        "&& echo 'gitdir: ../sub/.git/modules/m' > m/.git"
    )
    assert bench.run(made) == []
    evil = "cd sub/.git/modules && mv m e && mkdir m && mv e m/objects"
    hidden = f"cd sub/.git/modules/m && {EVIL} > config"
    assert bench.run(hidden) == ["restored sub/.git/modules/m/config"]
    assert bench.run(evil) == ["removed m/.git"]


LEADING = (
    "../sub/.git/modules/m/objects/e",
    "../l/../sub/.git/modules/m",
    "../sub/.git/modules/../modules/m",
    "../sub/.git/worktrees/w/logs",
    "../sub/.git/B/modules/m",
    "../sub/.git/rr-cache/worktrees/k",
    "../sub/.git/modules/m\\0",
    "../../sub/.git/modules/m",
    "../sub/.git",
    "../l/.git/modules/m",
)


def test_a_file_of_git_leads_plainly_to_a_part_of_a_repository(bench: Bench) -> None:
    made = (
        "git init -q sub; git init -q --bare sub/.git/modules/m; ln -s sub l; mkdir d; "
        "mkdir -p sub/.git/modules/m/objects/e sub/.git/worktrees/w/logs; "
        "for d in B rr-cache; do git init -q --bare sub/.git/$d; done; "
        "git init -q --bare sub/.git/B/modules/m; git init -q --bare sub/.git/rr-cache/worktrees/k"
    )
    planted = [f"printf 'gitdir: {text}\\n' > d/.git" for text in LEADING]
    good = "echo 'gitdir: ../sub/.git/modules/m' > d/.git"
    assert bench.run(made, *planted, good) == ["removed d/.git"] * len(LEADING)


def test_it_is_looked_at_without_snapshots_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    request: Callable[..., object] = bench.request

    def without(**files: tuple[str, ...]) -> object:
        made = request(**files)
        snapshots = made.flags.snapshots.replace(enabled=False)  # type: ignore[attr-defined]
        return made.replace(flags=made.flags.replace(snapshots=snapshots))  # type: ignore[attr-defined]

    monkeypatch.setattr(bench, "request", without)
    assert bench.run("mkdir d && echo x > d/.envrc", "true") == ["removed d/.envrc"]


def test_what_a_running_call_plants_isnt_taken_for_the_persons(bench: Bench) -> None:
    """Not by another call that begins meanwhile."""
    ended: list[Result] = []

    async def run(session: Session) -> None:
        script = "mkdir d && echo x > d/.envrc && touch begun; until [ -e go ]; do :; done"
        ended.append(await session.run(Command(("/bin/sh", "-c", script))))

    async def both() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with (
                Session.open(bench.request(), tier=bench.tier) as session,
                anyio.create_task_group() as group,
            ):
                group.start_soon(run, session)
                while not (bench.workspace / "begun").exists():  # noqa: ASYNC110 - all it can say
                    await anyio.sleep(0.01)
                await session.run(Command(("/bin/sh", "-c", "touch other")))
                (bench.workspace / "go").touch()

    anyio.run(both)
    assert [one.action for one in ended[0].guarded] == ["removed"]
    assert not (bench.workspace / "d" / ".envrc").exists()


def test_a_rollback_doesnt_bring_back_what_a_call_planted(bench: Bench) -> None:
    """Of which somebody took a snapshot while the call ran."""
    plants = [bench.workspace / ".envrc", bench.workspace / "d" / ".envrc"]
    found: list[Action] = []

    async def attack() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with Session.open(bench.request(), tier=bench.tier) as session:
                async with anyio.create_task_group() as group:
                    plant = "mkdir d; echo evil > .envrc; echo evil > d/.envrc; touch begun"
                    script = f"{plant}; until [ -e go ]; do :; done"
                    group.start_soon(session.run, Command(("/bin/sh", "-c", script)))
                    while not (bench.workspace / "begun").exists():  # noqa: ASYNC110 - see above
                        await anyio.sleep(0.01)
                    with Snapshots.open(session.state_dir, str(bench.workspace)) as other:
                        other.take("named", name="bad")
                    (bench.workspace / "go").touch()
                assert not any(path.exists() for path in plants)
                outcome, actions = await session.roll_back(Wanted("bad"))
                assert {b".envrc", b"d/.envrc"} <= set(outcome.restored)
                found.extend(actions)

    anyio.run(attack)
    assert not any(path.exists() for path in plants)
    told = [f"{one.action} {one.path}" for one in found]
    assert sorted(told) == sorted(f"removed {path}" for path in plants)


def test_a_name_that_is_no_text_hides_nothing(bench: Bench) -> None:
    script = 'd=$(printf \'d\\377 \\nx\'); mkdir -p "$d" && echo evil > "$d/.envrc"'
    assert bench.run(script) == ["removed d\udcff \nx/.envrc"]


def test_what_is_too_deep_to_be_looked_into_is_told(bench: Bench) -> None:
    script = "for i in $(seq 130); do mkdir d && cd d; done; echo evil > .envrc"
    found = bench.run(script)
    assert found[0] == "left " + "/".join(["d"] * 129)
    # An event may tell of it all the same.
    assert found[1:] in ([], ["removed " + "/".join([*["d"] * 130, ".envrc"])])


def test_no_more_of_it_is_known_than_a_bound_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "SPOTS_MAX", 10)
    script = "for i in $(seq 14); do mkdir -p $i/.vscode; done"
    assert len(bench.run(script)) == 4


def test_many_are_told_by_their_number_and_none_stays(bench: Bench) -> None:
    script = "for i in $(seq 300); do mkdir d$i; echo > d$i/.envrc; done"
    found = bench.run(script)
    assert len(found) == 201
    assert not list(bench.workspace.glob("*/.envrc"))
    assert "100 more" in bench.results[-1].guarded[-1].what
