"""What is lost when hostile deeds are undone: by this project, by nono-py, by git on the side.

python -m benchmarks.undo_peers [--only DEED]

The deeds are those of the tests' tables (`tests/snapshots/deeds.py`, `repositories.py`): each is
done to a fresh workspace that was snapshotted before, and undone; then eyes that belong to none of
them compare all there is to see. Of git, that is `add -A`, `read-tree --reset -u`, `clean -fdq`
with a GIT_DIR of its own, which is how most tools that call it a checkpoint do it. nono-py is left
out where it isn't installed; a workspace with a name that isn't UTF-8 it refuses as a whole, so
that it gets one without, but for the deed about such names.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.snapshot_peers import Git
from nono_mcp.snapshots.snapshots import Snapshots
from tests.snapshots.deeds import DEEDS, populate
from tests.snapshots.repositories import GIT_DEEDS, populate_repositories
from tests.snapshots.state import seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.snapshots.state import Seen

DEADLINE_S = 30
EXACT = "exact"
ODD_NAMES = "odd names gone"
_WHAT = ("mode", "owner", "owner", "time", "content", "attributes", "hard links")
_HOLES = "holes"


def ours(base: Path, workspace: Path, deed: Callable[[], object]) -> None:
    """Undo *deed* by this project."""
    with Snapshots.open(str(base / "state"), str(workspace)) as snapshots:
        taken = snapshots.take("auto")
        deed()
        snapshots.restore(snapshots.plan(taken.id))


def git(base: Path, workspace: Path, deed: Callable[[], object]) -> None:
    """Undo *deed* by git with a directory of its own."""
    shadow = Git(workspace, base / "git")
    tree = shadow.take()
    deed()
    shadow.restore(tree)


def _nono_py(base: Path, workspace: Path, deed: Callable[[], object], *, ignored: bool) -> None:
    import nono_py  # noqa: PLC0415 - a peer that need not be there

    (base / "session").mkdir()
    exclusion = nono_py.ExclusionConfig(use_gitignore=ignored)
    manager = nono_py.SnapshotManager(str(base / "session"), [str(workspace)], exclusion)
    manager.create_baseline()
    deed()
    manager.restore_to(0)


def nono_py(base: Path, workspace: Path, deed: Callable[[], object]) -> None:
    """Undo *deed* by nono-py as it comes."""
    _nono_py(base, workspace, deed, ignored=True)


def nono_py_all(base: Path, workspace: Path, deed: Callable[[], object]) -> None:
    """Undo *deed* by nono-py, told to heed no .gitignore."""
    _nono_py(base, workspace, deed, ignored=False)


CONTENDERS = {"ours": ours, "git": git, "nono-py": nono_py, "nono-py, all": nono_py_all}


def lost(before: Seen, after: Seen) -> list[str]:
    """Return what differs, in words, each with how many entries it concerns."""
    counts: Counter[str] = Counter()
    counts["gone"] = len(before.keys() - after.keys())
    counts["left over"] = len(after.keys() - before.keys())
    for path in before.keys() & after.keys():
        counts.update(set(_differing(before[path], after[path])))
    return [f"{count} {what}" for what, count in counts.items() if count]


def _differing(old: tuple[object, ...], new: tuple[object, ...]) -> list[str]:
    if stat.S_IFMT(int(str(old[0]))) != stat.S_IFMT(int(str(new[0]))):
        return ["type"]
    filler = (None,) * len(_WHAT)
    found = []
    for what, a, b in zip(_WHAT, (*old, *filler), (*new, *filler), strict=False):
        if a == b:
            continue
        only_holes = isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0]
        found.append(_HOLES if only_holes else what)
    return found


def but_for(what: str, *words: str) -> bool:
    """Tell whether no more is lost than *words* say."""
    return what == EXACT or all(part.endswith(words) for part in what.split(", "))


SUMMARIES: dict[str, Callable[[str], bool]] = {
    "exact": lambda what: what == EXACT,
    "exact but for times": lambda what: but_for(what, " time"),
    "all names and contents": lambda what: but_for(
        what, " time", " mode", " owner", " attributes", " hard links", " holes"
    ),
}
"""What is counted in the end."""


def one(contender: str, deed: str, base: Path) -> str:
    """Do one deed to a workspace in *base*, undo it, and return what was lost."""
    workspace = base / "workspace"
    workspace.mkdir()
    if deed in GIT_DEEDS:
        populate_repositories(workspace, base)
        act = GIT_DEEDS[deed]
    else:
        populate(workspace)
        act = DEEDS[deed]
        if contender.startswith("nono-py") and deed != ODD_NAMES:
            shutil.rmtree(os.fsencode(workspace) + b"/\xff\xfe")
    before = seen(workspace)
    try:
        CONTENDERS[contender](base, workspace, lambda: act(workspace))
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        text = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return f"FAILED: {text[0] if text else type(error).__name__}"
    return ", ".join(lost(before, seen(workspace))) or EXACT


def apart(contender: str, deed: str) -> str:
    """Do so in a process of its own, which may hang or die."""
    base = Path(tempfile.mkdtemp(prefix="undo-"))
    try:
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "benchmarks.undo_peers", "--one", contender, deed, str(base)],
            capture_output=True,
            check=False,
            text=True,
            timeout=DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        return f"HUNG, for {DEADLINE_S} s"
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(base)], check=False, capture_output=True)  # noqa: S603, S607
        shutil.rmtree(base, ignore_errors=True)
    return done.stdout.strip() or f"DIED: {(done.stderr.strip().splitlines() or ['?'])[-1]}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one deed")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        contender, deed, base = args.one
        sys.stdout.write(one(contender, deed, Path(base)) + "\n")
        return
    contenders = [
        name
        for name in CONTENDERS
        if not name.startswith("nono-py") or importlib.util.find_spec("nono_py")
    ]
    deeds = [args.only] if args.only else [*DEEDS, *GIT_DEEDS]
    counts = {title: Counter[str]() for title in SUMMARIES}
    sys.stdout.write(f"| deed | {' | '.join(contenders)} |\n|{' --- |' * (len(contenders) + 1)}\n")
    for deed in deeds:
        found = {name: apart(name, deed) for name in contenders}
        for title, fits in SUMMARIES.items():
            counts[title].update(name for name, what in found.items() if fits(what))
        sys.stdout.write(f"| {deed} | {' | '.join(found.values())} |\n")
        sys.stdout.flush()
    for title, of in counts.items():
        told = " | ".join(f"{of[name]} of {len(deeds)}" for name in contenders)
        sys.stdout.write(f"| **{title}** | {told} |\n")


if __name__ == "__main__":
    main()
