"""Where things are: the person's home, our state, our configuration.

Architecture invariant: decided from the environment alone; nothing is looked at or made.
"""

from __future__ import annotations

import posix as os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def environ() -> Mapping[str, str]:
    """Return the environment: what `os.environ` is or, where nobody has imported it, would be."""
    whole = sys.modules.get("os")
    if whole is not None:
        found: Mapping[str, str] = whole.environ
        return found
    names = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    return {name.decode(*names): text.decode(*names) for name, text in os.environ.items()}


def variable(name: str) -> str | None:
    """Return one of `environ`."""
    whole = sys.modules.get("os")
    if whole is not None:
        found: str | None = whole.environ.get(name)
        return found
    names = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    text = os.environ.get(name.encode(*names))
    return None if text is None else text.decode(*names)


def home(environ: Mapping[str, str]) -> str:
    """Return the person's home directory."""
    path = environ.get("HOME", "")
    if path.startswith("/"):
        return path
    import pwd  # noqa: PLC0415 - seldom needed, and start-up is a budget

    return pwd.getpwuid(os.getuid()).pw_dir


def state_dir(environ: Mapping[str, str]) -> str:
    """Return where our state is kept: audit log, snapshots, private homes."""
    return f"{_base(environ, 'XDG_STATE_HOME', '.local/state')}/nono"


def config_dir(environ: Mapping[str, str]) -> str:
    """Return where the person's profiles and settings are kept."""
    return f"{_base(environ, 'XDG_CONFIG_HOME', '.config')}/nono"


def _base(environ: Mapping[str, str], name: str, usual: str) -> str:
    # A relative path there is to be ignored (XDG Base Directory Specification).
    path = environ.get(name, "")
    return path.rstrip("/") if path.startswith("/") else f"{home(environ).rstrip('/')}/{usual}"
