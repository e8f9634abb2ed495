"""What is granted to a run and replaced while that starts, as editors and Git do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.replaced import STARTS_MAX
from nono_sandbox.confinement import NAMESPACES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Person

pytestmark = pytest.mark.linux
# Somebody who acts once the policy has been judged, *times* times.
AFTER_JUDGING = """
import os
from nono_mcp.policy import load
prepare, acts = load.prepare, iter(range({times}))
def judged(request):
    prepared = prepare(request)
    for number in acts:
        {act}
        break
    return prepared
load.prepare = judged
"""
SAVE = "open({new!r}, 'w').write(f'saved {{number}}'); os.replace({new!r}, {file!r})"
AS_IF_IT_HELD = """
from nono_mcp.policy import recall
recall.hold = lambda notes: True
"""


@pytest.fixture
def file(person: Person) -> Path:
    file = person.home.parent / "notes" / "file"
    file.parent.mkdir()
    file.write_text("as it was")
    return file


def acting(act: str, file: Path, times: int = 1) -> str:
    new = str(file.with_name("new"))
    return AFTER_JUDGING.format(times=times, act=act.format(file=str(file), new=new))


def test_it_is_judged_anew(person: Person, tier: str, file: Path) -> None:
    before = acting(SAVE, file, STARTS_MAX - 1)
    command = ("run", "--tier", tier, "--read-file", str(file), "--", "cat", str(file))
    done = person.nono_after(before, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"saved {STARTS_MAX - 2}", "")


@pytest.mark.parametrize(
    ("options", "count"), [((), STARTS_MAX), (("--rollback=keep",), 1)], ids=["plain", "rollback"]
)
def test_what_is_replaced_too_often_is_refused_with_what_helps(
    person: Person, file: Path, options: tuple[str, ...], count: int
) -> None:
    command = ("run", "--allow-cwd", *options, "--read-file", str(file), "--", "cat", str(file))
    done = person.nono_after(acting(SAVE, file, 99), *command)
    assert (done.returncode, done.stdout) == (126, "")
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("REFUSED")]
    assert told == f"REFUSED {file} was replaced since it was granted; try again"
    assert file.read_text() == f"saved {count - 1}"


@pytest.mark.claim("grants.judged-once")
def test_what_leads_elsewhere_then_is_judged_by_where_it_leads(person: Person, file: Path) -> None:
    secret = person.home / ".ssh" / "id"
    secret.parent.mkdir()
    secret.write_text("hunter2")
    turn = f"os.remove({{file!r}}); os.symlink({str(secret)!r}, {{file!r}})"
    command = ("run", "--read-file", str(file), "--", "cat", str(file))
    done = person.nono_after(acting(turn, file), *command)
    assert (done.returncode, done.stdout) == (126, "")
    assert "SSH keys" in done.stderr
    assert str(secret) in done.stderr


def test_what_is_gone_then_is_told_as_if_it_had_never_been(person: Person, file: Path) -> None:
    command = ("run", "--read-file", str(file), "--", "cat", str(file))
    done = person.nono_after(acting("os.remove({file!r})", file), *command)
    again = person.nono(*command)
    assert (done.returncode, done.stderr) == (again.returncode, again.stderr)
    assert done.returncode == 126


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_a_recalled_run_is_judged_after_all(person: Person, file: Path, tier: str) -> None:
    """As of a file that is replaced when the notes have been found to hold."""
    command = ("run", "--tier", tier, "--read-file", str(file), "--", "cat", str(file))
    for _ in range(2):
        assert person.nono_after("", *command).stdout == "as it was"
    file.rename(file.with_name("old"))
    file.write_text("saved")
    done = person.nono_after(AS_IF_IT_HELD, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "saved", "")
