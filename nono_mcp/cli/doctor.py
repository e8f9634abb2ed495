"""`nono doctor`: what this machine can enforce, and how."""

from __future__ import annotations

import os

from nono_mcp import places
from nono_mcp._site import enable_site
from nono_mcp.cli import options, say
from nono_mcp.cli.options import UsageError, shown
from nono_sandbox.support import ENFORCED, NOT, PARTLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.doctor import Report, Tier

OPTIONS = (options.JSON, options.HELP)
USAGE = """\
usage: nono doctor [--json]

Say which guarantees this machine gives in which tier, by which mechanism, and why not. A run
takes the first tier that is available; --tier insists on one.

  nono doctor
  nono doctor --json | jq .tier

Exit status: 0 programs can be confined here, 1 they can't, 2 this usage.
"""
NOTHING = 1
_STYLES = {ENFORCED: say.GREEN, PARTLY: say.YELLOW, NOT: say.RED}


def main(argv: list[str]) -> int:
    """Print the report and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    if parsed.rest:
        raise UsageError(f"unexpected {shown(parsed.rest[0])}")
    enable_site()
    from nono_mcp import doctor

    report = doctor.examine(places.state_dir(os.environ))
    if parsed.flag(options.JSON):
        told = doctor.document(report)
        say.document({"id": "doctor", "ok": bool(report.tier), "error": None, **told})
    else:
        say.out("\n".join(_lines(report)) + "\n")
    return 0 if report.tier else NOTHING


def _lines(report: Report) -> list[str]:
    facts = report.support
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines = [f"{versions}, {facts.machine}"]
    if facts.macos is None:
        abi = f"ABI {facts.landlock_abi}" if facts.landlock_abi else "none"
        lines += [
            f"landlock: {abi}, errata {facts.landlock_errata:#x}",
            f"cgroup v2: {report.cgroup or f'not ours ({report.cgroup_reason})'}",
        ]
    lines.append(f"keychain: {report.keychain or f'none ({report.keychain_reason})'}")
    lines += report.remarks
    for tier in report.tiers:
        lines += ["", *_tier(tier, chosen=tier.name == report.tier)]
    if not report.tier:
        lines += ["", "nothing can be confined here, so nothing will be run"]
    return lines


def _tier(tier: Tier, *, chosen: bool) -> list[str]:
    mark = " (taken where none is insisted on)" if chosen else ""
    if not tier.available:
        return [f"{say.styled(tier.name, say.BOLD, 1)}: not here: {tier.reason}"]
    lines = [f"{say.styled(tier.name, say.BOLD, 1)}{mark}"]
    for one in tier.guarantees:
        state = say.styled(f"{one.state:<9}", _STYLES[one.state], 1)
        lines.append(f"  {one.id:<18} {state} {one.mechanism}")
        if one.reason:
            lines.append(f"  {'':<18} {'':<9} but {one.reason}")
    return lines
