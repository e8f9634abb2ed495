"""Where things are: the person's home, our state, our configuration.

Architecture invariant: decided from the environment alone; nothing is looked at or made.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


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
