"""What is put away from another file system is whole in one place at every moment."""

from __future__ import annotations

import fcntl
import json
import os
import posix
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nono_mcp.guard import aside, copying
from nono_mcp.guard.guard import Guard
from nono_mcp.guard.quarantine import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nono_mcp.guard.action import Action
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.put-right")]

HOLE_BYTES = 1 << 40
OLD_NS = 10**18 + 7


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="nono-test-"))
    assert path.stat().st_dev != tmp_path.stat().st_dev
    yield path
    subprocess.run(["chmod", "-R", "u+rwx", str(path)], check=True)
    shutil.rmtree(path)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = tmp_path / "above" / "work"
    path.mkdir(parents=True)
    return path


@contextmanager
def guarding(state: Path, work: Path, actions: list[Action]) -> Iterator[None]:
    """Guard what the body does, and add to *actions* what was done about it."""
    guard = Guard(str(state))
    guard.settle([(str(work), None)], ())
    actions += guard.begin()
    yield
    actions += guard.end()
    guard.close()


def plant(work: Path, text: str = "a" * 5000) -> None:
    """Plant a directory of every kind of file."""
    top = work / ".vscode"
    for name in ("inner/deep", "shut", "empty"):
        (top / name).mkdir(parents=True)
    (top / "tasks.json").write_text(text)
    (top / "inner" / "run").write_text(text * 2)
    (top / "inner" / "run").chmod(0o751)
    os.link(top / "inner" / "run", top / "shut" / "again")
    (top / "shut" / "closed").write_text(text)
    (top / "shut" / "closed").chmod(0)
    (top / "link").symlink_to("../nowhere")
    os.mkfifo(top / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket is short.
        directory = os.open(top, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    with (top / "hole").open("wb") as file:
        file.seek(HOLE_BYTES)
        file.write(b"end")
    for path in (top / "inner" / "run", top / "link", top / "fifo"):
        os.utime(path, ns=(OLD_NS, OLD_NS + 5), follow_symlinks=False)
    if has_attributes("/dev/shm"):  # noqa: S108
        os.setxattr(top / "tasks.json", "user.nono", b"kept")
        os.setxattr(top / "inner", "user.nono", b"kept too")
    os.utime(top / "inner", ns=(OLD_NS, OLD_NS))
    (top / "shut").chmod(0o500)


def has_attributes(where: str) -> bool:
    with tempfile.TemporaryDirectory(dir=where) as path:
        try:
            os.setxattr(path, "user.nono", b"")
        except OSError:
            return False
        return True


def told(top: Path) -> dict[str, Any]:
    """Return all that is to be told of a tree, but for inodes and the times of changes."""
    found: dict[str, Any] = {}
    for path in (top, *top.rglob("*")):
        status = path.lstat()
        mode = status.st_mode
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = status.st_nlink, status.st_size, status.st_blocks > 0
            if status.st_size < HOLE_BYTES:
                path.chmod(0o600)
                content = content, path.read_bytes()
                path.chmod(mode & 0o7777)
        owner = status.st_uid, status.st_gid
        time = None if path == top else status.st_mtime_ns
        names = os.listxattr(path, follow_symlinks=False)
        kept = [os.getxattr(path, name) for name in names if name.startswith("user.")]
        found[str(path.relative_to(top))] = mode, owner, time, kept, content
    return found


def test_a_copy_keeps_all_that_a_move_would(tmp_path: Path, state: Path, work: Path) -> None:
    plant(tmp_path)
    (tmp_path / "expected").mkdir()
    plant(tmp_path / "expected")
    actions: list[Action] = []
    with guarding(state, work, actions):
        (tmp_path / ".vscode").rename(work / ".vscode")
        umask = os.umask(0o077)
    os.umask(umask)
    (action,) = actions
    assert (action.action, action.why) == ("removed", "")
    assert action.kept_in.startswith(f"{state}/quarantine/")
    kept, expected = told(Path(action.kept_in)), told(tmp_path / "expected" / ".vscode")
    changing = {name for name in expected if expected[name][2] is not None}
    times = {name: (kept[name][2], expected[name][2]) for name in changing}
    assert times["inner/run"] == (OLD_NS + 5, OLD_NS + 5)
    assert times["inner"] == (OLD_NS, OLD_NS)
    assert times["link"] == (OLD_NS + 5, OLD_NS + 5)
    for one in (kept, expected):
        for name, (mode, owner, _, attributes, content) in one.items():
            one[name] = mode, owner, attributes, content
    assert kept == expected
    (hole,) = Path(action.kept_in).glob("hole")
    assert hole.stat().st_blocks < 1000
    assert [path.name for path in work.parent.iterdir()] == ["work"]
    assert list(work.iterdir()) == []
    assert not (state / "aside").exists()


@pytest.mark.parametrize("bound", ["BYTES_MAX", "ENTRIES_MAX", "DEPTH_MAX", "RESERVED_SHARE"])
def test_what_is_too_much_to_copy_stays_aside_whole(
    state: Path, work: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(copying, bound, 1)
    actions: list[Action] = []
    with guarding(state, work, actions):
        plant(work)
    (action,) = actions
    assert action.action == "removed"
    assert action.kept_in in action.why or "another name" in action.why
    kept = Path(action.kept_in)
    assert kept.parent == work.parent
    assert (kept / "tasks.json").read_text() == "a" * 5000
    assert len(list(kept.rglob("*"))) == 12
    assert not (work / ".vscode").exists()
    assert [path for path in (state / "quarantine").rglob("*") if path.is_file()] == []
    assert not (state / "aside").exists()


def test_one_look_copies_no_more_than_its_bound(
    state: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BYTES_MAX", 10_000)
    actions: list[Action] = []
    names = (".envrc", ".gdbinit", ".mcp.json", ".npmrc")
    with guarding(state, work, actions):
        for name in names:
            (work / name).write_text(name.ljust(4500))
    assert [bool(one.why) for one in actions] == [False, False, True, True]
    assert [Path(one.kept_in).read_text().strip() for one in actions] == list(names)


def test_no_more_files_are_copied_than_half_of_what_fits(
    state: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statvfs = os.statvfs

    def nearly_full(where: int) -> os.statvfs_result:
        found = list(statvfs(where))
        found[7] = 2 * copying.FREE_SHARE  # f_favail
        return os.statvfs_result(found)

    monkeypatch.setattr(posix, "statvfs", nearly_full)
    actions: list[Action] = []
    with guarding(state, work, actions):
        for name, count in ((".idea", 1), (".vscode", 2)):
            (work / name).mkdir()
            for number in range(count):
                (work / name / str(number)).touch()
    assert [bool(one.why) for one in actions] == [False, True]
    assert all(Path(one.kept_in).is_dir() for one in actions)


def test_each_look_has_the_whole_of_its_bound(
    state: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BYTES_MAX", 6_000)
    guard = Guard(str(state))
    guard.settle([(str(work), None)], ())
    for _ in range(3):
        guard.begin()
        (work / ".envrc").write_text("x" * 5000)
        (action,) = guard.end()
        assert not action.why
        assert Path(action.kept_in).is_relative_to(state / "quarantine")
    guard.close()


def test_without_a_quarantine_it_is_set_aside(state: Path, work: Path) -> None:
    actions: list[Action] = []
    (state / "quarantine").write_text("in the way, as a full disk would be")
    with guarding(state, work, actions):
        (work / ".envrc").write_text("evil")
    (state / "quarantine").unlink()
    with guarding(state, work, actions):
        (state / "aside").write_text("the same")
        (work / ".npmrc").write_text("evil")
    assert [one.action for one in actions] == ["removed", "removed"]
    assert [Path(one.kept_in).read_text() for one in actions] == ["evil", "evil"]
    assert {Path(one.kept_in).parent for one in actions} == {work.parent}


def test_what_changes_while_it_is_copied_stays(
    state: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = copying.sync

    def saved_meanwhile(fd: int) -> None:
        synced(fd)
        (top,) = work.parent.glob(".nono-put-away-*")
        with (top / "tasks.json").open("r+") as file:
            file.write("mine")
        (top / "inner" / "new").write_text("mine too")

    monkeypatch.setattr(copying, "sync", saved_meanwhile)
    actions: list[Action] = []
    with guarding(state, work, actions):
        plant(work)
    (action,) = actions
    (top,) = work.parent.glob(".nono-put-away-*")
    assert str(top) in action.why
    left = {str(path.relative_to(top)) for path in top.rglob("*")}
    assert left == {"tasks.json", "inner", "inner/new"}
    assert (top / "tasks.json").read_text() == "mine" + "a" * 4996
    assert (Path(action.kept_in) / "tasks.json").read_text() == "a" * 5000


def test_set_aside_in_its_own_directory_it_is_nothing_that_runs(
    state: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the workspace is a mount, nothing can be renamed to the directory above."""
    monkeypatch.setattr(aside, "_above", lambda _origin, _parent: None)
    monkeypatch.setattr(copying, "BYTES_MAX", 0)
    (work / ".git" / "hooks").mkdir(parents=True)
    actions: list[Action] = []
    with guarding(state, work, actions):
        (work / ".git" / "hooks" / "pre-commit").write_text("evil")
        (work / ".envrc").write_text("evil")
    assert [Path(one.kept_in).parent for one in actions] == [work, work / ".git" / "hooks"]
    assert all(Path(one.kept_in).name.endswith(".sample") for one in actions)
    again: list[Action] = []
    with guarding(state, work, again):
        (work / "file").touch()
    assert again == []


def test_the_directory_above_is_of_what_was_granted(tmp_path: Path) -> None:
    """A worker that may write around the grant can't have it lead elsewhere."""
    (tmp_path / "a" / "work" / "sub").mkdir(parents=True)
    parent = os.open(tmp_path / "a" / "work" / "sub", os.O_RDONLY)
    origin = Origin(str(tmp_path / "a" / "work"), ("sub",), ".envrc")
    try:
        above = aside._above(origin, parent)  # noqa: SLF001
        assert above is not None
        assert os.path.samestat(os.fstat(above), (tmp_path / "a").stat())
        os.close(above)
        (tmp_path / "a" / "work").rename(tmp_path / "elsewhere")
        (tmp_path / "a" / "work").symlink_to(tmp_path / "elsewhere")
        assert aside._above(origin, parent) is None  # noqa: SLF001
    finally:
        os.close(parent)


KILLED = """
    import json, os, posix, shutil, signal, sys
    from pathlib import Path
    from nono_mcp.guard import aside
    from nono_mcp.guard.guard import Guard
    def plant():
        (work / ".vscode" / "inner").mkdir(parents=True)
        (work / ".vscode" / "tasks.json").write_text("text")
        (work / ".vscode" / "inner" / "link").symlink_to("nowhere")

    state, work, above = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "above"
    if not above:
        aside._above = lambda origin, parent: None
    CHANGING = (
        "rename", "unlink", "rmdir", "mkdir", "mknod", "symlink", "link", "pwrite", "ftruncate",
        "fchmod", "utime", "fsync", "open"
    )

    def killing(at):
        count = 0

        def wrapped(function):
            def call(*arguments, **named):
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)
            return call

        for name in CHANGING:
            changing = getattr(os, name)
            for module in (os, posix):
                setattr(module, name, wrapped(changing))

    def guard():
        one = Guard(state)
        one.settle([(str(work), None)], ())
        return one

    def killed(at):
        child = os.fork()
        if not child:
            try:
                one = guard()
                one.begin()
                plant()
                killing(at)
                one.end()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), status
        return status != 0

    def whole(place):
        return [p for p in place.rglob("tasks.json")]

    at, found = 1, set()
    while killed(at):
        places = [*whole(work.parent), *whole(Path(state))]
        assert places, at
        one = guard()
        actions = [*one.begin(), *one.end()]
        one.close()
        assert list(work.iterdir()) == [] and list(work.parent.iterdir()) == [work], at
        assert not os.path.exists(f"{state}/aside"), at
        (top,) = Path(state).rglob(".vscode")
        assert len(list(top.rglob("*"))) == 3, at
        assert (top / "tasks.json").read_text() == "text", at
        told_of = [(one.action, one.kept_in) for one in actions]
        assert told_of in ([("removed", str(top))], []), (at, told_of)
        found.add(len(told_of))
        shutil.rmtree(f"{state}/quarantine")
        at += 1
    print(json.dumps([at, sorted(found)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["above", "own"])
def test_killed_at_any_step_it_is_whole_and_the_next_one_finishes(
    state: Path, work: Path, where: str
) -> None:
    words = [str(state), str(work), where]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    steps, told_counts = json.loads(done.stdout)
    assert steps > 25
    assert told_counts == [0, 1]


def test_a_call_gets_at_nothing_that_is_aside(
    bench: Bench, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BYTES_MAX", 0)
    request = bench.request
    monkeypatch.setattr(
        bench, "request", lambda **files: request(**files).replace(state_dir=str(state))
    )
    attack = """
        cat ../.nono-put-away-* && exit 1
        for one in ../.nono-put-away-*; do
            [ -e "$one" ] || continue
            echo x > "$one"
            mv "$one" .envrc && exit 1
        done
        true
    """
    found = bench.run("echo mine > .envrc", attack)
    assert found == ["removed .envrc"]
    (left,) = bench.root.glob(".nono-put-away-*")
    assert left.read_text() == "mine\n"
    assert [path.name for path in bench.workspace.iterdir()] == []


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Return what a server says that it puts away; it's where that leads by now."""
    place = tmp_path / "quarantine"
    place.mkdir(0o700)
    (place / "tasks.json").touch()
    record = tmp_path / "aside" / "record"
    record.parent.mkdir(0o700)
    record.touch(0o600)
    record.write_text(json.dumps([str(tmp_path), [], "tasks.json", "aside.sample", str(place)]))
    return record


def test_what_a_server_that_lives_puts_away_is_left_to_it(record: Path) -> None:
    with record.open() as held:
        fcntl.flock(held.fileno(), fcntl.LOCK_EX)
        assert aside.finish(str(record.parent)) == ()
        assert record.exists()
    assert [one.action for one in aside.finish(str(record.parent))] == ["removed"]
    assert not record.parent.exists()


def test_what_was_put_away_since_it_was_looked_for_is_told_once(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(fd: int, how: int) -> None:
        record.unlink()
        flock(fd, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", ended)
    assert aside.finish(str(record.parent)) == ()
