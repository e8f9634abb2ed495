"""Ask a Mac what it is, and have its sandbox-exec try a profile.

Nobody has run it on a Mac.
"""

from __future__ import annotations

import os
import platform

from nono_sandbox.confinement import READ, Confinement, Grant
from nono_sandbox.errors import UnsupportedError
from nono_sandbox.seatbelt import launcher
from nono_sandbox.seatbelt.profile import profile
from nono_sandbox.seatbelt.table import Facts


def ask(sandbox_exec: str = launcher.SANDBOX_EXEC) -> Facts:
    """Return what there is to know of this machine."""
    there = os.access(sandbox_exec, os.X_OK)
    return Facts(platform.mac_ver()[0], there, _tried(sandbox_exec) if there else "")


def _tried(sandbox_exec: str) -> str:
    system = tuple(Grant(path, READ) for path in ("/System/Library", "/usr"))
    try:
        status = launcher.check_text(profile(Confinement("/", system)), sandbox_exec)
    except UnsupportedError as error:
        return str(error)
    if status:
        return (
            f"{sandbox_exec} ended with {status}: is this process sandboxed itself? "
            "macOS applies no second profile"
        )
    return ""
