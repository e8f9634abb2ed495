"""Blocked commands: by whatever name they're called, nothing runs, and it's said why."""

import os
import shutil
from pathlib import Path

import pytest

from .conftest import PATH, Person

pytestmark = [pytest.mark.linux, pytest.mark.claim("commands.blocked")]
SAID = "nono: tool is blocked by the policy of this sandbox"
# A copy is made by what isn't the command itself.
WAYS = {
    "its name": "tool x",
    "its path": "$T x",
    "a symlink": "ln -s $T link; ./link x",
    "env": "env tool x",
    "a shell of its own": "sh -c 'tool x'",
    "a shell of its own, by path": "sh -c '$T x'",
    "find": "touch f; find f -exec tool {} \\;",
    "xargs": "echo x | xargs tool",
    "a copy": "cp $T copy; chmod +x copy; ./copy x",
    "a copy of what it says": "cat $T > copy; chmod +x copy; ./copy x",
    "its interpreter": "sh $T x",
    "the way round by /proc": "/proc/self/root$T x",
    "the loader": "for l in /lib*/ld-linux*; do $l $T x; done",
    "another program": 'python3 -c \'import os; os.execvp("tool", ["tool", "x"])\'',
    "another name": "twin x",
    "a name moved": "mv $T ./moved; ./moved x",
    "exec": "(exec tool x)",
    "a descriptor": (
        "python3 -c 'import os, sys; fd = os.open(sys.argv[1], os.O_PATH); "
        'os.execve(fd, ["tool", "x"], os.environ)\' $T'
    ),
    "a copy in memory": (
        'python3 -c \'import os, sys; fd = os.memfd_create("tool", 0); '
        'os.write(fd, open(sys.argv[1], "rb").read()); '
        'os.execve(f"/proc/self/fd/{fd}", ["tool", "x"], os.environ)\' $T'
    ),
    "the first line of a script": 'echo "#!$T" > mine; chmod +x mine; ./mine x',
    "env in the first line": "echo '#!/usr/bin/env tool' > mine; chmod +x mine; ./mine x",
    "a directory's descriptor": "cd $D && /proc/self/cwd/tool $OLDPWD/x",
    "another directory of PATH": "PATH=$D:/bin tool x",
}


@pytest.fixture(params=["script", "binary"])
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a command on the PATH that leaves a mark, another name of it beside it."""
    directory = tmp_path / "programs"
    directory.mkdir()
    made = directory / "tool"
    if request.param == "script":
        made.write_text('#!/bin/sh\necho ran > ran"$1"\n')
        made.chmod(0o755)
    else:
        shutil.copy(os.path.realpath("/usr/bin/touch"), made)
    (directory / "twin").hardlink_to(made)
    return made


def run(person: Person, tool: Path, tier: str, *options: str, script: str) -> tuple[int, str]:
    directory = str(tool.parent)
    environment = {"PATH": f"{directory}:{PATH}", "T": str(tool), "D": directory}
    flags = ("--allow-cwd", "--read", directory, "--env", "T", "--env", "D", "--tier", tier)
    words = ("run", *flags, *options, "--", "sh", "-c", script)
    done = person.nono(*words, environment=environment)
    return done.returncode, done.stderr


def test_it_runs_by_no_name_and_no_way(person: Person, tool: Path, tier: str) -> None:
    script = "\n".join(f"({way}); echo $? >&2" for way in WAYS.values())
    _, said = run(person, tool, tier, "--block-command", "tool", script=script)
    assert not list(person.workspace.glob("ran*"))
    assert not (person.workspace / "x").exists()
    assert SAID in said, said
    named = [f"({way}); test $? = 126" for name, way in WAYS.items() if name in ("env", "exec")]
    status, said = run(
        person, tool, tier, "--block-command", "tool", script=" && ".join([*named, "tool"])
    )
    assert status == 126
    assert said.count(SAID) == 3


def test_without_the_rule_it_runs(person: Person, tool: Path, tier: str) -> None:
    status, said = run(person, tool, tier, script="tool x; test -e x || test -e ranx")
    assert status == 0, said


def test_called_by_the_person_it_is_refused_with_the_reason(person: Person, tier: str) -> None:
    for command in ("rm", "/bin/rm"):
        done = person.nono("run", "--tier", tier, "--block-command", "rm", "--", command, "x")
        assert done.returncode == 126
        assert "rm is blocked" in done.stderr or "closed by --block-command rm" in done.stderr


def test_the_shell_itself_is_blocked(person: Person, tier: str) -> None:
    """Then nobody is there to say why; the kernel's word stands."""
    words = ("run", "--tier", tier, "--block-command", "sh", "--", "env", "sh", "-c", "true")
    done = person.nono(*words)
    assert done.returncode == 126
    assert "Permission denied" in done.stderr


def test_another_hard_link_in_what_is_granted_is_closed_too(person: Person, tmp_path: Path) -> None:
    directory = tmp_path / "programs"
    directory.mkdir()
    tool = directory / "tool"
    tool.write_text("#!/bin/sh\necho ran > ran\n")
    tool.chmod(0o755)
    (person.workspace / "mine").hardlink_to(tool)
    script = "./mine; cp mine copy; sh ./copy; tool"
    status, said = run(person, tool, "namespaces", "--block-command", "tool", script=script)
    assert status == 126, said
    assert not (person.workspace / "ran").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [("no-such", "there is no such command"), ("a b", "isn't a command's name")],
)
def test_a_name_that_blocks_nothing_is_refused(person: Person, name: str, why: str) -> None:
    done = person.nono("run", "--block-command", name, "--", "true")
    assert done.returncode != 0
    assert why in done.stderr
