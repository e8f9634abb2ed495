"""Which back end this system has: the one place that chooses.

Architecture invariant: nothing but the system chooses; no variable, option or file does.
"""

from __future__ import annotations

import sys

from nono_sandbox.confinement import LANDLOCK, NAMESPACES, SEATBELT
from nono_sandbox.values import Value

_FIRST = "import sys; sys.path.append(sys.argv.pop(1)); "
"""Its argument is where this package lies."""


class Backend(Value):
    """How programs are confined by one system."""

    tiers: tuple[str, ...]
    """What can be had, the better one first."""
    server: str
    """What Python is told, to be a session's fork server."""
    single_run: str
    """What Python is told, to be the lane of a single run; nothing where that is forked."""
    answerer: str
    """What Python is told, to act on behalf of a single run's workers, where somebody does."""


LINUX = Backend(
    (NAMESPACES, LANDLOCK),
    f"{_FIRST}from nono_sandbox.forkserver import boot; boot()",
    "",
    f"{_FIRST}from nono_sandbox.behalf.process import boot; boot()",
)
MACOS = Backend(
    (SEATBELT,),
    f"{_FIRST}from nono_sandbox.seatbelt.server import boot; boot()",
    f"{_FIRST}from nono_sandbox.seatbelt.single_run import boot; boot()",
    "",
)
_WSL_FILES = (
    "/proc/sys/fs/binfmt_misc/WSLInterop",
    "/proc/sys/fs/binfmt_misc/WSLInterop-late",
    "/run/WSL",
)
"""One of these is there on WSL2, and none anywhere else."""
BACKEND = MACOS if sys.platform == "darwin" else LINUX


def is_wsl() -> bool:
    """Tell whether this may be WSL2; `wsl` knows what that means."""
    import os

    return any(map(os.path.exists, _WSL_FILES))
