"""What snapshots cost, beside git with a GIT_DIR of its own, restic and nono-py doing the same.

    python -m benchmarks.snapshots [--files N] [--rounds N]

The tree is made of this machine's own sources and headers, copied as often as it takes. What is
compared takes turns, and of each the fastest and the median are printed: on a busy machine the
seconds move, the ratios hardly. restic and nono-py take part where they're installed. Before what
writes is timed, all that was written before is synced: nobody is to wait for others' bytes.

To restore, git keeps what is there (add -A, write-tree), goes back (read-tree --reset -u) and
removes what is new (clean -fdq); it syncs nothing, and looks at nothing afterwards. We keep what is
there, prepare what comes back, sync it and the store, rename it into its place, and look at it all
again, or, watched, at what was told. So git's is timed with its file system synced at the end, too.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.bars import Bars
from benchmarks.snapshot_peers import Git, Peer, peers
from benchmarks.snapshot_tree import populate
from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Dirty
from nono_mcp.snapshots.watch import Watcher


class Place(NamedTuple):
    """A workspace that is kept."""

    workspace: Path
    files: list[Path]
    state: str
    snapshots: Snapshots


def timed(act: Callable[[], object]) -> float:
    """Return how long *act* takes, in seconds."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def line(name: str, value: float, unit: str, note: str = "") -> None:
    """Print one figure."""
    sys.stdout.write(f"{name:40}{value:12.2f} {unit:6}{note}\n")
    sys.stdout.flush()


def compared(
    name: str, contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, float]:
    """Print how long each of *contenders* takes, and how long ours does beside each other one."""
    times: dict[str, list[float]] = {each: [] for each in contenders}
    for number in range(rounds):
        order = list(contenders)
        # So that none of them always comes right after the same one.
        for each in order[number % len(order) :] + order[: number % len(order)]:
            times[each].append(timed(contenders[each]))
    return beside(name, times)


def beside(name: str, times: Mapping[str, list[float]]) -> dict[str, float]:
    """Print durations, the first of them being ours; return the medians, in ms."""
    (_, ours), *others = times.items()
    notes = [
        f"{each} {min(theirs) * 1000:.1f} / {median(theirs) * 1000:.1f}:"
        f" {min(ours) / min(theirs):.2f} / {median(ours) / median(theirs):.2f} of it"
        for each, theirs in others
    ]
    value = f"{min(ours) * 1000:.1f} / {median(ours) * 1000:.1f}"
    sys.stdout.write(f"{name:34}{value:>18} ms    {'; '.join(notes)}\n")
    sys.stdout.flush()
    return {each: median(found) * 1000 for each, found in times.items()}


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


def change(workspace: Path, files: list[Path], count: int) -> Dirty:
    """Change *count* of the *files*, and return what a watcher would tell."""
    changed = files[:: max(1, len(files) // count)][:count]
    for path in changed:
        path.write_bytes(b"changed %d\n" % time.time_ns() + path.read_bytes())
    relative = [os.fsencode(path.relative_to(workspace)) for path in changed]
    return Dirty(rehash=frozenset(relative))


def first(workspace: Path, base: Path, rounds: int, bars: Bars) -> None:
    """The first snapshot, each time into a new store; the last of git's and ours stay."""
    makers: dict[str, Callable[[Path], Callable[[], object]]] = {
        "ours": functools.partial(_ours, workspace),
        **{name: functools.partial(_peers, workspace, peer) for name, peer in peers().items()},
    }
    times: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(rounds):
        order = list(makers)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            place = base / name
            if place.exists():
                shutil.rmtree(place)
            take = makers[name](place)
            os.sync()
            times[name].append(timed(take))
            if name not in {"ours", "git"}:
                shutil.rmtree(place)
    ours, *others = beside("first snapshot", times).items()
    for name, theirs in others:
        bars.note(f"first snapshot, of {name}'s", ours[1] / theirs, 1, "times")


def _ours(workspace: Path, place: Path) -> Callable[[], object]:
    def take() -> None:
        with Snapshots.open(str(place), str(workspace)) as snapshots:
            snapshots.take("auto")

    return take


def _peers(workspace: Path, peer: type[Peer], place: Path) -> Callable[[], object]:
    return peer(workspace, place).take


def kept(git: Git, workspace: Path, source_bytes: int, state: str, bars: Bars) -> None:
    """How much is kept, on disk and in memory."""
    used = upkeep.usage(state).store_bytes
    gits = sum(path.stat().st_size for path in git.directory.rglob("*") if path.is_file())
    note = f"git {gits / 1e6:.1f} MB; {used / source_bytes:.2f} of the source's"
    line("store", used / 1e6, "MB", note)
    bars.note("store, of the source's bytes", used / source_bytes, 1 / 3, "times")
    where = state, str(workspace)
    for name, words in (("first snapshot", ["new"]), ("held by a server", [])):
        told = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "benchmarks.snapshots", "--memory", *where, *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        line(f"memory, {name}: at most", float(told[0]), "MB", f"{told[1]} MB afterwards")
        # The peak has what reading and packing takes in it; the bar is on what is held of a tree.
        bars.note(f"memory kept, {name}", float(told[1]), 20, "MB")


def taking(place: Place, git: Git, rounds: int, bars: Bars) -> None:
    """Snapshots where nothing changed, and where ten files did."""

    def anew() -> None:
        with Snapshots.open(place.state, str(place.workspace)) as opened:
            opened.take("auto")

    found = compared(
        "nothing changed, nobody watched",
        {"ours": anew, "git add, write-tree": git.take, "git add": git.add},
        rounds,
    )
    for name in ("git add, write-tree", "git add"):
        bars.note(
            f"nothing changed, nobody watched, of {name}", found["ours"] / found[name], 1, "times"
        )
    snapshots = place.snapshots
    found = compared(
        "nothing changed, watched",
        {"ours": lambda: snapshots.take("auto", dirty=Dirty()), "git": git.take},
        rounds,
    )
    bars.note("nothing changed, watched", found["ours"], 1, "ms")
    times: dict[str, list[float]] = {"ours": [], "git": []}
    for _ in range(rounds):
        dirty = change(place.workspace, place.files, 10)
        os.sync()
        times["ours"].append(timed(lambda dirty=dirty: snapshots.take("auto", dirty=dirty)))  # type: ignore[misc]  # bound at once
        times["git"].append(timed(git.take))
    bars.note("10 changes, watched", beside("10 changes, watched", times)["ours"], 5, "ms")


def restoring(place: Place, git: Git, rounds: int, bars: Bars) -> None:
    """Going back from changes to ten files and a thousand."""
    snapshots = place.snapshots
    for count in (10, 1000):
        tree, taken = git.take(), snapshots.take("auto")
        acts: dict[str, Callable[[Dirty], object]] = {
            "unwatched": lambda _, id=taken.id: snapshots.roll_back(id, begin=lambda _: None),  # type: ignore[misc]  # noqa: A006
            "watched": functools.partial(watched_restore, snapshots, taken.id),
            "git": lambda _, tree=tree: git.restore(tree),  # type: ignore[misc]
            "git, synced": lambda _, tree=tree: git.restore(tree, sync=True),  # type: ignore[misc]
        }
        times: dict[str, list[float]] = {name: [] for name in acts}
        for number in range(rounds):
            order = list(acts)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                # What git put back has other inodes and times: it is to be known to both.
                snapshots.take("auto")
                git.take()
                dirty = change(place.workspace, place.files, count)
                os.sync()
                times[name].append(timed(functools.partial(acts[name], dirty)))
        for name in ("watched", "unwatched"):
            ours = {"ours": times[name], "git": times["git"], "git, synced": times["git, synced"]}
            found = beside(f"restore {count} files, {name}", ours)
            bars.note(
                f"restore {count} files, {name}, of git's", found["ours"] / found["git"], 1, "times"
            )


def watched_restore(snapshots: Snapshots, taken_id: str, dirty: Dirty) -> None:
    """Go back, knowing what changed."""
    outcome = snapshots.restore(snapshots.plan(taken_id, dirty=dirty), dirty=Dirty)
    if not outcome.verified:
        raise RuntimeError(outcome.conflicts)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        memory(*args.memory)
        return
    base, bars = Path(tempfile.mkdtemp(prefix="snapshots-")), Bars()
    try:
        workspace = base / "workspace"
        workspace.mkdir()
        files, source_bytes = populate(workspace, args.files)
        line("files", args.files, "", f"{source_bytes / 1e6:.0f} MB")
        first(workspace, base, max(1, args.rounds // 4), bars)
        git, state = Git(workspace, base / "git"), str(base / "ours")
        kept(git, workspace, source_bytes, state, bars)
        with Snapshots.open(state, str(workspace)) as snapshots:
            place = Place(workspace, files, state, snapshots)
            taking(place, git, args.rounds, bars)
            restoring(place, git, args.rounds, bars)
        bars.show()
        sys.stdout.write(f"load {os.getloadavg()[0]:.1f} in the end\n")
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
