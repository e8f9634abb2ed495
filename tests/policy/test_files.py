from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import bounds, files
from nono_mcp.policy.errors import PolicyError
from tests.policy.conftest import give_away

if TYPE_CHECKING:
    from tests.policy.conftest import Machine

TEXT = "[filesystem]\ntools = true\n"


def test_a_file_of_the_persons_own_is_read(machine: Machine) -> None:
    path = machine.profile("mine", TEXT)
    assert files.read_own(str(path)) == TEXT
    assert files.read_own(str(path) + ".none") is None
    assert files.profile_names(str(machine.config)) == ["mine"]
    assert files.profile_names("/nonexistent") == []


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_can_write_isnt_read(machine: Machine, mode: int) -> None:
    path = machine.profile("mine", TEXT)
    path.chmod(mode)
    with pytest.raises(PolicyError, match=r"can be written by others \(chmod go-w "):
        files.read_own(str(path))


def test_nor_in_a_directory_that_others_can_write(machine: Machine) -> None:
    path = machine.profile("mine", TEXT)
    path.parent.chmod(0o777)
    with pytest.raises(PolicyError, match="can be written by others"):
        files.read_own(str(path))


def test_what_belongs_to_somebody_else_isnt_read(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.profile("mine", TEXT)
    give_away(path, monkeypatch)
    with pytest.raises(PolicyError, match="belongs to somebody else"):
        files.read_own(str(path))
    elsewhere = machine.profile("link", TEXT)
    elsewhere.unlink()
    elsewhere.symlink_to(path)
    with pytest.raises(PolicyError, match="belongs to somebody else"):
        files.read_own(str(elsewhere))


def test_a_fifo_neither_hangs_nor_counts(machine: Machine) -> None:
    path = machine.profile("mine", TEXT)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(PolicyError, match="must be a regular file"):
        files.read_own(str(path))


def test_a_text_has_an_end_and_is_text(machine: Machine) -> None:
    path = machine.profile("mine", "#" * (bounds.TEXT_BYTES_MAX + 1))
    with pytest.raises(PolicyError, match="must be at most 1048576 bytes"):
        files.read_own(str(path))
    path.write_bytes(b"ok\n\xff\n")
    with pytest.raises(PolicyError, match=r"mine\.toml:2: not UTF-8"):
        files.read_own(str(path))


def test_what_cant_be_opened_says_why(machine: Machine) -> None:
    path = machine.profile("mine", TEXT)
    with pytest.raises(PolicyError, match="can't be read: not a directory"):
        files.read_own(f"{path}/x")


def read_workspace(machine: Machine) -> tuple[str | None, str]:
    return files.read_workspace(str(machine.workspace), str(machine.config))


def test_a_workspace_without_a_policy_has_none(machine: Machine) -> None:
    assert read_workspace(machine) == (None, "")


def test_a_workspaces_policy_counts_once_it_is_trusted_as_it_is(machine: Machine) -> None:
    policy = machine.workspace / "nono.toml"
    policy.write_text(TEXT)
    text, notice = read_workspace(machine)
    assert text is None
    assert "is ignored: you haven't trusted it as it is now" in notice
    digest = files.trust(str(policy), str(machine.config))
    assert digest == hashlib.sha256(TEXT.encode()).hexdigest()
    assert read_workspace(machine) == (TEXT, f"{policy} is applied")
    policy.write_text(TEXT + "# changed by an agent\n")
    assert read_workspace(machine)[0] is None
    files.trust(str(policy), str(machine.config))
    lines = (machine.config / "trusted").read_text().splitlines()
    assert len(lines) == 1
    assert (machine.config / "trusted").stat().st_mode & 0o777 == 0o600


def test_trust_is_of_one_place_and_keeps_the_others(machine: Machine) -> None:
    policy = machine.workspace / "nono.toml"
    policy.write_text(TEXT)
    other = machine.root / "nono.toml"
    other.write_text(TEXT)
    files.trust(str(other), str(machine.config))
    assert read_workspace(machine)[0] is None
    files.trust(str(policy), str(machine.config))
    assert read_workspace(machine)[0] == TEXT
    assert files.read_workspace(str(machine.root), str(machine.config))[0] == TEXT


def test_trust_that_others_could_have_written_is_none(machine: Machine) -> None:
    policy = machine.workspace / "nono.toml"
    policy.write_text(TEXT)
    files.trust(str(policy), str(machine.config))
    (machine.config / "trusted").chmod(0o666)
    with pytest.raises(PolicyError, match="trusted: can be written by others"):
        read_workspace(machine)


def test_a_symlink_to_what_was_trusted_isnt_what_was_trusted(machine: Machine) -> None:
    policy = machine.workspace / "nono.toml"
    policy.write_text(TEXT)
    files.trust(str(policy), str(machine.config))
    policy.rename(machine.workspace / "elsewhere")
    policy.symlink_to("elsewhere")
    assert read_workspace(machine) == (None, f"is a symlink: {policy} is ignored")


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_a_workspaces_policy_is_a_plain_file_or_ignored_aloud(machine: Machine, kind: str) -> None:
    policy = machine.workspace / "nono.toml"
    if kind == "symlink":
        policy.symlink_to(machine.profile("mine", TEXT))
    elif kind == "fifo":
        os.mkfifo(policy)
    else:
        policy.mkdir()
    text, notice = read_workspace(machine)
    assert text is None
    assert "is ignored" in notice


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nono.toml", "[nonsense]", "unknown key nonsense"),
        ("nono.toml", None, "doesn't exist"),
        ("other.toml", TEXT, "isn't a workspace's nono.toml"),
        ("a\nb/nono.toml", TEXT, "can't be trusted: its path isn't plain text"),
    ],
)
def test_not_everything_can_be_trusted(
    machine: Machine, name: str, text: str | None, message: str
) -> None:
    path = machine.workspace / name
    path.parent.mkdir(exist_ok=True)
    if text is not None:
        path.write_text(text)
    with pytest.raises(PolicyError, match=message):
        files.trust(str(path), str(machine.config))
    assert not (machine.config / "trusted").exists()
