"""Read a credential from its source. Everything here blocks: call it in a thread.

Architecture invariant: no shell, no lookup on PATH, nothing of what a program wrote in a message.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nono_mcp.credentials.keychain import Keychain
from nono_mcp.credentials.secret import VALUE_BYTES_MAX, CredentialError, Secret, secret
from nono_mcp.credentials.source import Command, Environ, File, Keyring, OAuth2, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMMAND_S_MAX: Final = 30.0
"""How long a program may take, a person's touch of a sensor included."""
PROGRAMS: Final = ("/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin", "/snap/bin")
"""Where `op` and `bw` are looked for: where nobody but an administrator writes."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A value, and how long it says it's good for."""

    value: Secret
    lifetime_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """What values are read from, apart from files."""

    taken: Mapping[str, Secret]
    """The variables that were taken out of the environment."""
    find_keychain: Callable[[], Keychain] = Keychain.find


def take(
    sources: Mapping[str, Source], environ: dict[str, str] | os._Environ[str]
) -> dict[str, Secret]:
    """Take the variables that *sources* name out of *environ* and return them.

    One that isn't there, or can't be a value, is told of when it's asked for.
    """
    taken = {}
    for source in sources.values():
        found = source.secret if isinstance(source, OAuth2) else source
        if isinstance(found, Environ) and found.name in environ:
            taken[found.name] = Secret(environ.pop(found.name))
    return taken


def fetch(source: Source, sources: Sources) -> Fetched:
    """Return the credential that is at *source* now.

    Raises:
        CredentialError: There is none to be had.
    """
    if isinstance(source, OAuth2):
        # Only this kind pays for an HTTP client.
        from nono_mcp.credentials.oauth2 import exchange  # noqa: PLC0415

        token, lifetime_s = exchange(source, fetch(source.secret, sources).value)
        return Fetched(token, lifetime_s)
    if isinstance(source, Keyring):
        return Fetched(sources.find_keychain().get(source.service, source.account))
    if isinstance(source, Environ):
        return Fetched(_variable(source, sources.taken))
    if isinstance(source, File):
        return Fetched(_file(source))
    return Fetched(_output(source))


def _variable(source: Environ, taken: Mapping[str, Secret]) -> Secret:
    if source.name not in taken:
        raise CredentialError(
            f"{source}: there was no such variable when nono started: set it, and start nono anew"
        )
    return secret(taken[source.name].reveal(), str(source))


def _file(source: File) -> Secret:
    try:
        fd = os.open(source.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CredentialError(f"{source}: {os.strerror(error.errno or 0).lower()}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise CredentialError(f"{source}: not a regular file")
        if found.st_uid != os.geteuid():
            raise CredentialError(f"{source}: belongs to uid {found.st_uid}, not to you: chown it")
        if found.st_mode & 0o077:
            raise CredentialError(f"{source}: others have access; chmod go= it")
        return secret(os.read(fd, VALUE_BYTES_MAX + 2), str(source))
    finally:
        os.close(fd)


def _output(source: Command) -> Secret:
    program = _program(source)
    try:
        process = subprocess.Popen(  # noqa: S603 - the person's own policy names it
            [program, *source.argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise CredentialError(f"{source}: {os.strerror(error.errno or 0).lower()}") from None
    with process:
        try:
            output = _read(process, source)
            status = process.wait(COMMAND_S_MAX)
        except subprocess.TimeoutExpired:
            raise CredentialError(f"{source}: no answer in {COMMAND_S_MAX:.0f} s") from None
        finally:
            # Whatever it left behind goes too.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if status:
        raise CredentialError(f"{source}: it failed with status {status}: run it to see why")
    return secret(output, str(source))


def _read(process: subprocess.Popen[bytes], source: Command) -> bytes:
    """Return what *process* writes, which ends it if that's more than a value may be."""
    fd = process.stdout.fileno() if process.stdout else -1
    # Not select(2), which takes no descriptor over 1023: a server may have as many open.
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline_s = time.monotonic() + COMMAND_S_MAX
    data = b""
    while len(data) <= VALUE_BYTES_MAX + 1:
        if not poll.poll(max(deadline_s - time.monotonic(), 0.0) * 1000):
            raise subprocess.TimeoutExpired(source.argv[0], COMMAND_S_MAX)
        chunk = os.read(fd, VALUE_BYTES_MAX)
        if not chunk:
            return data
        data += chunk
    raise CredentialError(f"{source}: it wrote over {VALUE_BYTES_MAX} bytes")


def _program(source: Command) -> str:
    name = source.argv[0]
    if name.startswith("/"):
        return name
    for directory in PROGRAMS:
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise CredentialError(f"{source}: there is no {name} in {', '.join(PROGRAMS)}")
