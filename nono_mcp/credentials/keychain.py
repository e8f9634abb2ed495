"""The keychain's entries of ours, and the list of their names.

No keychain lists what it holds the same way on every system, so the names (and no more) are kept
in a file of the state directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from nono_mcp import _keychain
from nono_mcp.credentials.secret import CredentialError, Secret, secret
from nono_mcp.credentials.source import SERVICE, check_name
from nono_sandbox import private

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

NAMES: Final = "credentials"
"""The file of names, one a line."""
NAMES_BYTES_MAX: Final = 64 * 1024


class Keychain:
    """The person's keychain. Made by `find`."""

    def __init__(self, backend: _keychain.DeletingBackend, label: str) -> None:
        self._backend = backend
        self.label = label

    @classmethod
    def find(cls) -> Keychain:
        """Return this machine's keychain.

        Raises:
            CredentialError: It has none that counts.
        """
        found = _keychain.find_backend()
        if found is None:
            raise CredentialError(
                "there is no keychain: a Secret Service (gnome-keyring, KWallet) has to answer, "
                "or the credential comes from a file:// or cmd:// source"
            )
        return cls(*found)

    def get(self, service: str, account: str) -> Secret:
        """Return an entry's value.

        Raises:
            CredentialError: There is none, or the keychain is locked, gone or too slow.
        """
        what = f"keyring://{service}/{account}"
        text = self._call(lambda: self._backend.get_password(service, account))
        if text is None:
            hint = f"; put it there: nono credential set {account}" if service == SERVICE else ""
            raise CredentialError(f"{what}: no such entry in the {self.label}{hint}")
        return secret(text, what)

    def set(self, account: str, value: Secret) -> None:
        """Keep *value* as ours under *account*.

        Raises:
            CredentialError: The keychain is locked, gone or too slow; what it holds is unknown.
        """
        self._call(lambda: self._backend.set_password(SERVICE, account, value.reveal()))

    def remove(self, account: str) -> None:
        """Keep nothing under *account* any more.

        Raises:
            CredentialError: There was nothing, or the keychain can't be used.
        """
        self.get(SERVICE, account)
        self._call(lambda: self._backend.delete_password(SERVICE, account))

    def _call(self, act: Callable[[], T]) -> T:
        try:
            return _keychain.within(_keychain.WAIT_S, act)
        except _keychain.failures() as error:
            # Only the kind: a back end's message is nobody's promise to hold no value.
            raise CredentialError(
                f"the {self.label} can't be used: {type(error).__name__}"
            ) from None


def names(state_dir: str) -> list[str]:
    """Return the names of our entries, sorted."""
    try:
        with Path(state_dir, NAMES).open(encoding="ascii") as file:
            found = set(file.read(NAMES_BYTES_MAX).split())
    except FileNotFoundError:
        return []
    for name in found:
        check_name(name)
    return sorted(found)


def note(state_dir: str, name: str, *, kept: bool) -> None:
    """Note that there is an entry *name*, or that there is none any more."""
    noted = {*names(state_dir), name} if kept else set(names(state_dir)) - {name}
    private.ensure_directories(state_dir)
    fresh = Path(state_dir, f"{NAMES}.{os.getpid()}")
    fd = private.open_file(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.writelines(f"{one}\n" for one in sorted(noted))
        file.flush()
        os.fsync(fd)
    fresh.replace(Path(state_dir, NAMES))
