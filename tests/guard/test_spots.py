"""What is said to be looked at is looked at: `finding.is_reached` against `spots.visit_git`."""

import itertools
import os
from pathlib import Path

from nono_mcp.guard import finding, spots
from nono_mcp.guard.spots import Spot

NAMES = ("modules", "worktrees", "m", "rr-cache")
DEPTH = 4


def repository(path: Path) -> None:
    """Make of *path* what Git takes for a repository, whatever it's in."""
    for name in ("objects", "refs"):
        (path / name).mkdir(parents=True)
    (path / "HEAD").write_text("ref: refs/heads/main\n")
    (path / "config").write_text("[core]\n\tbare = false\n")


def visited(root: int) -> set[tuple[str, ...]]:
    found = set()

    def see(spot: Spot, parent: int) -> bool:
        path = (*spot.directory, spot.name)
        if os.path.lexists(f"/proc/self/fd/{parent}/{spot.name}"):
            found.add(path)
        return spot.rule in (spots.DIRECTORY, spots.GIT)

    spots.visit_git((), root, see)
    return found


def test_every_repository_that_a_file_of_git_may_lead_to_is_looked_at(tmp_path: Path) -> None:
    directories = [
        (".git", *names)
        for depth in range(DEPTH + 1)
        for names in itertools.product(NAMES, repeat=depth)
    ]
    for directory in directories:
        repository(tmp_path.joinpath(*directory))
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        reached = [one for one in directories if finding.is_reached(one, root)]
        seen = visited(root)
    finally:
        os.close(root)
    assert {(*one, "config") for one in reached} <= seen
    assert (".git", "modules", "m") in reached
    assert (".git", "worktrees", "m") in reached
    assert (".git", "m", "modules", "m") not in reached
