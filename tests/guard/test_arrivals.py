"""What the person may have brought to a guarded name stays there, and what surely came goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nono_mcp.guard import after_run, times
from tests.guard.conftest import git
from tests.guard.runs import SETTLED_NS, Runs

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.after-run")]

TOUCHED = "chmod -R go-w . && touch p/x && rm p/x"
"""What gives whatever is there, and each directory on the way, another time."""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    (tmp_path / "work").mkdir()
    return Runs(tmp_path)


@pytest.fixture
def overlaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system that keeps no birth, and of which nothing is kept beside a program."""
    monkeypatch.setattr(times, "file_system", lambda _: times.OVERLAYFS)


def known(runs: Runs, script: str) -> None:
    """Do what *script* says before a run that finds nothing."""
    runs.outside(script)
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    runs.settle()


BETWEEN = {
    "a file made": ("true", "echo mine > p/.envrc"),
    "a directory made": ("true", "mkdir p/.vscode; echo mine > p/.vscode/tasks.json"),
    "a file moved": ("echo mine > p/elsewhere", "mv p/elsewhere p/.envrc"),
    "a file linked": ("echo mine > p/elsewhere", "ln p/elsewhere p/.envrc"),
    "a directory moved": ("mkdir p/v; echo mine > p/v/a", "mv p/v p/.vscode"),
    "a directory above moved": (
        "git init -q p/r; git init -q other/r; echo mine > other/r/.git/hooks/pre-push",
        "mv p old; mv other p",
    ),
    "a hook moved": ("git init -q p/r; echo mine > h", "mv h p/r/.git/hooks/pre-push"),
}


@pytest.mark.usefixtures("overlaid")
@pytest.mark.parametrize(("before", "script"), BETWEEN.values(), ids=BETWEEN)
def test_what_the_person_brings_between_two_runs_stays(
    runs: Runs, before: str, script: str
) -> None:
    known(runs, f"mkdir p; {before}")
    runs.outside(script)
    assert [one.split()[0] for one in runs.run(TOUCHED, looked=True)] == ["left"]
    runs.outside("grep -rq mine p")


@pytest.mark.parametrize("looked", [False, True])
def test_what_the_person_brings_stays_where_births_are_kept(runs: Runs, *, looked: bool) -> None:
    known(runs, "mkdir p; echo mine > p/elsewhere; mkdir p/v; echo mine > p/v/tasks.json")
    runs.outside("mv p/elsewhere p/.envrc; mv p/v p/.vscode; mkdir p/.idea; echo mine > p/.idea/a")
    done = runs.run(TOUCHED, looked=looked)
    assert not [one for one in done if one.startswith("removed")]
    runs.outside("cd p && grep -q mine .envrc .vscode/tasks.json .idea/a")


@pytest.mark.usefixtures("overlaid")
def test_what_the_person_brings_where_the_last_look_did_not_come_stays(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(runs, "mkdir -p p/q")
    # The top directory is come to first, and what is seen of that is kept.
    runs.outside("mkdir new; echo mine > p/q/elsewhere; mv p/q/elsewhere p/q/.envrc")
    runs.settle(SETTLED_NS)
    monkeypatch.setattr(after_run, "LOOK_S", -1.0)
    assert runs.run("true") == ["left "]
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    assert runs.run(TOUCHED, looked=True) == ["left p/q/.envrc"]


@pytest.mark.usefixtures("overlaid")
def test_where_no_birth_is_kept_what_came_to_a_known_directory_goes(runs: Runs) -> None:
    runs.outside("mkdir p; echo mine > p/.envrc")
    # Nobody knows what was there before the first run.
    script = "echo evil > p/.npmrc; mkdir p/.vscode; echo evil > p/.vscode/b"
    assert runs.run(script, looked=True) == ["left p/.npmrc", "left p/.vscode"]
    known(runs, "rm -r p/.npmrc p/.vscode")
    script += "; echo evil > p/.envrc"
    expected = ["left p/.envrc", "removed p/.npmrc", "removed p/.vscode"]
    assert runs.run(script, looked=True) == expected


def test_where_times_are_not_exact_nothing_is_put_away_by_them(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "file_system", lambda _: 0x6969)  # NFS
    known(runs, "mkdir p")
    assert runs.run("echo evil > p/.envrc", looked=True) == ["left p/.envrc"]


def test_what_is_older_goes_only_if_somebody_saw_the_directory_before(runs: Runs) -> None:
    git(runs.work, "init", "-q", "p")
    known(runs, "mkdir q; echo evil > evil; echo evil > q/evil")
    script = "mv evil p/.git/hooks/pre-push; mv q/evil q/.envrc"
    assert runs.run(script, looked=True) == ["removed p/.git/hooks/pre-push", "removed q/.envrc"]
    known(runs, "echo evil > evil")
    assert runs.run("mv evil p/.git/hooks/pre-push") == ["left p/.git/hooks/pre-push"]


OVERLAID = """
import sys
from pathlib import Path
from tests.guard.runs import SETTLED_NS, Runs
runs = Runs(Path(sys.argv[1]))
changed = "echo more >> p/.envrc; touch p/x"
print(runs.run(changed, looked=True))
runs.settle(SETTLED_NS)
runs.run("true")
print(runs.run(changed + "; echo evil > p/.npmrc", looked=True))
"""


def test_on_overlayfs_a_file_that_is_copied_up_stays(tmp_path: Path) -> None:
    """It's born anew there, and has another inode where the layers are on two file systems."""
    (tmp_path / "lower" / "p").mkdir(parents=True)
    (tmp_path / "lower" / "p" / ".envrc").write_text("mine\n")
    for name in ("layer", "work"):
        (tmp_path / name).mkdir()
    script = (
        'cd "$1" && mount -t tmpfs t layer && mkdir layer/upper layer/work && mount -t overlay '
        "-o userxattr,lowerdir=lower,upperdir=layer/upper,workdir=layer/work o work && "
        'exec "$2" -c "$3" "$1"'
    )
    command = ["/usr/bin/unshare", "-rm", "/bin/sh", "-c", script, "sh"]
    ended = subprocess.run(
        [*command, tmp_path, sys.executable, OVERLAID],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == [
        "['left p/.envrc']",
        "['left p/.envrc', 'removed p/.npmrc']",
    ]
