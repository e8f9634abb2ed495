"""A day of ordinary development, confined: what people do all day must go on working.

Each file of workday/ is a script; its first lines may say `# needs: PROGRAM...` and, where only
one tier can run it, `# tiers: TIER`.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import anyio
import pytest

from nono_mcp.policy.request import Request
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import LANDLOCK, NAMESPACES

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

FORCED = os.environ.get("NONO_TEST_TIER")
TIERS = [FORCED] if FORCED else [NAMESPACES, LANDLOCK]


def said(script: Path, key: str) -> list[str]:
    """Return the words after `# key:` in *script*."""
    found = re.search(rf"^# {key}: (.*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].split() if found else []


CASES = [
    pytest.param(script, tier, id=f"{script.stem}-{tier}")
    for script in sorted((Path(__file__).parent / "workday").glob("*.sh"))
    for tier in TIERS
    if tier in (said(script, "tiers") or TIERS)
]


@pytest.mark.claim("work.goes-on")
@pytest.mark.parametrize(("script", "tier"), CASES)
async def test_works_confined(script: Path, tier: str, tmp_path: Path) -> None:
    missing = [program for program in said(script, "needs") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    workspace, scratch = tmp_path / "work space", tmp_path / "tmp"
    workspace.mkdir()
    scratch.mkdir()
    request = Request(
        workspace=str(workspace),
        tier=tier,
        environ=dict(os.environ),
        home=str(Path.home()),
        state_dir=str(tmp_path / "state"),
        config_dir=str(tmp_path / "config"),
        tmpdir=str(scratch),
    )
    people = {
        f"GIT_{who}_{what}": "a@b.c"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    command = Command(
        ("sh", "-s"),
        stdin=await anyio.Path(script).read_bytes(),
        timeout_s=110,
        environment={"PYTHON": sys.executable, **people},
    )
    with anyio.fail_after(120):
        async with Session.open(request, tier=tier) as session:
            result = await session.run(command)
    shown = b"".join(result.output.ends()).decode(errors="replace")
    assert result.status == 0, f"{result.ended}\n{shown}"
