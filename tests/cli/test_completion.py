"""Completions, tried in the shells they are for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nono_mcp.cli import COMMANDS, completion

from .conftest import LONG_ENOUGH_S, Person, Terminal


def script(person: Person, shell: str) -> Path:
    done = person.nono("completion", shell)
    assert done.returncode == 0
    path = person.home / f"nono.{shell}"
    path.write_text(done.stdout)
    return path


def in_shell(person: Person, *command: str) -> list[str]:
    done = subprocess.run(
        command,
        capture_output=True,
        check=True,
        cwd=person.workspace,
        encoding="utf-8",
        env=person.environment(),
        timeout=LONG_ENOUGH_S,
    )
    assert done.stderr == ""
    return done.stdout.split()


def bash(person: Person, *words: str) -> list[str]:
    """Return what bash offers after *words*, the last of which is incomplete."""
    line = " ".join(f"'{word}'" for word in words)
    return in_shell(
        person,
        *("bash", "-c"),
        f"source {script(person, 'bash')}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1};"
        "_nono; printf '%s\\n' \"${COMPREPLY[@]}\"",
    )


def test_bash_completes_commands(person: Person) -> None:
    assert set(bash(person, "nono", "")) == set(COMMANDS)
    assert bash(person, "nono", "ru") == ["run"]


def test_every_command_that_takes_options_has_them_completed() -> None:
    assert {"--since", "--keep-days", "--json"} <= {
        one.name for one in completion.of_commands()["audit"]
    }
    bare = {"completion", "demo", "help"}
    assert set(COMMANDS) - bare == set(completion.of_commands())


@pytest.mark.parametrize("command", completion.of_commands())
def test_bash_completes_every_option(person: Person, command: str) -> None:
    offered = bash(person, "nono", command, "--")
    assert set(offered) == {option.name for option in completion.of_commands()[command]}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("run", "--tier", "n"), ["namespaces"]),
        (("run", "--profile", "pyt"), ["python"]),
        (("why", "--op", "wr"), ["write"]),
        (("policy", "val"), ["validate"]),
        (("completion", "z"), ["zsh"]),
        (("install", "--scope", "p"), ["project"]),
        (("rollback", "--scope", "a"), ["agent"]),
        (("snapshot", "d"), ["delete", "diff"]),
        (("snapshot", "list", "--workspace", "a-"), ["a-directory"]),
        (("audit", "ver"), ["verify"]),
        (("audit", "export", "--format", ""), []),
        (("run", "--rollback", "cat", "a-f"), ["a-file"]),
        (("run", "--read", "a-"), ["a-directory"]),
        (("run", "--read-file", "a-"), ["a-directory", "a-file"]),
        (("run", "--allow-cwd", "--", "cat", "a-f"), ["a-file"]),
        (("run", "cat", "a-f"), ["a-file"]),
        (("run", "--timeout", ""), []),
    ],
)
def test_bash_completes_values(person: Person, words: tuple[str, ...], offered: list[str]) -> None:
    (person.workspace / "a-directory").mkdir()
    (person.workspace / "a-file").touch()
    assert sorted(bash(person, "nono", *words)) == offered


def test_bash_completes_the_program_to_run(person: Person) -> None:
    assert "true" in bash(person, "nono", "run", "--", "tru")
    assert "true" in bash(person, "nono", "run", "tru")


needs_zsh = pytest.mark.skipif(not shutil.which("zsh"), reason="zsh isn't installed")
needs_fish = pytest.mark.skipif(not shutil.which("fish"), reason="fish isn't installed")


@pytest.mark.linux  # where CI installs it
@needs_fish
def test_fish_completes_commands_options_and_values(person: Person) -> None:
    path = script(person, "fish")

    def fish(line: str) -> list[str]:
        return in_shell(person, "fish", "-c", f"source {path}; complete -C '{line}' | cut -f1")

    assert set(fish("nono ")) == set(COMMANDS)
    assert "--allow-cwd" in fish("nono run --")
    assert fish("nono run --tier n") == ["namespaces"]
    assert fish("nono policy val") == ["validate"]


@needs_zsh
def test_zsh_completes_commands_options_and_values(person: Person) -> None:
    functions = person.home / "functions"
    functions.mkdir()
    script(person, "zsh").rename(functions / "_nono")
    (person.home / ".zshrc").write_text(
        f"fpath=({functions} $fpath); autoload -U compinit; compinit -u; PS1='> '; setopt nobeep\n"
        "unsetopt menu_complete auto_menu; zstyle ':completion:*' list-colors ''\n"
    )
    window = Terminal(
        person, shutil.which("zsh") or "", "-i", TERM="dumb", ZDOTDIR=str(person.home)
    )
    try:
        window.expect("> ")
        window.type("nono shel\t")
        window.expect("shell ")
        window.type("--allow-c\t")
        window.expect("--allow-cwd")
        window.type(" --tier nam\t")
        window.expect("namespaces")
    finally:
        window.close()
