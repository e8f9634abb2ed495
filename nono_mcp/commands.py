"""What an agent wants run, checked and turned into a call that stays within its session's policy.

Architecture invariant: pure. Paths are compared by their text; where they lead the kernel judges.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nono_mcp.policy import egress, egress_syntax
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.paths import covers
from nono_sandbox.confinement import Call, Limits, Narrowing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_mcp.policy.request import Prepared

TIMEOUT_S_MAX = 24 * 3600.0
ARGUMENT_BYTES_MAX = 128 * 1024 - 1
"""MAX_ARG_STRLEN of the kernel, less the final NUL."""
ARGUMENTS_BYTES_MAX = 1536 * 1024
STDIN_BYTES_MAX = 64 * 1024 * 1024


class CommandError(ValueError):
    """The command can't be run as it was given. Nothing ran; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an agent wants run. Fields left alone mean what the session's policy says."""

    argv: tuple[str, ...]
    cwd: str | None = None
    """Absolute, or relative to the workspace."""
    stdin: bytes = b""
    timeout_s: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] | None = None
    """The only paths that may be written, within what the session may write."""
    network_closed: bool = False
    tty: bool = False
    """Give it a terminal of its own."""
    hosts: tuple[str, ...] | None = None
    """The only hosts that may be reached, within what the session may reach."""
    builtin: bool = False
    """argv[0] names what the worker does itself (`nono_sandbox.builtin`)."""


def call_for(command: Command, prepared: Prepared) -> Call:
    """Return *command* as a call that stays within *prepared*.

    Raises:
        CommandError: It can't be run as given.
    """
    confinement = prepared.confinement
    environment = confinement.environment
    _check_hosts(command, prepared)
    _check_texts("argv", command.argv)
    if command.environment:
        environment = _with(command.environment, environment)
    if len(command.stdin) > STDIN_BYTES_MAX:
        raise CommandError(f"stdin has {len(command.stdin)} bytes; at most {STDIN_BYTES_MAX}")
    return Call(
        argv=command.argv,
        environment=environment,
        cwd=_directory(command.cwd, confinement.cwd),
        limits=_limits(confinement.limits, command.timeout_s),
        narrowing=_narrowing(command, confinement.cwd),
        tty=command.tty,
        builtin=command.builtin,
    )


def _with(
    added: Mapping[str, str], environment: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    merged = dict(environment)
    for name, value in added.items():
        if not name or "=" in name:
            raise CommandError(f"{name!r} can't be the name of an environment variable")
        merged[name] = value
    _check_texts("env", (*merged, *merged.values()))
    return tuple(merged.items())


def _check_hosts(command: Command, prepared: Prepared) -> None:
    if command.hosts is None:
        return
    if prepared.document.network.mode != egress.PROXY:
        raise CommandError('hosts: this policy names none; network "none" closes it to the call')
    try:
        for host in command.hosts:
            egress_syntax.check_host(host)
    except PolicyError as error:
        raise CommandError(f"hosts: {error.message}") from error


def _check_texts(what: str, texts: tuple[str, ...]) -> None:
    total = 0
    if what == "argv" and not (texts and texts[0]):
        raise CommandError("the command is empty: name a program to run")
    for text in texts:
        try:
            size = len(os.fsencode(text))
        except UnicodeEncodeError as error:
            raise CommandError(
                f"{what} holds a lone surrogate, which no system call takes"
            ) from error
        if "\0" in text:
            raise CommandError(f"{what} holds a NUL character, which no system call takes")
        if size > ARGUMENT_BYTES_MAX:
            raise CommandError(
                f"{what} holds a text of {size} bytes and the kernel takes {ARGUMENT_BYTES_MAX}: "
                f"write it to a file first, or pass it as stdin"
            )
        total += size
    if total > ARGUMENTS_BYTES_MAX:
        raise CommandError(f"{what} has {total} bytes in all; at most {ARGUMENTS_BYTES_MAX}")


def _directory(cwd: str | None, workspace: str) -> str:
    """Return the absolute path of the working directory, which is in the workspace."""
    if cwd is None:
        return workspace
    _check_texts("cwd", (cwd,))
    path = _absolute(cwd, workspace)
    if not covers(workspace, path):
        raise CommandError(f"cwd {cwd!r} is outside the workspace {workspace}")
    return path


def _absolute(path: str, workspace: str) -> str:
    """Return *path* without `.` and `..`, by its text alone: where it leads the kernel judges."""
    return os.path.normpath(f"{workspace}/{path}" if not path.startswith("/") else path)


def _limits(limits: Limits, timeout_s: float | None) -> Limits:
    if timeout_s is None:
        return limits
    if not math.isfinite(timeout_s) or not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise CommandError(f"timeout_s must be over 0 and at most {TIMEOUT_S_MAX:.0f}")
    bound = timeout_s if limits.wall_s is None else min(timeout_s, limits.wall_s)
    return limits.replace(wall_s=bound)


def _narrowing(command: Command, workspace: str) -> Narrowing:
    writes = command.writes
    if writes is not None:
        _check_texts("writes", ("-", *writes))
        writes = tuple(_absolute(path, workspace) for path in writes)
    return Narrowing(writes=writes, network_closed=command.network_closed)
