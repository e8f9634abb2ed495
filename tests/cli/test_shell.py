from pathlib import Path

import pytest

from .conftest import Person

pytestmark = pytest.mark.linux


def test_it_runs_the_persons_shell_on_its_own_streams(person: Person, tier: str) -> None:
    done = person.nono(
        *("shell", "--tier", tier, "--allow-cwd"),
        stdin="echo $BASH_VERSION; echo made > made; exit 3\n",
        environment={"SHELL": "/bin/bash"},
    )
    assert done.returncode == 3
    assert done.stdout.strip()
    assert (person.workspace / "made").read_text() == "made\n"


@pytest.mark.parametrize("shell", ["", "bash", "/nonexistent", "/etc/passwd", "/usr"])
def test_what_is_no_shell_isnt_started(person: Person, shell: str) -> None:
    done = person.nono("shell", stdin="echo $0\n", environment={"SHELL": shell})
    assert done.stdout == "/bin/sh\n"


def test_no_start_up_file_of_the_persons_is_read(person: Person, tier: str) -> None:
    for name in (".bashrc", ".profile", ".bash_profile"):
        (person.home / name).write_text("echo reached\n")
    done = person.nono(
        *("shell", "--tier", tier), stdin="bash -lic true\n", environment={"SHELL": "/bin/bash"}
    )
    assert "reached" not in done.stdout + done.stderr


def test_it_confines(person: Person, tier: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    done = person.nono(
        "shell", "--tier", tier, stdin=f"cat {tmp_path}/secret; touch {tmp_path}/x\n"
    )
    assert "secret\n" not in done.stdout
    assert not (tmp_path / "x").exists()
