"""`nono run` under a umask that takes the owner's own bits."""

import subprocess

import pytest

from .conftest import LONG_ENOUGH_S, NONO, Person

pytestmark = pytest.mark.linux

SCRIPT = """\
umask
cd "$HOME" && cd "$TMPDIR" && cd - && : >mine && : </dev/null
mkdir "$OLDPWD/made" && rmdir "$OLDPWD/made"
: >"$1/made"
"""


MASK = 0o777


def test_what_it_makes_is_of_use_and_the_program_has_that_umask(person: Person, tier: str) -> None:
    for _ in ("anew", "from what the first left"):
        done = subprocess.run(
            [NONO, "run", "--tier", tier, "--audit", "--rollback=all", "--allow-cwd", "--", "sh",
             "-ec", SCRIPT, "sh", str(person.workspace)],
            capture_output=True,
            check=False,
            cwd=person.workspace,
            encoding="utf-8",
            env=person.environment(),
            timeout=LONG_ENOUGH_S,
            umask=MASK,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.splitlines()[0], 8) == MASK
        assert "rolled back" in done.stderr
        assert list(person.workspace.iterdir()) == []
        # For the next time, the program's own: its umask took it from it.
        (next((person.home / ".local/state/nono/homes").iterdir()) / "mine").unlink()
    verified = person.nono("audit", "verify")
    assert verified.returncode in (0, 3), verified.stdout
