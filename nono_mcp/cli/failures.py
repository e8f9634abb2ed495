"""What a command that failed says, and its exit status.

1: it can't be done. 2: the command line isn't one. 126: refused, on one line that begins REFUSED.
125: the sandbox, the system or we failed.

Architecture invariant: what goes wrong comes out as one line, whatever bytes a path holds.
"""

from __future__ import annotations

import errno
import sys

from nono_mcp.audit.errors import AuditError
from nono_mcp.cli import say
from nono_mcp.cli.options import FailedError, UsageError
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_sandbox.errors import LaneLostError, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE_CHARACTERS_MAX = 1200
CANNOT = 1
USAGE = 2
FAILED = 125
REFUSED = 126
KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (UsageError, USAGE, "usage"),
    (PolicyError, REFUSED, "policy"),
    (LaneLostError, FAILED, "sandbox.lost"),
    (SandboxError, REFUSED, "sandbox"),
    (FailedError, CANNOT, "failed"),
    (AuditError, FAILED, "audit"),
    (OSError, FAILED, "system"),
)
"""(type, exit status, code); the first that fits counts."""
_NOT_OURS_TO_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
RUN_A_PROGRAM = ("run", "shell")


def report(name: str, argv: Sequence[str], error: Exception) -> int:
    """Say why the command *name* failed by *error*, and return its exit status."""
    status, code = _kind(error)
    message = _bounded(_message(error))
    if "--json" in _own_words(argv) and sys.stdout is not None:
        fields: dict[str, object] = {"code": code, "message": message}
        for key in ("path", "remedy", "hint"):
            if getattr(error, key, ""):
                fields[key] = getattr(error, key)
        document = {"id": name, "ok": False, "error": fields, "status": status}
        say.document(document, fd=2 if name in RUN_A_PROGRAM else 1)
    elif status == REFUSED:
        say.err(f"{say.styled('REFUSED', say.RED, 2)} {message}\n")
    else:
        label = say.styled(f"nono {name}:" if name else "nono:", say.RED, 2)
        say.err(f"{label} {message}\n")
        if status == USAGE:
            say.err(f"try: nono {name} --help\n" if name else "try: nono help\n")
    return status


def _own_words(argv: Sequence[str]) -> Sequence[str]:
    words = list(argv)
    return words[: words.index("--")] if "--" in words else words


def _kind(error: Exception) -> tuple[int, str]:
    """Return the exit status and the code of *error*."""
    if isinstance(error, RefusedError):
        return REFUSED, error.code
    for kind, status, code in KINDS:
        if isinstance(error, kind):
            return status, code
    return FAILED, "internal"


def _message(error: Exception) -> str:
    if isinstance(error, UsageError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, (PolicyError, RefusedError)):
        return f"{error}{_elsewhere(error)}"
    if isinstance(error, OSError):
        where = f"{quoted(str(error.filename))}: " if error.filename else ""
        return _one_line(f"{where}{error.strerror or error}{_elsewhere(error)}")
    if isinstance(error, (SandboxError, FailedError, AuditError)):
        return _one_line(f"{error}{_elsewhere(error)}")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "somewhere"
    kind = type(error).__name__
    return _one_line(f"this is a mistake in nono, please report it: {kind} at {place}: {error}")


def _elsewhere(error: BaseException | None) -> str:
    """Return how our own directory can be another one, if that's what can't be made or written."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    if error is None:
        return ""
    path = str(error.filename or "")
    if error.errno not in _NOT_OURS_TO_WRITE or not path.startswith("/"):
        return ""
    from os import environ

    from nono_mcp import places
    from nono_mcp.policy.paths import covers

    for name, directory in (
        ("XDG_STATE_HOME", places.state_dir(environ)),
        ("XDG_CONFIG_HOME", places.config_dir(environ)),
    ):
        if covers(path, directory) or covers(directory, path):
            return f" (nono keeps {quoted(directory)}; with {name}=DIR it would be in DIR)"
    return ""


def _bounded(text: str) -> str:
    """Return *text* without its middle if it's endless: what a path says is at its ends."""
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    half = MESSAGE_CHARACTERS_MAX // 2
    return f"{text[:half]}...{text[-half:]}"


def _one_line(text: str) -> str:
    return text if text.isprintable() else quoted(text)
