"""Where secrets and the head are kept: the keychain, and 0600 files (FORMAT.md sections 3, 6)."""

import hashlib
import os
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from nono_mcp import _keychain
from nono_mcp._keychain import Backend
from nono_mcp.audit import files
from nono_mcp.audit.errors import AuditError

T = TypeVar("T")

KEYRING: Final = "keyring"
FILE: Final = "file"
SERVICE: Final = "nono-audit"
SECRET_BYTES_MAX: Final = 4096
KEYRING_WAIT_S: Final = _keychain.WAIT_S


class KeystoreError(AuditError):
    """The keystore can't be used now: locked, gone, refused."""


class Keystore(Protocol):
    """Where short secret texts are kept, each under a name."""

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
            return _keychain.within(KEYRING_WAIT_S, act)
        except _keychain.failures() as error:
            raise KeystoreError(f"keychain: {type(error).__name__}: {error}") from error


def find_keychain(directory: str) -> KeyringKeystore | None:
    """Return the keychain for the log in *directory*, or None if this machine has none."""
    found = _keychain.find_backend()
    return None if found is None else KeyringKeystore(found[0], directory, found[1])
