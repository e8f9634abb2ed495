"""A prepared policy, looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import LANDLOCK, NAMESPACES

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.policy.request import Prepared

TIERS = pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])


def granted(prepared: Prepared) -> dict[str, int]:
    return {grant.path: grant.access for grant in prepared.confinement.grants}


def denied(prepared: Prepared) -> dict[str, int]:
    return {denial.path: denial.access for denial in prepared.confinement.denials}


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
