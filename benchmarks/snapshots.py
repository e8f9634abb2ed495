"""What snapshots cost, beside git with a GIT_DIR of its own doing the same.

    python benchmarks/snapshots.py [--files N]

The tree is made of this machine's own sources and headers, copied as often as it takes. Ratios in
one run: on a busy machine the seconds move, the ratios hardly.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Dirty
from nono_mcp.snapshots.watch import Watcher

SOURCES = (Path(os.__file__).parent, Path("/usr/include"), Path("/usr/share/perl"))
SUFFIXES = {".c", ".h", ".hpp", ".js", ".json", ".md", ".pl", ".pm", ".py", ".pyi", ".rst", ".txt"}
FILE_BYTES_MAX = 1 << 20


def timed(act: Callable[[], object]) -> float:
    """Return how long *act* takes, in seconds."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def line(name: str, value: float, unit: str, note: str = "") -> None:
    """Print one figure."""
    sys.stdout.write(f"{name:40}{value:12.2f} {unit:6}{note}\n")
    sys.stdout.flush()


def beside(name: str, ours_s: float, gits_s: float) -> None:
    """Print one duration beside git's."""
    line(name, ours_s * 1000, "ms", f"git {gits_s * 1000:.1f} ms, {ours_s / gits_s:.2f} of it")


def sources() -> Iterator[Path]:
    """Yield files of text, over and over."""
    found = [
        path
        for top in SOURCES
        if top.is_dir()
        for path in sorted(top.rglob("*"))
        if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= FILE_BYTES_MAX
    ]
    while found:
        yield from found


def populate(top: Path, count: int) -> int:
    """Fill *top* with *count* files, no two the same, and return their bytes."""
    total = 0
    for number, source in zip(range(count), sources(), strict=False):
        directory = top / f"{number // 800:03}" / f"{number // 8 % 100:02}"
        directory.mkdir(parents=True, exist_ok=True)
        content = b"// %d\n" % number + source.read_bytes()
        (directory / f"{number}{source.suffix}").write_bytes(content)
        total += len(content)
    return total


class Git:
    """The same by git's plumbing, its objects kept elsewhere."""

    def __init__(self, workspace: Path, directory: Path) -> None:
        self._environment = {
            **os.environ,
            "GIT_DIR": str(directory),
            "GIT_WORK_TREE": str(workspace),
        }
        self._workspace = workspace
        self.directory = directory
        self.run("init", "-q")

    def run(self, *words: str) -> str:
        """Run git in the workspace."""
        return subprocess.run(  # noqa: S603 - our own words
            ["git", *words],  # noqa: S607 - found as a person finds it
            cwd=self._workspace,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def take(self) -> str:
        """Add everything and return the tree."""
        self.run("add", "-A")
        return self.run("write-tree")

    def restore(self, tree: str) -> None:
        """Keep what is there, as a restore of ours does, and go back to *tree*."""
        self.take()
        self.run("read-tree", "--reset", "-u", tree)
        self.run("clean", "-fdq")


def memory(state: str, workspace: str, *words: str) -> None:
    """Print how many MB this process grows by, at most and in the end, to look at *workspace*.

    With a word more by a first snapshot; else as a server does: watched, with nothing changed.
    """
    with tempfile.TemporaryDirectory(prefix="snapshots-") as place:
        small, elsewhere = Path(place) / "small", str(Path(place) / "state")
        small.mkdir()
        populate(small, 100)
        grown(elsewhere, str(small))  # What is imported on the way isn't the workspace's.
        most, after = grown(elsewhere if words else state, workspace)
    sys.stdout.write(f"{most / 1024:.1f} {after / 1024:.1f}\n")


def grown(state: str, workspace: str) -> tuple[int, int]:
    """Return by how many KiB this process grows to watch and look, at most and in the end."""
    Path("/proc/self/clear_refs").write_text("5")  # from here on, the peak is this look's
    before = kib("VmRSS")
    watcher = Watcher(workspace)
    with Snapshots.open(state, workspace) as snapshots, watcher.changes() as dirty:
        snapshots.take("auto", dirty=dirty)
        found = kib("VmHWM") - before, kib("VmRSS") - before
    watcher.close()
    return found


def kib(name: str) -> int:
    """Return a figure of this process's memory."""
    status = Path("/proc/self/status").read_text()
    (found,) = re.findall(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found)


def change(workspace: Path, count: int) -> Dirty:
    """Change *count* files, and return what a watcher would tell."""
    files = sorted(path for path in workspace.rglob("*") if path.is_file())
    changed = files[:: max(1, len(files) // count)][:count]
    for path in changed:
        path.write_bytes(b"changed %d\n" % time.time_ns() + path.read_bytes())
    relative = [os.fsencode(path.relative_to(workspace)) for path in changed]
    return Dirty(rehash=frozenset(relative))


def taking(snapshots: Snapshots, git: Git, workspace: Path, source_bytes: int, state: str) -> None:
    """The first snapshot, one where nothing changed, and one of ten changes."""
    beside("first snapshot", timed(lambda: snapshots.take("auto")), timed(git.take))
    used = upkeep.usage(state).store_bytes
    gits = sum(path.stat().st_size for path in git.directory.rglob("*") if path.is_file())
    note = f"git {gits / 1e6:.1f} MB; {used / source_bytes:.2f} of the source's"
    line("store", used / 1e6, "MB", note)
    for name, words in (("first snapshot", ["new"]), ("held by a server", [])):
        told = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, __file__, "--memory", state, str(workspace), *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        line(f"memory, {name}: at most", float(told[0]), "MB", f"{told[1]} MB afterwards")
    git.take()
    beside(
        "nothing changed, nobody watched", timed(lambda: snapshots.take("auto")), timed(git.take)
    )
    warm = min(timed(lambda: snapshots.take("auto", dirty=Dirty())) for _ in range(20))
    beside("nothing changed, watched", warm, timed(git.take))
    dirty = change(workspace, 10)
    beside(
        "10 changes, watched", timed(lambda: snapshots.take("auto", dirty=dirty)), timed(git.take)
    )


def restoring(snapshots: Snapshots, git: Git, workspace: Path) -> None:
    """Going back from changes to ten files and a thousand."""
    for count in (10, 1000):
        tree, taken = git.take(), snapshots.take("auto")
        change(workspace, count)
        gits = timed(lambda tree=tree: git.restore(tree))  # type: ignore[misc]  # bound at once
        taken = snapshots.take("auto")
        dirty = change(workspace, count)

        def watched(taken_id: str = taken.id, dirty: Dirty = dirty) -> None:
            plan = snapshots.plan(taken_id, dirty=dirty)
            outcome = snapshots.restore(plan, dirty=Dirty)
            if not outcome.verified:
                raise RuntimeError(outcome.conflicts)

        beside(f"restore {count} files, watched", timed(watched), gits)
        change(workspace, count)

        def unwatched(taken_id: str = taken.id) -> None:
            snapshots.roll_back(taken_id, begin=lambda _: None)

        beside(f"restore {count} files, nobody watched", timed(unwatched), gits)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        memory(*args.memory)
        return
    base = Path(tempfile.mkdtemp(prefix="snapshots-"))
    try:
        workspace = base / "workspace"
        workspace.mkdir()
        source_bytes = populate(workspace, args.files)
        line("files", args.files, "", f"{source_bytes / 1e6:.0f} MB")
        git, state = Git(workspace, base / "git"), str(base / "state")
        with Snapshots.open(state, str(workspace)) as snapshots:
            taking(snapshots, git, workspace, source_bytes, state)
            restoring(snapshots, git, workspace)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
