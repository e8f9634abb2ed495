"""After a rollback everything is as it was, whatever was done: a table of deeds.

Each deed is done to one workspace; then the snapshot of before is restored, and the rollback is
undone, and both are compared with what eyes of our own saw.
"""

import os
import shutil
import stat
from pathlib import Path

import pytest

from nono_sandbox import scratch
from tests.snapshots.deeds import DEEDS, populate
from tests.snapshots.repositories import GIT_DEEDS, git, populate_repositories, told
from tests.snapshots.state import Place, seen


@pytest.fixture
def populated(place: Place) -> Place:
    populate(place.workspace)
    return place


@pytest.mark.claim("undo.exact")
@pytest.mark.parametrize("name", DEEDS)
def test_what_was_done_is_undone_and_the_undoing_too(populated: Place, name: str) -> None:
    workspace = populated.workspace
    before = seen(workspace)
    others = {path: path.lstat().st_ino for path in workspace.iterdir()}
    with populated.open() as snapshots:
        taken = snapshots.take("auto")
        DEEDS[name](workspace)
        mode = stat.S_IMODE(workspace.stat().st_mode)
        workspace.chmod(mode | 0o700)
        done = closed_modes(workspace)
        workspace.chmod(mode)
        plan = snapshots.plan(taken.id)
        assert not plan.nothing
        assert plan.target_root == taken.root
        outcome = snapshots.restore(plan)
        assert outcome.verified, outcome.conflicts
        assert (outcome.conflicts, outcome.kept, outcome.unprotected) == ((), (), ())
        assert outcome.root == taken.root
        assert outcome.restored_count + outcome.removed_count > 0
        assert seen(workspace) == before
        assert snapshots.plan(taken.id).nothing
        unchanged = ("crlf.txt", "fifo", "attr", "sticky", "readonly")
        changed = {change.path for change in plan.difference.changes}
        for each in unchanged:
            if os.fsencode(each) not in changed:
                assert (workspace / each).lstat().st_ino == others[workspace / each]
        undone = snapshots.restore(snapshots.plan(outcome.safety.id))
        assert undone.verified, undone.conflicts
        workspace.chmod(mode | 0o700)
        assert closed_modes(workspace) == done
        workspace.chmod(stat.S_IRWXU)
    assert [path.name for path in populated.base.iterdir()].count("workspace") == 1
    assert len(list(populated.base.iterdir())) == 2


def closed_modes(workspace: Path) -> dict[bytes, tuple[object, ...]]:
    """Return what is to be seen, opening for a moment what is closed to its owner."""
    closed: list[tuple[Path, int, int]] = []
    pending = [workspace]
    while pending:
        for path in pending.pop().iterdir():
            if path.is_symlink() or path.is_fifo():
                continue
            status = path.stat()
            need = 0o500 if path.is_dir() else 0o400
            if status.st_mode & need != need:
                closed.append((path, stat.S_IMODE(status.st_mode), status.st_mtime_ns))
                path.chmod(status.st_mode | need)
            if path.is_dir():
                pending.append(path)
    found = seen(workspace)
    for path, mode, _ in reversed(closed):
        relative = os.fsencode(path.relative_to(workspace))
        path.chmod(mode)
        first, *rest = found[relative]
        found[relative] = (stat.S_IFMT(int(str(first))) | mode, *rest)
    del found[b"."]
    return found


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("repositories")
    populate_repositories(base / "workspace", base)
    return base / "workspace"


@pytest.mark.claim("undo.exact")
@pytest.mark.parametrize("name", GIT_DEEDS)
def test_repositories_come_back_with_all_that_was_uncommitted(
    place: Place, repositories: Path, name: str
) -> None:
    workspace = place.workspace
    shutil.copytree(repositories, workspace, symlinks=True, dirs_exist_ok=True)
    git(workspace / "project", "worktree", "repair", "../worktree")
    # To ask writes the index, where the times in it aren't those of the files.
    answers = told(workspace)
    before = seen(workspace)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        GIT_DEEDS[name](workspace)
        done = seen(workspace)
        assert done != before
        outcome = snapshots.restore(snapshots.plan(taken.id))
        assert outcome.verified, outcome.conflicts
        assert seen(workspace) == before
        assert told(workspace) == answers
        assert snapshots.restore(snapshots.plan(outcome.safety.id)).verified
        assert seen(workspace) == done


@pytest.mark.claim("undo.exact")
@pytest.mark.linux  # with an attribute, of which Python has no words for macOS's
def test_what_lies_beyond_the_longest_path_comes_back(place: Place) -> None:
    names = [f"{number:03}{'d' * 200}" for number in range(40)]
    assert len("/".join(names)) > os.pathconf(place.workspace, "PC_PATH_MAX")

    def inmost() -> int:
        fd = os.open(place.workspace, os.O_RDONLY)
        for name in names:
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        return fd

    def described() -> list[object]:
        fd = inmost()
        found: list[object] = []
        for name in sorted(os.listdir(fd)):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            found.append((name, status.st_mode, status.st_mtime_ns, status.st_size))
        with open(os.open("file", os.O_RDONLY, dir_fd=fd), "rb") as file:
            found.append((file.read(), os.getxattr(file.fileno(), "user.note")))
        found += [os.readlink("link", dir_fd=fd), os.stat(fd).st_mtime_ns]
        os.close(fd)
        return found

    fd = os.open(place.workspace, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, 0o4750, dir_fd=fd), "wb") as file:
        file.write(b"deep")
        os.setxattr(file.fileno(), "user.note", b"1")
    os.symlink("nowhere", "link", dir_fd=fd)
    os.mkdir("empty", dir_fd=fd)
    os.close(fd)
    before = described()
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        scratch.remove(str(place.workspace / names[0]))
        assert not (place.workspace / names[0]).exists()
        outcome = snapshots.restore(snapshots.plan(taken.id))
        assert outcome.verified, outcome.conflicts
        assert described() == before
        fd = inmost()
        os.unlink("link", dir_fd=fd)
        os.rename("file", "empty/file", src_dir_fd=fd, dst_dir_fd=fd)
        os.close(fd)
        assert snapshots.restore(snapshots.plan(taken.id)).verified
        assert described() == before
    # pytest's own removal can't.
    scratch.remove(str(place.workspace / names[0]))
