"""What is denied stays closed: by its other names, when it's replaced, and if it comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import NAMESPACES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.guard.conftest import Bench

pytestmark = [
    pytest.mark.linux,
    pytest.mark.claim("fs.denied-later"),
    pytest.mark.parametrize("tier", [NAMESPACES], indirect=True),
]
SECRET = "hunter2-hunter2"  # noqa: S105 - planted, to be looked for
SHUT = f"! grep -rsq {SECRET} ."


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def replaced(path: Path) -> None:
    """Save a file as editors do."""
    path.with_suffix(".new").write_text(SECRET)
    path.with_suffix(".new").replace(path)


def test_a_denied_file_is_read_and_written_by_no_other_name(bench: Bench) -> None:
    denied = bench.workspace / ".env"
    denied.write_text(SECRET)
    (bench.workspace / "a" / "b").mkdir(parents=True)
    (bench.workspace / "a" / "b" / "other").hardlink_to(denied)
    script = (
        f"{SHUT} && ! cat a/b/other && ! echo x > a/b/other && ! mv a/b/other c && ! rm a/b/other "
        f"&& ! ln a/b/other d && (mv a e; {SHUT}) && ! mv .env f && echo 1 > new"
    )
    assert bench.run(script, deny=(".env",)) == []
    assert denied.read_text() == SECRET
    assert (bench.workspace / "new").exists()


def test_a_file_that_may_only_be_read_is_written_by_no_other_name(bench: Bench) -> None:
    (bench.workspace / ".vscode").mkdir()
    settings = bench.workspace / ".vscode" / "tasks.json"
    settings.write_text("{}")
    (bench.workspace / "other").hardlink_to(settings)
    bench.run("! echo evil > other; ! echo evil >> other; ! truncate -s 0 other; cat other")
    assert settings.read_text() == "{}"


def test_what_the_person_makes_later_is_closed_to_the_next_call(bench: Bench) -> None:
    denied = bench.workspace / ".env"

    def make() -> None:
        denied.write_text(SECRET)

    script = f"{SHUT}; echo mine > note"
    assert bench.run("true", make, script, "! cat .env", deny=(".env",)) == []
    assert denied.read_text() == SECRET


def test_what_the_person_replaces_is_closed_to_the_next_call(bench: Bench) -> None:
    denied = bench.workspace / ".env"
    denied.write_text("old")
    shut = f"{SHUT} && ! cat .env"
    again = (shut, lambda: replaced(denied)) * 2
    assert bench.run(*again, shut, deny=(".env",)) == []


def test_what_was_removed_and_comes_again_is_closed(bench: Bench) -> None:
    denied = bench.workspace / ".env"
    denied.write_text("old")
    found = bench.run(
        "! cat .env", denied.unlink, "echo x > .env", lambda: denied.write_text(SECRET), SHUT,
        deny=(".env",),
    )  # fmt: skip
    assert found == ["removed .env"]
    assert denied.read_text() == SECRET


def test_what_a_call_makes_under_a_denied_name_doesnt_stay(bench: Bench) -> None:
    script = "echo x > .env; mkdir -p a/b/c; ln -s /etc d"
    found = bench.run(script, "true", deny=(".env", "a/b"), deny_write=("d",))
    assert found == ["removed .env", "removed a/b", "removed d"]
    assert names(bench.workspace) == ["a"]


def test_no_placeholder_is_ever_in_the_workspace(bench: Bench) -> None:
    (bench.workspace / "there").write_text(SECRET)
    denied = ("there", ".env", "a/b/c")
    bench.run("ls -A > /tmp/names; test $(wc -l < /tmp/names) = 1", deny=denied)
    assert names(bench.workspace) == ["there"]
    assert bench.workspace.stat().st_nlink == 2


def test_protected_names_of_a_granted_home_are_taken_away_again(bench: Bench) -> None:
    home = bench.root / "home"
    (home / ".ssh").mkdir()
    script = f"cd {home} && ! ls .ssh && mkdir .aws && echo x > .bashrc && echo x > .profile"
    bench.run(script, allow=(str(home),))
    assert names(home) == [".ssh"]
