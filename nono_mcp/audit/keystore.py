"""Where secrets and the head are kept: the keychain, and 0600 files (FORMAT.md sections 3, 6).

A keychain counts only if it's one of a few known back ends: one that writes plain text
(keyrings.alt), or whatever an environment variable or configuration file names, doesn't.
"""

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from nono_mcp.audit import files

T = TypeVar("T")

KEYRING: Final = "keyring"
FILE: Final = "file"
SERVICE: Final = "nono-audit"
SECRET_BYTES_MAX: Final = 4096
KEYRING_WAIT_S: Final = 20.0
"""How long a keychain may take, a person typing its password included."""


class KeystoreError(files.AuditError):
    """The keystore can't be used now: locked, gone, refused."""


class Keystore(Protocol):
    """Short texts by name."""

    name: str
    """KEYRING or FILE."""
    label: str
    """What it is, for the record."""

    def get(self, entry: str) -> str | None:
        """Return what was put under *entry*, or None."""

    def put(self, entry: str, text: str) -> None:
        """Keep *text* under *entry* instead of what was there."""


class FileKeystore:
    """0600 files in a 0700 directory beside the log."""

    name = FILE
    label = "0600 file beside the log"

    def __init__(self, dir_fd: int) -> None:
        self._dir_fd = dir_fd

    def get(self, entry: str) -> str | None:
        """Return what was put under *entry*, or None.

        Raises:
            AuditPathError: The file isn't safely ours.
        """
        try:
            return files.read_file(self._dir_fd, entry, SECRET_BYTES_MAX).decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise KeystoreError(f"keys/{entry}: not text") from error

    def put(self, entry: str, text: str) -> None:
        """Keep *text* under *entry*; after a crash it's the old or the new one."""
        files.replace_file(self._dir_fd, entry, text.encode())


class Backend(Protocol):
    """What is used of a `keyring.backend.KeyringBackend`."""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a secret."""


class KeyringKeystore:
    """The keychain of the person's desktop or account."""

    name = KEYRING

    def __init__(self, backend: Backend, directory: str, label: str) -> None:
        """Use *backend* for the log in *directory*: each directory has entries of its own."""
        self.label = label
        self._backend = backend
        where = os.fsencode(os.path.realpath(directory))
        self._suffix = hashlib.sha256(where).hexdigest()[:16]

    def get(self, entry: str) -> str | None:
        """Return what was put under *entry*, or None.

        Raises:
            KeystoreError: The keychain is locked, gone or too slow.
        """
        return self._call(lambda: self._backend.get_password(SERVICE, f"{entry}:{self._suffix}"))

    def put(self, entry: str, text: str) -> None:
        """Keep *text* under *entry*.

        Raises:
            KeystoreError: The keychain is locked, gone or too slow; what it holds is unknown.
        """
        self._call(lambda: self._backend.set_password(SERVICE, f"{entry}:{self._suffix}", text))

    def _call(self, act: Callable[[], T]) -> T:
        try:
            return _within(KEYRING_WAIT_S, act)
        except _failures() as error:
            raise KeystoreError(f"keychain: {type(error).__name__}: {error}") from error


def _within(wait_s: float, act: Callable[[], T]) -> T:
    """Run *act* in a thread of its own: D-Bus and a prompt may take for ever.

    Raises:
        TimeoutError: There was no answer; the thread is left behind.
    """
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(act())
        except _failures() as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="nono-keychain", daemon=True)
    thread.start()
    thread.join(wait_s)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer in {wait_s} s")
    return done[0]


def _failures() -> tuple[type[Exception], ...]:
    """Return what a back end raises when the keychain can't be used."""
    found: list[type[Exception]] = [OSError, RuntimeError]
    for module, name in (
        ("keyring.errors", "KeyringError"),
        ("secretstorage.exceptions", "SecretStorageException"),
        ("jeepney.wrappers", "DBusErrorResponse"),
    ):
        # Only what is loaded can be raised; none of them needs to be installed.
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            found.append(kind)
    return tuple(found)


def find_keychain(directory: str) -> KeyringKeystore | None:
    """Return the keychain for the log in *directory*, or None if this machine has none.

    Back ends are named here, one a platform, and never taken from configuration: `keyring`
    itself would load whatever PYTHON_KEYRING_BACKEND or keyringrc.cfg say.
    """
    if sys.platform == "darwin":
        from keyring.backends import macOS  # noqa: PLC0415 - 0.1 s, only where it's used

        return KeyringKeystore(macOS.Keyring(), directory, "macOS keychain")
    from keyring.backends import SecretService  # noqa: PLC0415 - 0.1 s, only where it's used

    # Looking the property up asks the bus, and raises where no Secret Service answers.
    with contextlib.suppress(*_failures()):
        if _within(KEYRING_WAIT_S, lambda: SecretService.Keyring.priority):
            backend: Backend = SecretService.Keyring()  # type: ignore[no-untyped-call]
            return KeyringKeystore(backend, directory, "Secret Service")
    return None
