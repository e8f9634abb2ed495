"""Whether systemd leaves what is in one of its groups to who runs there.

Specified by systemd.resource-control(5), `Delegate=`, and systemd's CGROUP_DELEGATION.

Architecture invariant: changes nothing.
"""

from __future__ import annotations

import os

_UNITS = (".scope", ".service", ".slice")
"""What systemd names its own groups by; it marks those that it leaves to others (since 251)."""
SYSTEMCTL = "/usr/bin/systemctl"
_ANSWER_S_MAX = 5.0


def is_left_to_us(directory: str) -> bool:
    """Tell whether nothing of systemd's speaks against dividing the group *directory*."""
    return not directory.endswith(_UNITS) or _is_delegated(directory)


def _is_delegated(directory: str) -> bool:
    """Tell whether systemd, whose unit has that group, leaves what is in it to the unit."""
    try:
        return os.getxattr(directory, "user.delegate") == b"1"
    except OSError:
        # A user's manager marks nothing (252), but answers.
        return f"/user@{os.geteuid()}.service/" in directory and _says_delegated(directory)


def _says_delegated(directory: str) -> bool:
    unit = os.path.basename(directory)
    argv = [SYSTEMCTL, "--user", "show", "--property=Delegate", "--value", "--", unit]
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}"}
    # Only who is in such a unit, alone, pays for the import.
    import subprocess

    try:
        asked = subprocess.run(  # noqa: S603 - systemd's own program, and our own unit
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == b"yes"
