"""`nono why` on a Mac, against the text that sandbox-exec would be given for the same policy.

Invariant: what is told of a path that is there is what the text means.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import load
from nono_mcp.policy.decide import Allow
from nono_mcp.policy.document import Document, FilesystemSection, NetworkSection
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_sandbox.confinement import SEATBELT
from nono_sandbox.seatbelt.evaluator import Profile, Query, Reading
from nono_sandbox.seatbelt.profile import profile
from tests.server.conftest import Machine, furnished

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = 60
QUESTIONS = 40
KEYS = ("allow", "read", "write", "deny", "deny_write")
NAMES = ("src", ".git", ".ssh", "notes", "Ünïcode", ".env", "a b", "deep")
WORDS = {
    "read": ("file-read-data",),
    "execute": ("process-exec", "file-map-executable"),
    "write": ("file-write-data", "file-write-create"),
}


def tree(machine: Machine) -> list[Path]:
    """Make directories and files; return them all."""
    found = []
    for top in (machine.workspace, machine.home, machine.root / "other"):
        for one in NAMES:
            for two in NAMES[:3]:
                directory = top / one / two
                directory.mkdir(parents=True, exist_ok=True)
                (directory / "file").touch()
                found += [directory, directory / "file", directory.parent]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_why_tells_is_what_the_text_means(tmp_path: Path, seed: int) -> None:
    machine = furnished(tmp_path.resolve())
    pick = random.Random(seed)  # noqa: S311 - no secret
    places = tree(machine)
    directories = [place for place in places if place.is_dir()]
    asked = {True: 0, False: 0}
    for _ in range(POLICIES // 3):
        lists = {
            key: tuple(str(one) for one in pick.sample(directories, pick.randrange(3)))
            for key in KEYS
        }
        flags = Document(
            filesystem=FilesystemSection().replace(**lists), network=NetworkSection(mode="closed")
        )
        try:
            prepared = load.prepare(machine.request(tier=SEATBELT, flags=flags))
        except (PolicyError, RefusedError):
            continue  # a grant of what is closed, or of nothing
        judged = Profile(profile(prepared.confinement))
        for place in pick.sample(places, QUESTIONS):
            word = pick.choice(tuple(WORDS))
            _, verdict = load.explain(prepared, str(place), word)
            told = isinstance(verdict, Allow)
            asked[told] += 1
            for operation in WORDS[word]:
                for reading in Reading:
                    meant = judged.decide(Query(operation, path=str(place)), reading).allowed
                    assert meant is told, (place, word, operation, reading, verdict)
    assert min(asked.values()) > QUESTIONS


def test_what_is_denied_and_isnt_there_is_closed_under_its_name(tmp_path: Path) -> None:
    """As no mount can close it: on Linux it is watched for, here the name itself is shut."""
    machine = furnished(tmp_path.resolve())
    absent = machine.workspace / "absent"
    flags = Document(filesystem=FilesystemSection(deny=(str(absent),)))
    prepared = load.prepare(machine.request(tier=SEATBELT, flags=flags))
    assert prepared.awaited == ()
    judged = Profile(profile(prepared.confinement))
    for name in ("absent", "ABSENT", "absent/x"):
        path = str(machine.workspace / name)
        assert not judged.decide(Query("file-write-create", path=path)).allowed
    assert not isinstance(load.explain(prepared, str(absent), "write")[1], Allow)
