"""The person's keychain: which back ends count as one, and calls of it that don't last for ever.

A keychain counts only if it's one of a few known back ends: one that writes plain text
(keyrings.alt), or whatever an environment variable or configuration file names, doesn't.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

WAIT_S: Final = 20.0
"""How long a keychain may take, a person typing its password included."""


class Backend(Protocol):
    """What is used of a `keyring.backend.KeyringBackend`."""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a secret."""


class DeletingBackend(Backend, Protocol):
    """A back end as it is found, of which no one secret has to stay."""

    def delete_password(self, service: str, username: str) -> None:
        """Keep a secret no more."""


def within(wait_s: float, act: Callable[[], T]) -> T:
    """Run *act* in a thread of its own: D-Bus and a prompt may take for ever.

    Raises:
        TimeoutError: There was no answer; the thread is left behind.
    """
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(act())
        except failures() as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="nono-keychain", daemon=True)
    thread.start()
    thread.join(wait_s)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer in {wait_s} s")
    return done[0]


def failures() -> tuple[type[Exception], ...]:
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


def find_backend() -> tuple[DeletingBackend, str] | None:
    """Return this machine's keychain and what it is called, or None if it has none.

    Back ends are named here, one a platform, and never taken from configuration: `keyring`
    itself would load whatever PYTHON_KEYRING_BACKEND or keyringrc.cfg say.
    """
    if sys.platform == "darwin":
        from keyring.backends import macOS  # noqa: PLC0415 - 0.1 s, only where it's used

        # Looking the property up raises where the system's library isn't to be had.
        with contextlib.suppress(*failures()):
            if macOS.Keyring.priority:
                return macOS.Keyring(), "macOS keychain"  # type: ignore[no-untyped-call]
        return None
    from keyring.backends import SecretService  # noqa: PLC0415 - 0.1 s, only where it's used

    # Looking the property up asks the bus, and raises where no Secret Service answers.
    with contextlib.suppress(*failures()):
        if within(WAIT_S, lambda: SecretService.Keyring.priority):
            backend: DeletingBackend = SecretService.Keyring()  # type: ignore[no-untyped-call]
            return backend, "Secret Service"
    return None
