"""What this machine can enforce, found out and put together: the document of `nono doctor`.

The mechanisms and the guarantees are `nono_sandbox.support`'s; here is what lies around them:
why namespaces aren't to be had, the keychain, control groups, what kind of machine this is.

Architecture invariant: nothing is changed, and nothing waits longer than `KEYCHAIN_S_MAX`.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from nono_mcp import __version__
from nono_sandbox import support, system, wsl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.support import Guarantee, Support

KEYCHAIN_S_MAX = 5.0
KNOBS = (
    ("user.max_user_namespaces", "0", "user namespaces are turned off: sysctl {} is 0"),
    ("kernel.unprivileged_userns_clone", "0", "only root may have user namespaces: {} is 0"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor takes from user namespaces what they need: {} is 1",
    ),
)
"""(name, value that stands in the way, what to say)"""


@dataclass(frozen=True, slots=True)
class Tier:
    """What one tier gives here."""

    name: str
    available: bool
    reason: str
    guarantees: tuple[Guarantee, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All there is to say about this machine."""

    support: Support
    tier: str
    """The tier that a run takes; nothing if there is none."""
    tiers: tuple[Tier, ...]
    keychain: str
    """Its name, or nothing."""
    keychain_reason: str
    cgroup: str
    """Where limits could be set for a group of processes, or nothing."""
    cgroup_reason: str
    remarks: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)


def examine(state_dir: str) -> Report:
    """Find out what this machine can enforce; our state is, or would be, in *state_dir*."""
    facts = support.probe()
    keychain, keychain_reason = _keychain(state_dir)
    cgroup = "" if facts.groups_reason else _own_group()
    return Report(
        support=facts,
        tier=support.best_tier(facts),
        tiers=tuple(_tier(facts, name) for name in system.BACKEND.tiers),
        keychain=keychain,
        keychain_reason=keychain_reason,
        cgroup=cgroup,
        cgroup_reason="not on macOS" if facts.macos else facts.groups_reason,
        remarks=tuple(remarks_on(facts, _knob, lambda path: Path(path).exists())),
        versions={
            "nono": __version__,
            "python": sys.version.partition(" ")[0],
            "kernel": facts.kernel,
            **({"macos": facts.macos.release} if facts.macos else {}),
        },
    )


def _tier(facts: Support, name: str) -> Tier:
    reason = support.unavailable(facts, name)
    return Tier(name, not reason, reason, support.guarantees(facts, name))


def document(report: Report) -> dict[str, object]:
    """Return *report* for a program to read."""
    facts = report.support
    return {
        "versions": report.versions,
        "machine": facts.machine,
        "landlock": {"abi": facts.landlock_abi, "errata": facts.landlock_errata},
        "seccomp": facts.filter_known and facts.macos is None,
        "tier": report.tier or None,
        "tiers": [
            {
                "name": tier.name,
                "available": tier.available,
                "reason": tier.reason or None,
                "guarantees": [dict(vars(one)) for one in tier.guarantees],
            }
            for tier in report.tiers
        ],
        "keychain": {"name": report.keychain or None, "reason": report.keychain_reason or None},
        "cgroup": {"path": report.cgroup or None, "reason": report.cgroup_reason or None},
        "remarks": list(report.remarks),
    }


def _knob(name: str) -> str:
    """Return what the kernel's setting *name* is now, or nothing where there is none."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def remarks_on(
    facts: Support, knob: Callable[[str], str], exists: Callable[[str], bool]
) -> list[str]:
    """Return what a person should know of a machine like this."""
    remarks = []
    if facts.macos is not None:
        remarks.append("nobody has run nono on a Mac yet: what is said here is believed, not seen")
    if facts.namespaces_reason:
        remarks += [text.format(name) for name, value, text in KNOBS if knob(name) == value]
        if exists("/.dockerenv") or exists("/run/.containerenv"):
            remarks.append("this is a container, and its runtime refuses namespaces of one's own")
    if "microsoft" in facts.kernel.lower():
        remarks += _on_wsl(facts.kernel)
    if os.geteuid() == 0 and facts.macos is not None:
        remarks.append("you are root, and so are confined programs: there is nothing to give up")
    elif os.geteuid() == 0:
        remarks.append("you are root: confined programs have no capabilities, and own root's files")
    return remarks


def _on_wsl(kernel: str) -> list[str]:
    from nono_mcp.policy import interop  # noqa: PLC0415 - only there

    if wsl.is_wsl1(kernel):
        return ["this is WSL1, which has no Linux kernel: nothing can be confined; use WSL2"]
    mounts = ", ".join(one.path for one in interop.windows_mounts()) or "/mnt"
    remarks = [f"this is WSL2: files of Windows are slow, and know no modes: {mounts}"]
    if wsl.interop_enabled(interop.texts()):
        closed = " and ".join(interop.CLOSED)
        remarks.append(f"Windows programs would start outside of a sandbox: {closed} are closed")
    return remarks


def _own_group() -> str:
    from nono_sandbox.cgroups import hierarchy  # noqa: PLC0415 - Linux's alone

    return hierarchy.directory_of()


def _keychain(state_dir: str) -> tuple[str, str]:
    """Return the name of the keychain that is there, or why there is none."""
    found: list[tuple[str, str]] = []
    # D-Bus may have to start a service, and a service may ask the person.
    thread = threading.Thread(target=lambda: found.append(_find(state_dir)), daemon=True)
    thread.start()
    thread.join(KEYCHAIN_S_MAX)
    return found[0] if found else ("", f"no answer within {KEYCHAIN_S_MAX:g} s")


def _find(state_dir: str) -> tuple[str, str]:
    try:
        from nono_mcp.audit.keystore import find_keychain  # noqa: PLC0415 - it may be missing

        keychain = find_keychain(f"{state_dir}/audit")
    except ImportError as error:
        return "", f"{error.name} isn't installed"
    if keychain is None:
        return "", "no keychain answers"
    return keychain.label, ""
