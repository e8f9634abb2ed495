"""Real processes change a directory; whatever differs afterwards has to have been told of.

The judge is the file system itself, seen before and after: every difference must be within what
the watcher named, or it must have said that everything is to be looked at.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import stat
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_mcp.snapshots.values import Dirty
from nono_mcp.snapshots.watch import Watcher
from nono_mcp.snapshots.watched import DEPTH_MAX, UNWATCHED_MAX

pytestmark = pytest.mark.linux

DEADLINE_S = 60.0
TURNS = 4
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
EVENTS_MAX = int(QUEUE.read_bytes()) if QUEUE.exists() else 0
ODD_NAMES = (b"-rf", b"new\nline", b"not utf-8 \xff\xfe", b"x" * 255, b" ", b"\xe2\x82\xac")

Seen = dict[bytes, tuple[tuple[int, ...], bytes]]


def seen(root: Path) -> Seen:
    """Return what is beneath *root*: what `lstat` tells of it, and its content."""
    found: Seen = {}
    pending = [root]
    while pending:
        path = pending.pop()
        status = path.lstat()
        kept = (status.st_ino, status.st_mode, status.st_uid, status.st_nlink, status.st_size)
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        elif path.is_dir():
            pending += path.iterdir()
        name = b"" if path == root else os.fsencode(path.relative_to(root))
        found[name] = ((*kept, status.st_mtime_ns, status.st_ctime_ns), content)
    return found


def everything(dirty: Dirty | None) -> bool:
    return dirty is None or b"" in dirty.rescan


def untold(before: Seen, after: Seen, dirty: Dirty | None) -> list[bytes]:
    """Return the paths that differ and that *dirty* doesn't lead to."""
    if dirty is None or everything(dirty):
        return []
    differing = [
        path
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path) and not of_several_names(path, before, after)
    ]
    return [path for path in differing if not told_of(path, before, after, dirty)]


def told_of(path: bytes, before: Seen, after: Seen, dirty: Dirty) -> bool:
    ways = ancestors(path)
    # What comes, goes or is replaced does so with all beneath it.
    for above in reversed(ways):
        if before.get(above, ((0,), b""))[0][0] != after.get(above, ((1,), b""))[0][0]:
            path, ways = above, ancestors(above)
            break
    if not dirty.rescan.isdisjoint((path, *ways)):
        looked_at = True
    else:
        relisted = path in dirty.relist or (bool(ways) and ways[0] in dirty.relist)
        looked_at = relisted or path in dirty.rehash or changed_within(path, dirty)
    unseen = path in before and path in after and before[path][0] == after[path][0]
    return looked_at and (not unseen or path in dirty.rehash)


def changed_within(path: bytes, dirty: Dirty) -> bool:
    """Tell whether a directory is looked at for what is in it, which changes its own time."""
    return any(ancestors(each)[:1] == [path] for each in dirty.rehash)


def of_several_names(path: bytes, before: Seen, after: Seen) -> bool:
    # A store looks at those every time.
    if path not in before or path not in after:
        return False
    links = before[path][0][3]
    return not stat.S_ISDIR(after[path][0][1]) and links > 1


def ancestors(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(len(parts) - 1, -1, -1)] if path else []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("src/deep/er", "lib", "empty"):
        (root / name).mkdir(parents=True)
    for name in ("top.txt", "src/a.c", "src/deep/b.c", "src/deep/er/c.c", "lib/d.so"):
        (root / name).write_text(f"{name}\n")
    return root


@contextlib.contextmanager
def watching(root: Path, **options: int) -> Iterator[Watcher]:
    watcher = Watcher(str(root), **options)
    try:
        assert watcher.take() is None
        yield watcher
    finally:
        watcher.close()


@pytest.fixture
def watcher(root: Path) -> Iterator[Watcher]:
    with watching(root) as watcher:
        assert watcher.take() == Dirty(), watcher.reason
        yield watcher


def sh(root: Path, script: str) -> None:
    subprocess.run(["/bin/sh", "-ec", script], cwd=root, check=True)


def test_nothing_changed_is_nothing_told(watcher: Watcher, root: Path) -> None:
    sh(root, "cat top.txt src/a.c >/dev/null; ls -lR >/dev/null; find . -name x")
    assert watcher.take() == Dirty()


@pytest.mark.parametrize(
    "script",
    [
        "echo more >> src/a.c",
        "truncate -s 2 src/a.c",
        "touch -d 2001-01-01 src/a.c",
        "chmod 600 src/a.c; chmod 700 src/deep; chmod 711 .",
        "rm top.txt; rm -r src",
        "mkdir -p new/a/b/c; echo 1 > new/a/b/c/f; ln -s f new/a/b/c/l; mkfifo new/pipe",
        "mv top.txt src/deep/er/; mv src/a.c lib/d.so",
        "mv src lib/src; echo 1 > lib/src/deep/er/late.c; echo 2 >> lib/src/a.c",
        "mv src old; mkdir src; mv old/deep src/deep; echo 2 >> src/deep/b.c; rm -r old",
        "mv src ../outside; echo 2 >> ../outside/a.c; mv ../outside src",
        "mkdir ../came; echo 1 > ../came/f; mv ../came lib/came; echo 2 >> lib/came/f",
        "rm -r src; mkdir -p src/deep; echo 3 > src/deep/b.c",
        "for i in 1 2 3 4 5 6 7 8 9; do mv lib l$i; mkdir lib; echo $i > lib/$i; done",
        "cp -a src copy; rm -r src; mv copy src",
        "ln top.txt lib/linked; rm top.txt",
    ],
)
def test_what_a_program_changes_is_told(watcher: Watcher, root: Path, script: str) -> None:
    before = seen(root)
    sh(root, script)
    dirty = watcher.take()
    assert dirty is not None, watcher.reason
    assert before != seen(root)
    assert untold(before, seen(root), dirty) == []
    # And it knows the new places: what changes in each of them is told as well.
    before = seen(root)
    sh(root, "find . -type d | while read d; do echo again > $d/again; done")
    dirty = watcher.take()
    assert dirty is not None, watcher.reason
    assert untold(before, seen(root), dirty) == []


def test_little_is_told_of_a_little_change(watcher: Watcher, root: Path) -> None:
    sh(root, "echo more >> src/deep/b.c; chmod 700 lib")
    dirty = watcher.take()
    assert dirty is not None
    assert dirty.rehash == {b"src/deep/b.c"}
    assert dirty.rescan == frozenset()
    assert dirty.relist == {b"", b"lib"}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_bytes(watcher: Watcher, root: Path, name: bytes) -> None:
    directory = root / os.fsdecode(name)
    directory.mkdir()
    (directory / directory.name).write_bytes(b"1")
    assert watcher.take() is not None
    (directory / directory.name).write_bytes(b"2")
    dirty = watcher.take()
    assert dirty is not None
    assert dirty.rehash == {name + b"/" + name}


def test_two_names_that_change_places_are_both_told(watcher: Watcher, root: Path) -> None:
    before = seen(root)
    at_fdcwd, exchange = -100, 2
    ends = [os.fsencode(root / name) for name in ("src", "lib")]
    done = ctypes.CDLL(None).renameat2(at_fdcwd, ends[0], at_fdcwd, ends[1], exchange)
    assert done == 0
    assert untold(before, seen(root), watcher.take()) == []
    for name in ("src/d.so", "lib/deep/b.c"):
        before = seen(root)
        (root / name).write_text("changed")
        dirty = watcher.take()
        assert dirty is not None
        assert dirty.rehash == {os.fsencode(name)}


def test_a_page_that_is_written_again_is_told_when_it_is_let_go(
    watcher: Watcher, root: Path
) -> None:
    path = root / "src" / "a.c"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"1"
        watcher.take()
        before = path.stat()
        mapped[0:1] = b"2"
        after = path.stat()
        # Which no look at its times could tell.
        assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    dirty = watcher.take()
    assert dirty is not None
    assert b"src/a.c" in dirty.rehash


def test_a_page_written_in_a_directory_that_is_moved_is_told_too(
    watcher: Watcher, root: Path
) -> None:
    path = root / "src" / "a.c"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"1"
        watcher.take()
        (root / "src").rename(root.parent / "outside")
        mapped[0:1] = b"2"
    (root.parent / "outside").rename(root / "src")
    dirty = watcher.take()
    assert dirty is not None
    assert b"src/a.c" in dirty.rehash


def test_what_was_told_to_a_look_that_failed_is_told_again(watcher: Watcher, root: Path) -> None:
    sh(root, "echo more >> src/a.c")
    with pytest.raises(OSError, match="full"), watcher.changes():
        raise OSError("the disk is full")
    again = watcher.take()
    assert again == Dirty(rehash=frozenset({b"src/a.c"}), rescan=frozenset({b""}))
    assert watcher.take() == Dirty()


def test_what_changes_during_a_look_is_the_next_ones(watcher: Watcher, root: Path) -> None:
    with watcher.changes():
        sh(root, "echo more >> src/a.c")
    dirty = watcher.take()
    assert dirty is not None
    assert dirty.rehash == {b"src/a.c"}


def test_more_events_than_the_kernel_keeps_are_everything(root: Path) -> None:
    with watching(root) as watcher:
        # Nothing is taken in meanwhile.
        with watcher._mutex:  # noqa: SLF001 - the thread's, held
            for number in range(EVENTS_MAX // 2 + 1000):
                (root / "top.txt").chmod(0o600 + number % 2)
                (root / "lib" / "d.so").chmod(0o600 + number % 2)
            assert everything(watcher.take())
        before = seen(root)
        sh(root, "echo more >> src/a.c")
        dirty = watcher.take()
        assert dirty is not None
        assert untold(before, seen(root), dirty) == []


def test_a_long_row_of_events_is_taken_in_as_it_comes(watcher: Watcher, root: Path) -> None:
    for number in range(EVENTS_MAX):
        (root / "top.txt").chmod(0o600 + number % 2)
        (root / "lib" / "d.so").chmod(0o600 + number % 2)
        if number % 1000 == 0:
            wait_until_taken_in(watcher)
    dirty = watcher.take()
    assert dirty is not None, watcher.reason
    assert dirty.rehash == {b"top.txt", b"lib/d.so"}


def wait_until_taken_in(watcher: Watcher) -> None:
    """Wait for its thread, which may be long in coming."""
    assert watcher._watching is not None  # noqa: SLF001 - nothing tells
    queue = watcher._watching._inotify.fileno()  # noqa: SLF001 - likewise
    deadline = time.monotonic() + DEADLINE_S
    pending = bytes(4)
    while int.from_bytes(fcntl.ioctl(queue, termios.FIONREAD, pending), sys.byteorder):
        assert time.monotonic() < deadline, "nobody takes it in"
        time.sleep(0.001)


def test_a_directory_over_the_limit_is_looked_at_whole_every_time(root: Path) -> None:
    with watching(root, watches_max=6) as watcher:
        assert watcher.take() == Dirty()
        sh(root, "mkdir seventh")
        assert watcher.take() is None
        assert "max_user_watches" in watcher.reason
        assert watcher.take() is None
    with watching(root, watches_max=3) as watcher:
        assert watcher.take() is None
        assert "max_user_watches" in watcher.reason


LIMITED = """
import sys
from pathlib import Path
from nono_mcp.snapshots.watch import Watcher
Path("/proc/sys/user/max_inotify_watches").write_text("4")
watcher = Watcher(sys.argv[1])
print(watcher.take(), watcher.take(), watcher.reason)
"""


def test_the_kernels_own_limit_is_one(root: Path) -> None:
    # In a user namespace of its own there is a limit that may be set.
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", LIMITED, str(root)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unshare failed" in finished.stderr or "Operation not permitted" in finished.stderr:
        pytest.skip(finished.stderr)
    assert finished.stdout == (
        "None None no more may be watched (fs.inotify.max_user_watches)\n"
    ), finished.stderr


def test_too_deep_a_chain_is_looked_at_whole(watcher: Watcher, root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(DEPTH_MAX + 1):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    assert watcher.take() is None
    assert "deep" in watcher.reason


@pytest.mark.parametrize("replaced_by", ["nothing", "a directory"])
def test_a_root_that_was_moved_away_is_noticed(
    watcher: Watcher, root: Path, replaced_by: str
) -> None:
    root.rename(root.with_name("elsewhere"))
    if replaced_by == "a directory":
        root.mkdir()
    assert watcher.take() is None


def test_a_parent_that_was_moved_away_is_noticed(tmp_path: Path) -> None:
    root = tmp_path / "parent" / "root"
    root.mkdir(parents=True)
    with watching(root) as watcher:
        root.parent.rename(tmp_path / "other")
        root.mkdir(parents=True)
        assert watcher.take() is None
        sh(root, "echo > f")
        dirty = watcher.take()
        assert dirty is None or dirty.rehash == {b"f"}


def test_symlinks_lead_nowhere(watcher: Watcher, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    sh(root, f"ln -s {outside} lib/link; mv src aside; ln -s {outside} src")
    assert watcher.take() is not None
    (outside / "f").write_text("1")
    assert watcher.take() == Dirty()


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_directory_made_readable_again_is_watched(
    watcher: Watcher, root: Path, mode: int
) -> None:
    # As its thread may see it: shut when it wants to go into what it has just been told of.
    with watcher._mutex:  # noqa: SLF001 - the thread's, held
        sh(root, f"mkdir -p shut/in; echo 0 > shut/in/f; chmod {mode:o} shut")
    assert watcher.take() is not None
    sh(root, "chmod 755 shut; echo 1 > shut/in/f")
    dirty = watcher.take()
    assert dirty is not None
    assert not dirty.rescan.isdisjoint({b"shut", b"shut/in"}) or b"shut/in/f" in dirty.rehash
    before = seen(root)
    sh(root, "echo 23 > shut/in/f; mkdir shut/in/new; echo 4 > shut/in/new/g")
    assert untold(before, seen(root), watcher.take()) == []
    assert watcher.take() == Dirty()


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_what_was_shut_from_the_beginning_is_watched_once_it_can_be(root: Path, mode: int) -> None:
    inner = root / "shut" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "f").write_text("0")
    (root / "shut").chmod(mode)
    with watching(root) as watcher:
        assert watcher.take() is not None
        (root / "shut").chmod(0o755)
        assert watcher.take() is not None
        assert watcher.take() == Dirty()
        before = seen(root)
        (inner / "f").write_text("1")
        assert untold(before, seen(root), watcher.take()) == []


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_what_is_done_in_a_shut_directory_by_who_has_it_open_is_told(root: Path, mode: int) -> None:
    shut = root / "shut"
    (shut / "in").mkdir(parents=True)
    (shut / "in" / "f").write_text("0")
    fd = os.open(shut / "in" / "f", os.O_WRONLY)
    try:
        shut.chmod(mode)
        with watching(root) as watcher:
            for text in (b"1", b"2"):
                watcher.take()
                os.pwrite(fd, text, 0)
                dirty = watcher.take()
                assert dirty is not None
                told = dirty.rescan | dirty.rehash
                assert not told.isdisjoint({b"shut", b"shut/in", b"shut/in/f"})
    finally:
        os.close(fd)
        shut.chmod(0o755)


def test_more_shut_directories_than_are_kept_track_of_are_everything(root: Path) -> None:
    for number in range(UNWATCHED_MAX + 1):
        (root / f"shut{number}").mkdir(mode=0)
    with watching(root) as watcher:
        # Root is shut out of none of them.
        assert watcher.take() == (Dirty() if os.geteuid() == 0 else None), watcher.reason
        assert os.geteuid() == 0 or "can't be read" in watcher.reason


MOUNTING = """
import subprocess, sys
from pathlib import Path
from nono_mcp.snapshots.values import Dirty
from nono_mcp.snapshots.watch import Watcher
root = Path(sys.argv[1])
watcher = Watcher(str(root))
told = [watcher.take(), watcher.take()]
for command in (["mount", "-t", "tmpfs", "none", "lib"], ["umount", "lib"]):
    subprocess.run(command, cwd=root, check=True)
    told += [watcher.take(), watcher.take()]
(root / "lib" / "d.so").write_text("changed")
told.append(watcher.take())
print(*[dirty if dirty is None else sorted(dirty.rescan | dirty.rehash) for dirty in told])
"""


def test_what_a_mount_hides_and_shows_again_is_looked_at_whole(root: Path) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", MOUNTING]
    finished = subprocess.run(
        [*command, str(root)], capture_output=True, text=True, check=False, timeout=60
    )
    if "unshare failed" in finished.stderr or "Operation not permitted" in finished.stderr:
        pytest.skip(finished.stderr)
    # What is mounted can't be watched, and so is looked at each time.
    assert finished.stdout == "None [] None [b'lib'] None [] [b'lib/d.so']\n", finished.stderr


def test_mkdir_chains_that_race_leave_nothing_untold(watcher: Watcher, root: Path) -> None:
    before = seen(root)
    script = "for i in $(seq 60); do mkdir -p $0$i/a/b/c/d; echo $i > $0$i/a/b/c/d/f; done"
    racing = [
        subprocess.Popen(["/bin/sh", "-ec", script, name], cwd=root) for name in ("x", "y", "z")
    ]
    told: list[Dirty | None] = []
    while any(process.poll() is None for process in racing):
        told.append(watcher.take())
    told.append(watcher.take())
    assert [process.wait(DEADLINE_S) for process in racing] == [0, 0, 0]
    assert untold(before, seen(root), together(told)) == []
    before = seen(root)
    sh(root, "for f in */a/b/c/d/f; do echo more >> $f; done")
    dirty = watcher.take()
    assert dirty is not None, watcher.reason
    assert untold(before, seen(root), dirty) == []
    assert len(dirty.rehash) == 180


def together(told: list[Dirty | None]) -> Dirty | None:
    known = [dirty for dirty in told if dirty is not None]
    if len(known) < len(told):
        return None
    return Dirty(
        frozenset().union(*(dirty.relist for dirty in known)),
        frozenset().union(*(dirty.rehash for dirty in known)),
        frozenset().union(*(dirty.rescan for dirty in known)),
    )


CHAOS = r"""
import os, random, sys, time
rng, root, end = random.Random(int(sys.argv[1])), sys.argv[2], time.monotonic() + 0.25
os.chdir(root)
def any_of(kind):
    found = [os.path.join(at, n) for at, ds, fs in os.walk(".") for n in (ds if kind else fs)]
    return rng.choice(found) if found else "top.txt"
def act():
    name = os.path.join(any_of(True), str(rng.randrange(9)))
    kind = rng.randrange(8)
    if kind == 0: os.makedirs(os.path.join(name, "m/n"))
    elif kind == 1: open(name, "a").write("x")
    elif kind == 2: os.rename(any_of(True), name)
    elif kind == 3: os.rename(any_of(False), name)
    elif kind == 4: os.remove(any_of(False))
    elif kind == 5: os.chmod(any_of(rng.randrange(2)), 0o700 + rng.randrange(8))
    elif kind == 6: open(any_of(False), "r+").write("y")
    else: os.rename(any_of(True), "../out"); os.rename("../out", name)
while time.monotonic() < end:
    try: act()
    except OSError: pass
"""


@pytest.mark.parametrize("seed", range(4))
def test_whatever_two_programs_do_at_once_is_told(root: Path, seed: int) -> None:
    everything_count = 0
    with watching(root) as watcher:
        for turn in range(TURNS):
            before = seen(root)
            programs = [
                subprocess.Popen([sys.executable, "-c", CHAOS, f"{seed}{turn}{number}", str(root)])
                for number in range(2)
            ]
            told = []
            while any(program.poll() is None for program in programs):
                told.append(watcher.take())
            told.append(watcher.take())
            assert [program.wait(DEADLINE_S) for program in programs] == [0, 0]
            assert untold(before, seen(root), together(told)) == []
            everything_count += everything(together(told))
        # Else it would have proven nothing.
        assert everything_count < TURNS


def test_it_ends_with_its_thread_and_its_descriptors(root: Path) -> None:
    others = set(threading.enumerate())
    for thread in others - {threading.current_thread()}:
        if thread.name == "watcher":
            thread.join(DEADLINE_S)  # another test's, on its way
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with watching(root):
            (started,) = set(threading.enumerate()) - others
        started.join(DEADLINE_S)
        assert not started.is_alive()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
