"""`nono credential`, as a person types it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import NONO, Person

ROOT = Path(__file__).parents[2]
NOWHERE = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}


def key(person: Person, text: str, mode: int = 0o600) -> str:
    path = person.home / "key"
    path.write_text(text)
    path.chmod(mode)
    return f"file://{path}"


def test_a_source_is_tried_and_its_value_not_shown(person: Person) -> None:
    done = person.nono("credential", "test", "ci", "--source", key(person, "verysecret\n"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"file://{person.home}/key can be had\n"
    assert "verysecret" not in done.stdout + done.stderr
    told = person.nono("credential", "test", "ci", "--source", "env://KEY", "--json",
                       environment={"KEY": "verysecret"})  # fmt: skip
    assert json.loads(told.stdout)["source"] == "env://KEY"
    assert "verysecret" not in told.stdout + told.stderr


def test_what_cant_be_had_is_a_failure_that_says_why(person: Person) -> None:
    done = person.nono("credential", "test", "ci", "--source", key(person, "x", 0o644))
    assert done.returncode == 1
    assert "others have access" in done.stderr
    done = person.nono("credential", "test", "ci", "--source", "sk-verysecret")
    assert done.returncode == 1
    assert "verysecret" not in done.stderr


def test_without_a_keychain_nothing_is_kept_anywhere(person: Person) -> None:
    done = person.nono("credential", "set", "openai", stdin="verysecret\n", environment=NOWHERE)
    assert done.returncode == 1
    assert "there is no keychain" in done.stderr
    assert "verysecret" not in done.stdout + done.stderr
    written = [path for path in person.home.rglob("*") if path.is_file()]
    assert not any(b"verysecret" in path.read_bytes() for path in written)
    assert person.nono("credential", "list").stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        *(("credential",), ("credential", "show", "x"), ("credential", "set")),
        *(("credential", "set", "a", "value"), ("credential", "list", "x")),
        ("credential", "set", "a", "--source", "env://A"),
    ],
)
def test_a_value_is_never_an_argument(person: Person, words: tuple[str, ...]) -> None:
    assert person.nono(*words).returncode == 2


@pytest.mark.skipif(
    shutil.which("gnome-keyring-daemon") is None or shutil.which("dbus-run-session") is None,
    reason="needs gnome-keyring and dbus; CI installs them",
)
def test_a_real_secret_service_keeps_credentials(person: Person) -> None:
    words = [sys.executable, "-m", "tests.credentials.real_keychain", str(NONO)]
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", ROOT / "tests" / "unlocked_keychain.sh", *words],
        cwd=ROOT,
        env={"HOME": str(person.home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.endswith("held\n"), done.stdout + done.stderr
