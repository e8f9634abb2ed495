"""Where control groups may be made, in a hierarchy that is pretended: a directory of files."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import kernel_file
from nono_sandbox.cgroups import hierarchy
from nono_sandbox.cgroups.hierarchy import KEEPER, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.linux
OWN = os.getpid()
FILES = ("cgroup.procs", "cgroup.subtree_control", "cgroup.type", *hierarchy.NEEDED)
HYBRID = "31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw"
UNIFIED = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
PART = "90 80 0:27 /a/b /mnt rw - cgroup2 cgroup2 rw"
OTHER = "24 1 0:22 / /sys rw - sysfs sysfs rw"


@pytest.mark.parametrize(
    ("membership", "mounts", "directory"),
    [
        ("0::/\n", UNIFIED, "/sys/fs/cgroup"),
        ("0::/user.slice/x.scope\n", UNIFIED, "/sys/fs/cgroup/user.slice/x.scope"),
        ("12:memory:/m\n0::/x\n", f"{OTHER}\n{HYBRID}", "/sys/fs/cgroup/unified/x"),
        ("0::/a/b/c\n", PART, "/mnt/c"),
        ("0::/a/b\n", PART, "/mnt"),
        ("0::/a/bc\n", PART, ""),
        ("0::/../x\n", UNIFIED, ""),
        ("12:memory:/m\n", UNIFIED, ""),
        ("0::/x\n", OTHER, ""),
        ("0::/x\n", UNIFIED.replace("/sys/fs/cgroup", "/a\\040b"), ""),
        ("", "", ""),
    ],
)
def test_a_groups_directory_is_where_its_hierarchy_is_mounted(
    membership: str, mounts: str, directory: str
) -> None:
    assert hierarchy.own_directory(membership, mounts) == directory


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a group that is ours, with nobody but this process in it."""
    make, remove = os.mkdir, os.rmdir

    def mkdir(path: str, mode: int = 0o777) -> None:
        make(path, mode)
        for name in FILES:
            (Path(path) / name).touch()

    def rmdir(path: str) -> None:
        for name in FILES if len([*Path(path).iterdir()]) == len(FILES) else ():
            (Path(path) / name).unlink()
        remove(path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "rmdir", rmdir)
    top = tmp_path / "own"
    mkdir(str(top))
    (top / "cgroup.controllers").write_text("cpu io memory pids\n")
    (top / "cgroup.procs").write_text(f"{OWN}\n")
    return top


def test_a_group_of_our_own_is_divided_and_we_move_down(pretended: Path) -> None:
    top = Path(hierarchy.make(str(pretended), OWN))
    assert top.parent == pretended
    assert (top / KEEPER / "cgroup.procs").read_text() == str(OWN)
    for each in (pretended, top):
        assert (each / "cgroup.subtree_control").read_text() == "+memory +pids"
    # From there on it's found by where we are.
    assert hierarchy.make(str(top / KEEPER), OWN) == str(top)


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """Return a child of this process, and a child of that."""
    script = "sleep 1000 & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        yield child.pid, grandchild
        os.kill(grandchild, signal.SIGKILL)


def test_a_single_run_moves_down_with_its_lane_and_whom_that_has_forked(
    pretended: Path, monkeypatch: pytest.MonkeyPatch, family: tuple[int, int]
) -> None:
    child, grandchild = family
    (pretended / "cgroup.procs").write_text(f"{OWN}\n{child}\n")
    procs = {str(pretended): [str(OWN), str(child)]}

    def as_the_kernel(path: str, text: str) -> None:
        group, name = os.path.split(path)
        if name == "cgroup.procs":
            # Forked just now, where its parent was.
            there = {one for members in procs.values() for one in members}
            late = {str(grandchild)} - there if text == str(child) else set()
            procs.setdefault(group, [])
            for members in procs.values():
                members[:] = [one for one in members if one != text]
            procs[group].append(text)
            procs[str(pretended)].extend(late)
            for each, members in procs.items():
                Path(each, name).write_text("".join(f"{one}\n" for one in members))

    monkeypatch.setattr(kernel_file, "write", as_the_kernel)
    top = Path(hierarchy.make(str(pretended), OWN, child))
    assert procs[str(pretended)] == []
    everybody = sorted(map(str, (OWN, *family)))
    assert sorted(procs[str(top / KEEPER)]) == everybody
    hierarchy.leave(str(pretended), OWN)
    assert sorted(procs[str(pretended)]) == everybody
    assert not top.exists()


def test_whom_no_lane_has_forked_a_single_run_leaves_where_it_is(
    pretended: Path, family: tuple[int, int]
) -> None:
    child, grandchild = family
    (pretended / "cgroup.procs").write_text(f"{OWN}\n{grandchild}\n{child}\n")
    with pytest.raises(UnavailableError, match="other programs are in"):
        hierarchy.make(str(pretended), OWN, grandchild)
    hierarchy.judge(str(pretended), OWN, child)


@pytest.mark.parametrize("unit", ["x.scope", "x.service", "x.slice", "x"])
@pytest.mark.parametrize("delegated", [True, False])
def test_what_systemd_keeps_to_itself_isnt_divided(
    pretended: Path, monkeypatch: pytest.MonkeyPatch, unit: str, *, delegated: bool
) -> None:
    directory = pretended.rename(pretended.parent / unit)
    attributes = {(str(directory), "user.delegate"): b"1"} if delegated else {}

    def getxattr(path: str, name: str) -> bytes:
        if (path, name) not in attributes:
            raise OSError(61, os.strerror(61))
        return attributes[path, name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    if delegated or unit == "x":
        hierarchy.make(str(directory), OWN)
        return
    with pytest.raises(UnavailableError, match="isn't delegated"):
        hierarchy.make(str(directory), OWN)
    assert (directory / "cgroup.procs").read_text().strip() == str(OWN)


@pytest.mark.parametrize(("says", "delegated"), [("yes", True), ("no", False), ("", False)])
def test_a_users_systemd_is_asked_about_its_units(
    pretended: Path, monkeypatch: pytest.MonkeyPatch, says: str, *, delegated: bool
) -> None:
    slices = pretended.parent / f"user@{os.geteuid()}.service" / "app.slice"
    slices.mkdir(parents=True)
    directory = pretended.rename(slices / "run-1.scope")
    systemctl = pretended.parent / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$6" = run-1.scope ] && echo {says}\n')
    systemctl.chmod(0o755)
    monkeypatch.setattr("nono_sandbox.cgroups.delegation.SYSTEMCTL", str(systemctl))
    if delegated:
        hierarchy.make(str(directory), OWN)
        return
    with pytest.raises(UnavailableError, match="isn't delegated"):
        hierarchy.make(str(directory), OWN)


def test_nobody_moves_out_of_the_root(pretended: Path) -> None:
    (pretended / "cgroup.type").unlink()
    (pretended / "cgroup.procs").write_text(f"1\n2\n{OWN}\n")
    top = Path(hierarchy.make(str(pretended), OWN))
    assert not (top / KEEPER).exists()
    assert hierarchy.make(str(pretended), OWN) == str(top)


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("cgroup.controllers", "cpu pids\n", "has no memory controller"),
        ("cgroup.controllers", "", "has no memory and no pids controller"),
        ("cgroup.procs", "own\n7\n", "other programs are in"),
        ("cgroup.procs", "own\n0\n", "other programs are in"),
    ],
)
def test_what_isnt_ours_alone_is_left_as_it_is(
    pretended: Path, file: str, text: str, why: str
) -> None:
    (pretended / file).write_text(text.replace("own", str(OWN)))
    before = sorted(pretended.iterdir())
    with pytest.raises(UnavailableError, match=why):
        hierarchy.make(str(pretended), OWN)
    assert sorted(pretended.iterdir()) == before
    assert (pretended / "cgroup.subtree_control").read_text() == ""


def test_what_may_not_be_written_isnt_ours() -> None:
    with pytest.raises(UnavailableError, match="can't be read"):
        hierarchy.judge("/proc/self", OWN)


@pytest.mark.parametrize("had", ["", "+memory"])
def test_a_kernel_without_a_limit_that_is_needed_has_no_groups(
    pretended: Path, monkeypatch: pytest.MonkeyPatch, had: str
) -> None:
    monkeypatch.setattr(hierarchy, "NEEDED", ("memory.nothing",))
    (pretended / "cgroup.subtree_control").write_text(had.strip("+"))
    with pytest.raises(UnavailableError, match="can't be divided"):
        hierarchy.make(str(pretended), OWN)
    assert (pretended / "cgroup.procs").read_text().strip() == str(OWN)
    # What was there before isn't ours to take.
    taken = (pretended / "cgroup.subtree_control").read_text()
    assert taken.startswith("-pids" if had else "-memory -pids")


def test_where_a_limit_is_missing_we_arent_killed_with_what_we_made(
    pretended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without swap has no memory.swap.max, and says so when all else has been done."""
    monkeypatch.setattr(hierarchy, "NEEDED", ("memory.nothing",))
    handed_on: dict[Path, set[str]] = {}
    where = [pretended]
    killed: list[Path] = []

    def as_the_kernel(path: str, text: str) -> None:
        group, name = Path(path).parent, Path(path).name
        if name == "cgroup.kill":
            killed.extend(one for one in where if one.is_relative_to(group))
        elif name == "cgroup.procs":
            if handed_on.get(group):
                raise OSError(16, os.strerror(16))
            where[:] = [group]
        else:
            names = {each[1:] for each in text.split()}
            within = [of for one, of in handed_on.items() if one.parent == group]
            if text.startswith("+"):
                handed_on.setdefault(group, set()).update(names)
            elif any(names & of for of in within):
                raise OSError(16, os.strerror(16))
            else:
                handed_on.get(group, set()).difference_update(names)

    monkeypatch.setattr(kernel_file, "write", as_the_kernel)
    with pytest.raises(UnavailableError, match="can't be divided"):
        hierarchy.make(str(pretended), OWN)
    assert killed == []
    assert where == [pretended]
    assert not any(handed_on.values())


def test_what_cant_be_divided_is_left_as_it_was(
    pretended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = kernel_file.write

    def busy(path: str, text: str) -> None:
        if path.endswith("subtree_control"):
            raise OSError(16, os.strerror(16))
        write(path, text)

    monkeypatch.setattr(kernel_file, "write", busy)
    with pytest.raises(UnavailableError, match="can't be divided"):
        hierarchy.make(str(pretended), OWN)
    assert (pretended / "cgroup.procs").read_text().strip() == str(OWN)
    assert [one.name for one in pretended.iterdir() if one.is_dir()] == []


@pytest.mark.parametrize(
    ("name", "procs", "goes"),
    [
        ("nono-{pid}-{other}", "", True),
        ("nono-{pid}-{began}", "", False),
        ("nono-{pid}-{other}", "0\n", False),
        ("nono-0-1", "", False),
        ("nono-x", "", False),
        ("nonono-{pid}-{other}", "", False),
    ],
)
def test_only_what_a_dead_process_of_ours_left_is_removed(
    pretended: Path, name: str, procs: str, *, goes: bool
) -> None:
    parent = os.getppid()
    began = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    left = pretended / name.format(pid=parent, began=began, other=int(began) + 1)
    os.mkdir(left)  # noqa: PTH102 - the one that is pretended
    (left / "cgroup.procs").write_text(procs)
    hierarchy.make(str(pretended), OWN)
    assert left.exists() != goes
