"""What snapshots cost, beside git with a GIT_DIR of its own, restic and nono-py doing the same.

    python -m benchmarks.snapshots [--files N] [--rounds N]

The tree is made of this machine's own sources and headers, copied as often as it takes. What is
compared takes turns, and of each the fastest and the median are printed: on a busy machine the
seconds move, the ratios hardly. restic and nono-py take part where they're installed.
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

from benchmarks.snapshot_peers import Git, Peer, peers
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


def compared(name: str, contenders: Mapping[str, Callable[[], object]], rounds: int) -> None:
    """Print how long each of *contenders* takes, and how long ours does beside each other one."""
    times: dict[str, list[float]] = {each: [] for each in contenders}
    for number in range(rounds):
        order = list(contenders)
        # So that none of them always comes right after the same one.
        for each in order[number % len(order) :] + order[: number % len(order)]:
            times[each].append(timed(contenders[each]))
    beside(name, times)


def beside(name: str, times: Mapping[str, list[float]]) -> None:
    """Print durations, the first of them being ours."""
    (_, ours), *others = times.items()
    notes = [
        f"{each} {min(theirs) * 1000:.1f} / {median(theirs) * 1000:.1f}:"
        f" {min(ours) / min(theirs):.2f} / {median(ours) / median(theirs):.2f} of it"
        for each, theirs in others
    ]
    value = f"{min(ours) * 1000:.1f} / {median(ours) * 1000:.1f}"
    sys.stdout.write(f"{name:34}{value:>18} ms    {'; '.join(notes)}\n")
    sys.stdout.flush()


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


def first(workspace: Path, base: Path, rounds: int) -> None:
    """The first snapshot, each time into a new store."""
    makers: dict[str, Callable[[Path], Callable[[], object]]] = {
        "ours": functools.partial(_ours, workspace),
        **{name: functools.partial(_peers, workspace, peer) for name, peer in peers().items()},
    }
    times: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(rounds):
        order = list(makers)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            place = base / f"first-{name}"
            take = makers[name](place)
            # Nobody is to wait for what others, or whoever made the tree, left to be written.
            os.sync()
            times[name].append(timed(take))
            shutil.rmtree(place)
    beside("first snapshot", times)


def _ours(workspace: Path, place: Path) -> Callable[[], object]:
    def take() -> None:
        with Snapshots.open(str(place), str(workspace)) as snapshots:
            snapshots.take("auto")

    return take


def _peers(workspace: Path, peer: type[Peer], place: Path) -> Callable[[], object]:
    return peer(workspace, place).take


def kept(git: Git, workspace: Path, source_bytes: int, state: str) -> None:
    """How much is kept, on disk and in memory."""
    used = upkeep.usage(state).store_bytes
    gits = sum(path.stat().st_size for path in git.directory.rglob("*") if path.is_file())
    note = f"git {gits / 1e6:.1f} MB; {used / source_bytes:.2f} of the source's"
    line("store", used / 1e6, "MB", note)
    where = state, str(workspace)
    for name, words in (("first snapshot", ["new"]), ("held by a server", [])):
        told = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "benchmarks.snapshots", "--memory", *where, *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        line(f"memory, {name}: at most", float(told[0]), "MB", f"{told[1]} MB afterwards")


def taking(snapshots: Snapshots, git: Git, workspace: Path, state: str, rounds: int) -> None:
    """Snapshots where nothing changed, and where ten files did."""

    def anew() -> None:
        with Snapshots.open(state, str(workspace)) as opened:
            opened.take("auto")

    compared(
        "nothing changed, nobody watched",
        {"ours": anew, "git add, write-tree": git.take, "git add": git.add},
        rounds,
    )
    compared(
        "nothing changed, watched",
        {"ours": lambda: snapshots.take("auto", dirty=Dirty()), "git": git.take},
        rounds,
    )
    times: dict[str, list[float]] = {"ours": [], "git": []}
    for _ in range(rounds):
        dirty = change(workspace, 10)
        times["ours"].append(timed(lambda dirty=dirty: snapshots.take("auto", dirty=dirty)))  # type: ignore[misc]  # bound at once
        times["git"].append(timed(git.take))
    beside("10 changes, watched", times)


def restoring(snapshots: Snapshots, git: Git, workspace: Path, rounds: int) -> None:
    """Going back from changes to ten files and a thousand."""
    for count in (10, 1000):
        watched: dict[str, list[float]] = {"ours": [], "git": []}
        unwatched: dict[str, list[float]] = {"ours": [], "git": []}
        for _ in range(rounds):
            tree = git.take()
            change(workspace, count)
            gits = timed(lambda tree=tree: git.restore(tree))  # type: ignore[misc]  # bound at once
            watched["git"].append(gits)
            unwatched["git"].append(gits)
            taken = snapshots.take("auto")
            dirty = change(workspace, count)
            act = functools.partial(watched_restore, snapshots, taken.id, dirty)
            watched["ours"].append(timed(act))
            change(workspace, count)
            back = functools.partial(snapshots.roll_back, taken.id, begin=lambda _: None)
            unwatched["ours"].append(timed(back))
        beside(f"restore {count} files, watched", watched)
        beside(f"restore {count} files, nobody watched", unwatched)


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
    base = Path(tempfile.mkdtemp(prefix="snapshots-"))
    try:
        workspace = base / "workspace"
        workspace.mkdir()
        source_bytes = populate(workspace, args.files)
        line("files", args.files, "", f"{source_bytes / 1e6:.0f} MB")
        first(workspace, base, max(1, args.rounds // 4))
        git, state = Git(workspace, base / "git"), str(base / "state")
        with Snapshots.open(state, str(workspace)) as snapshots:
            snapshots.take("auto")
            git.take()
            kept(git, workspace, source_bytes, state)
            taking(snapshots, git, workspace, state, args.rounds)
            restoring(snapshots, git, workspace, args.rounds)
        sys.stdout.write(f"load {os.getloadavg()[0]:.1f} in the end\n")
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
