"""Keystores: one contract, three back ends, and what isn't taken for a keychain."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend

from nono_mcp.audit import files, keystore, ratchet
from nono_mcp.audit.keystore import FileKeystore, KeyringKeystore, Keystore, KeystoreError
from tests.audit.adversary import Backend

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["file", "keyring"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keystore]:
    if request.param == "keyring":
        yield KeyringKeystore(Backend(), str(tmp_path), "test keychain")
        return
    fd = files.open_directory(str(tmp_path / "keys"), create=True)
    yield FileKeystore(fd)
    os.close(fd)


def test_what_was_put_is_got(store: Keystore) -> None:
    assert store.get("ratchet") is None
    store.put("ratchet", "one")
    store.put("head", "two" * 900)
    store.put("ratchet", "three")
    assert store.get("ratchet") == "three"
    assert store.get("head") == "two" * 900


def test_a_key_is_one_logs_alone(store: Keystore) -> None:
    """What another left signs nothing for this one, a checkpoint neither."""
    public = ratchet.make(store, "ab" * 16, ratchet.NOTE_ENTRY)
    assert ratchet.note_key(store, "ab" * 16).public == public
    with pytest.raises(KeystoreError, match="another log's"):
        ratchet.note_key(store, "cd" * 16)


def test_no_more_is_read_of_a_key_file_than_one_can_hold(tmp_path: Path) -> None:
    fd = files.open_directory(str(tmp_path / "keys"), create=True)
    store = FileKeystore(fd)
    store.put("head", "x" * keystore.SECRET_BYTES_MAX)
    assert len(store.get("head") or "") == keystore.SECRET_BYTES_MAX
    store.put("head", "x" * (keystore.SECRET_BYTES_MAX + 1))
    with pytest.raises(files.AuditPathError, match="longer"):
        store.get("head")
    os.close(fd)


def test_key_files_are_0600_and_replaced_whole(tmp_path: Path) -> None:
    fd = files.open_directory(str(tmp_path / "keys"), create=True)
    FileKeystore(fd).put("ratchet", "secret")
    os.close(fd)
    found = list((tmp_path / "keys").iterdir())
    assert [path.name for path in found] == ["ratchet"]
    assert found[0].stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_a_key_file_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    fd = files.open_directory(str(tmp_path / "keys"), create=True)
    (tmp_path / "elsewhere").write_text("x")
    (tmp_path / "keys" / "ratchet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(files.AuditPathError):
        FileKeystore(fd).get("ratchet")
    os.close(fd)


def test_two_directories_have_entries_of_their_own(tmp_path: Path) -> None:
    backend = Backend()
    one = KeyringKeystore(backend, str(tmp_path / "one"), "test")
    two = KeyringKeystore(backend, str(tmp_path / "two"), "test")
    one.put("head", "1")
    assert two.get("head") is None


def test_a_locked_keychain_is_a_keystore_error() -> None:
    backend = Backend()
    backend.locked = True
    with pytest.raises(KeystoreError, match="KeyringLocked"):
        KeyringKeystore(backend, "/x", "test").get("head")


def test_a_keychain_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Silent(Backend):
        def get_password(self, service: str, username: str) -> str | None:
            release.wait(30)
            return f"{service} {username}"

    monkeypatch.setattr(keystore, "KEYRING_WAIT_S", 0.05)
    with pytest.raises(KeystoreError, match="no answer"):
        KeyringKeystore(Silent(), "/x", "test").get("head")
    release.set()


class Plaintext(KeyringBackend):
    """What keyrings.alt offers: a back end that answers to everything and keeps nothing safe."""

    priority = 99

    def get_password(self, service: str, username: str) -> str | None:
        raise AssertionError((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError((service, username, len(password)))


def test_a_back_end_that_configuration_names_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Plaintext())  # type: ignore[no-untyped-call]
    try:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/nobody")
        assert keystore.find_keychain(str(tmp_path)) is None
    finally:
        keyring.set_keyring(before)


@pytest.mark.linux  # a Mac has its own
@pytest.mark.skipif(
    shutil.which("gnome-keyring-daemon") is None or shutil.which("dbus-run-session") is None,
    reason="needs gnome-keyring and dbus; CI installs them",
)
def test_a_real_secret_service_keeps_a_log(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.audit.real_keychain", f"{tmp_path}/state"]
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", ROOT / "tests" / "unlocked_keychain.sh", *words],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.endswith("held\n"), done.stderr
