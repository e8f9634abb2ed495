"""Modes, owners and times: by mounts in the first tier, by another who acts in the second."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox.confinement import LANDLOCK, NAMESPACES, READ, WRITE, Narrowing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.conftest import Confine, Sandbox, Yard

without_mounts = pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)

WAYS = """
    import ctypes, socket, struct
    OLD = struct.pack("=4q", 1, 0, 1, 0)
    def forms(name, directory, path, descriptor=None):
        "Try every call there is on what they name; the mode is one that changes nothing of use."
        me = os.getuid(), os.getgid()
        attempt(name + ": chmod", lambda: syscall("chmod", path, 0o611))
        attempt(name + ": fchmodat", lambda: syscall("fchmodat", directory, path, 0o611))
        attempt(name + ": fchmodat2", lambda: syscall("fchmodat2", directory, path, 0o611, 0))
        attempt(name + ": chown", lambda: syscall("chown", path, *me))
        attempt(name + ": lchown", lambda: syscall("lchown", path, *me))
        attempt(name + ": fchownat", lambda: syscall("fchownat", directory, path, *me, 0))
        attempt(name + ": utime", lambda: syscall("utime", path, OLD))
        attempt(name + ": utimes", lambda: syscall("utimes", path, OLD))
        attempt(name + ": futimesat", lambda: syscall("futimesat", directory, path, OLD))
        attempt(name + ": utimensat", lambda: syscall("utimensat", directory, path, OLD, 0))
        attempt(name + ": now", lambda: syscall("utimensat", directory, path, 0, 0))
        if descriptor is not None:
            by_descriptor(name, descriptor)
    def by_descriptor(name, fd):
        me = os.getuid(), os.getgid()
        attempt(name + ": fchmod", lambda: syscall("fchmod", fd, 0o611))
        attempt(name + ": fchown", lambda: syscall("fchown", fd, *me))
        attempt(name + ": fchownat, empty", lambda: syscall(
            "fchownat", fd, "", *me, AT_EMPTY_PATH))
        attempt(name + ": utimensat, empty", lambda: syscall(
            "utimensat", fd, "", OLD, AT_EMPTY_PATH))
        attempt(name + ": futimens", lambda: syscall("utimensat", fd, 0, OLD, 0))
        attempt(name + ": futimesat, none", lambda: syscall("futimesat", fd, 0, OLD))
        for folder in ("/proc/self/fd", "/dev/fd", f"/proc/{os.getpid()}/fd"):
            attempt(f"{name}: chmod {folder}", lambda: os.chmod(f"{folder}/{fd}", 0o611))
    """


def ways(script: str) -> str:
    return textwrap.dedent(WAYS) + textwrap.dedent(script)


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@without_mounts
def test_who_acts_on_behalf_opens_no_directory_that_is_shut_to_the_caller(
    sandbox: Sandbox,
) -> None:
    """Nor does root without a capability."""
    outcome = sandbox.attack(
        """
        os.mkdir("shut")
        open("shut/file", "w").close()
        attempt("open", lambda: os.chmod("shut/file", 0o600))
        os.chmod("shut", 0)
        attempt("shut", lambda: os.chmod("shut/file", 0o611))
        os.chmod("shut", 0o700)
        say("mode", oct(os.stat("shut/file").st_mode & 0o777))
        """
    )
    assert outcome.said == {"open": "done", "shut": "EACCES", "mode": "0o600"}


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
def test_no_path_leads_to_the_metadata_of_what_cant_be_written(
    sandbox: Sandbox, yard: Yard
) -> None:
    before = yard.seen(yard.outside), yard.seen(yard.reading)
    outcome = sandbox.attack(
        ways(
            """
        workspace = os.getcwd()
        for folder, file in zip(ARGUMENTS, ("secret", "kept")):
            path = f"{folder}/{file}"
            name = os.path.basename(folder)
            forms(name, AT_FDCWD, path)
            forms(name + " itself", AT_FDCWD, folder)
            forms(name + ", dotted", AT_FDCWD, f"../{name}/./sub/../{file}")
            os.symlink(path, name + "-link")
            forms(name + ", a symlink", AT_FDCWD, name + "-link")
            os.symlink(folder, name + "-way")
            forms(name + ", beneath a symlink", AT_FDCWD, f"{name}-way/{file}")
            forms(name + ", by a symlink's slash", AT_FDCWD, f"{name}-way/")
            forms(name + ", by the cwd", AT_FDCWD, f"/proc/self/cwd/../{name}/{file}")
            forms(name + ", by the root", AT_FDCWD, f"/proc/self/root{path}")
            forms(name + ", by a thread's root", AT_FDCWD, f"/proc/thread-self/root{path}")
            forms(name + ", by the lane's root", AT_FDCWD, f"/proc/{os.getppid()}/root{path}")
            for flags in (os.O_PATH, os.O_PATH | os.O_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY):
                target = folder if flags & os.O_DIRECTORY else path
                try:
                    fd = os.open(target, flags)
                except OSError:
                    continue
                below = file if flags & os.O_DIRECTORY else ""
                forms(f"{name}, from {flags:o}", fd, below, fd)
                forms(f"{name}, named {flags:o}", AT_FDCWD, f"/proc/self/fd/{fd}/{below}")
            in_thread(lambda: forms(name + ", from a thread", AT_FDCWD, path))
            try:
                os.chdir(folder)
            except OSError:
                continue
            forms(name + ", from there", AT_FDCWD, file)
            forms(name + ", the cwd", AT_FDCWD, ".")
            by_descriptor(name + ", the cwd", AT_FDCWD)
            in_thread(lambda: forms(name + ", there in a thread", AT_FDCWD, file))
            os.chdir(workspace)
        """
        ),
        yard.outside,
        yard.reading,
    )
    # What is there is the symlink, and that is the worker's own.
    assert [name for name in outcome.done if not name.endswith("a symlink: lchown")] == []
    assert len(outcome.said) > 300
    assert (yard.seen(yard.outside), yard.seen(yard.reading)) == before


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
def test_no_descriptor_leads_to_the_metadata_of_what_cant_be_written(
    sandbox: Sandbox, yard: Yard
) -> None:
    before = yard.seen(yard.reading)
    outcome = sandbox.attack(
        ways(
            """
        reading, = ARGUMENTS
        path = reading + "/kept"
        fd = os.open(path, os.O_RDONLY)
        by_descriptor("read", fd)
        by_descriptor("copied", os.dup2(fd, 99))
        by_descriptor("its directory", os.open(reading, os.O_RDONLY))
        in_thread(lambda: by_descriptor("from a thread", fd))
        ours, theirs = socket.socketpair()
        socket.send_fds(ours, [b"x"], [fd])
        by_descriptor("received", socket.recv_fds(theirs, 1, 1)[1][0])
        os.waitpid(in_child(lambda: by_descriptor("in a child", fd)), 0)
        HIGH = 0xDEADBEEF << 32
        attempt("high halves", lambda: syscall("fchmod", HIGH | fd, HIGH | 0o611))
        attempt("x32", lambda: raw(0x40000000 | NUMBERS["fchmod"], fd, 0o611))
        attempt("io_uring", lambda: syscall("io_uring_setup", 8, bytes(128)))
        for linked in ("linked", "sub/linked"):
            attempt(linked, lambda: os.link(path, linked))
            attempt(linked + " by /proc", lambda: os.link(
                f"/proc/self/fd/{fd}", linked, follow_symlinks=True))
            attempt(linked + " empty", lambda: syscall(
                "linkat", fd, "", AT_FDCWD, linked, AT_EMPTY_PATH))
        attempt("moved", lambda: os.rename(path, "moved"))
        attempt("exchanged", lambda: syscall(
            "renameat2", AT_FDCWD, path, AT_FDCWD, "notes", RENAME_EXCHANGE))
        """
        ),
        yard.reading,
    )
    assert outcome.done == []
    assert yard.seen(yard.reading) == before


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
@without_mounts
def test_what_is_handed_in_keeps_its_metadata(sandbox: Sandbox, yard: Yard) -> None:
    """A file of others as standard input; as root a device, of which root is the owner."""
    paths = [yard.outside / "secret"]
    if os.geteuid() == 0:
        paths.append(yard.outside / "null")
        os.mknod(paths[-1], 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    before = yard.seen(yard.outside / "sub"), [path.stat() for path in paths]
    for path in paths:
        fd = os.open(path, os.O_RDWR)
        try:
            outcome = sandbox.attack(ways('by_descriptor("input", 0)'), stdin=fd)
        finally:
            os.close(fd)
        assert (outcome.done, len(outcome.said)) == ([], 9)
    after = [path.stat() for path in paths]
    assert [one[:7] for one in after] == [one[:7] for one in before[1]]
    assert [one.st_mtime_ns for one in after] == [one.st_mtime_ns for one in before[1]]


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
@without_mounts
def test_what_lies_nowhere_keeps_its_metadata(sandbox: Sandbox) -> None:
    """Pipes may be somebody's."""
    outcome = sandbox.attack(
        ways(
            """
        (read_end, _), one = os.pipe(), socket.socket(1)
        for fd in (1, read_end, one.fileno(), os.memfd_create("memory")):
            attempt(f"mode {fd}", lambda: os.fchmod(fd, 0o611))
            attempt(f"time {fd}", lambda: os.utime(fd, (1, 1)))
            attempt(f"owner {fd}", lambda: os.fchown(fd, os.getuid(), os.getgid()))
            attempt(f"named {fd}", lambda: os.chmod(f"/proc/self/fd/{fd}", 0o611))
        """
        )
    )
    assert set(outcome.said.values()) == {"EROFS"}
    assert len(outcome.said) == 16


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
def test_a_race_leads_to_no_metadata_outside(sandbox: Sandbox, yard: Yard) -> None:
    """A thread swaps the path in memory, a symlink, a directory and a descriptor."""
    before = yard.seen(yard.outside), yard.seen(yard.reading)
    outcome = sandbox.attack(
        ways(
            """
        outside, reading = ARGUMENTS
        os.mkdir("own")
        for file in ("secret", "kept"):
            write("own/" + file)
        own, theirs, readable = (os.fsencode(p) + b"\\0" for p in (
            "own/secret", outside + "/secret", reading + "/kept"))
        memory = ctypes.create_string_buffer(own, 4096)
        os.symlink("own", "flipping")
        os.rename("own", "there")
        os.symlink("there", "own")
        fds = [os.open("there/kept", os.O_RDONLY), os.open(reading + "/kept", os.O_RDONLY)]
        os.dup2(fds[0], 90)
        def swap():
            for text in (theirs, own, readable, own):
                ctypes.memmove(memory, text, len(text))
        def flip():
            for target in ("there", outside, reading):
                os.symlink(target, "next")
                os.rename("next", "flipping")
        def turn():
            syscall("renameat2", AT_FDCWD, "there", AT_FDCWD, "own", RENAME_EXCHANGE)
        def put():
            for fd in fds:
                os.dup2(fd, 90)
        me = os.getuid(), os.getgid()
        acts = {
            "memory": lambda: syscall("chmod", memory, 0o611),
            "memory, time": lambda: syscall("utimensat", AT_FDCWD, memory, OLD, 0),
            "memory, owner": lambda: syscall("lchown", memory, *me),
            "symlink": lambda: syscall("chmod", "flipping/secret", 0o611),
            "symlink, time": lambda: syscall("utimensat", AT_FDCWD, "flipping/kept", OLD, 0),
            "directory": lambda: syscall("chmod", "own/secret", 0o611),
            "descriptor": lambda: syscall("fchmod", 90, 0o611),
            "descriptor, time": lambda: syscall("utimensat", 90, 0, OLD, 0),
            "descriptor, named": lambda: os.chmod("/proc/self/fd/90", 0o611),
        }
        race([swap, flip, turn, put], acts, ["memory", "descriptor"])
        """
        ),
        yard.outside,
        yard.reading,
    )
    assert "done" in outcome.said["memory"]
    assert "done" in outcome.said["descriptor"]
    assert (yard.seen(yard.outside), yard.seen(yard.reading)) == before


ALLOWED = """
    results = {}
    def show(name, path):
        status = os.lstat(path)
        say(name, [oct(status.st_mode), status.st_atime_ns, status.st_mtime_ns])
    def now(path):
        return os.stat(path).st_mtime_ns > 10**18
    write("one")
    os.mkdir("folder")
    os.symlink("one", "link")
    os.symlink("gone", "dangling")
    here = os.open(".", os.O_RDONLY)
    bare = os.open("folder", os.O_PATH)
    fd, handle = os.open("one", os.O_RDONLY), os.open("one", os.O_PATH)
    me = os.getuid(), os.getgid()
    T = lambda *times: struct.pack("=4q", *times)
    NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
    HIGH = 0xDEADBEEF << 32
    calls = [
        ("chmod", "one", 0o640), ("chmod", os.getcwd() + "/one", 0o604), ("chmod", "link", 0o641),
        ("chmod", "folder", 0o750), ("chmod", "folder/", 0o755), ("chmod", "one/", 0o600),
        ("chmod", "dangling", 0o600), ("chmod", "none", 0o600), ("chmod", "", 0o600),
        ("chmod", "one", HIGH | 0o100600), ("chmod", "folder/../link", 0o1700),
        ("chmod", 0, 0o600), ("chmod", 0x10, 0o600), ("chmod", (1 << 64) - 4096, 0o600),
        ("chmod", "x" * 255, 0o600), ("chmod", "x" * 256, 0o600), ("chmod", "x/" * 2047, 0o600),
        ("chmod", "x" * 4095, 0o600), ("chmod", "x" * 4096, 0o600), ("chmod", "./" * 2046 + "one",
        0o602),
        ("fchmod", fd, 0o644), ("fchmod", HIGH | fd, HIGH | 0o640), ("fchmod", here, 0o755),
        ("fchmod", 999, 0o600), ("fchmod", -1, 0o600), ("fchmod", handle, 0o600),
        ("fchmod", bare, 0o700), ("fchmod", AT_FDCWD, 0o700),
        ("fchmodat", here, "one", 0o622), ("fchmodat", bare, "../one", 0o620),
        ("fchmodat", AT_FDCWD, "one", 0o604), ("fchmodat", 999, "one", 0o600),
        ("fchmodat", 999, os.getcwd() + "/one", 0o600), ("fchmodat", fd, "one", 0o600),
        ("fchmodat", -1, "one", 0o600), ("fchmodat", here, "link", 0o601, 0x100),
        ("fchmodat", here, "", 0o600, 0x1000), ("chmod", f"/proc/self/fd/{handle}", 0o651),
        ("chmod", f"/dev/fd/{fd}", 0o652), ("chmod", "/proc/self/fd/999", 0o600),
        ("chown", "one", *me), ("chown", "one", -1, -1), ("chown", "link", *me),
        ("chown", "dangling", *me), ("lchown", "dangling", *me), ("lchown", "link", -1, -1),
        ("lchown", "link/", *me), ("fchown", fd, *me), ("fchown", handle, *me),
        ("fchown", 999, *me), ("fchownat", here, "one", *me, 0), ("fchownat", here, "", *me, 0),
        ("fchownat", handle, "", *me, 0x1000), ("fchownat", AT_FDCWD, "", *me, 0x1000),
        ("fchownat", here, "dangling", *me, 0x100), ("fchownat", here, "dangling", *me, 0),
        ("fchownat", here, "one", *me, 0x200), ("fchownat", here, "one", *me, HIGH),
        ("fchownat", here, "one", 12345, -1, 0), ("chown", "one", -1, 12345),
        ("utime", "one", T(5, 6, 0, 0)), ("utime", "one", 0), ("utime", "one", 0x10),
        ("utimes", "one", T(7, 8, 9, 10)), ("utimes", "link", T(7, 1000000, 9, 10)),
        ("utimes", "one", T(7, -1, 9, 10)), ("utimes", "link", 0),
        ("futimesat", here, "one", T(1, 2, 3, 4)), ("futimesat", fd, 0, T(4, 3, 2, 1)),
        ("futimesat", AT_FDCWD, 0, T(4, 3, 2, 1)), ("futimesat", handle, 0, T(4, 3, 2, 1)),
        ("utimensat", here, "one", T(11, 12, 13, 14), 0), ("utimensat", here, "one", 0, 0),
        ("utimensat", here, "one", T(0, OMIT, 15, 16), 0),
        ("utimensat", here, "one", T(17, 18, 0, NOW), 0),
        ("utimensat", here, "one", T(0, OMIT, 0, OMIT), 0),
        ("utimensat", here, "one", T(1, 1000000000, 1, 1), 0),
        ("utimensat", here, "one", T(-5, 5, -6, 6), 0),
        ("utimensat", here, "link", T(21, 22, 23, 24), 0x100),
        ("utimensat", here, "dangling", T(21, 22, 23, 24), 0),
        ("utimensat", fd, 0, T(25, 26, 27, 28), 0), ("utimensat", fd, 0, T(1, 1, 1, 1), 0x100),
        ("utimensat", handle, 0, T(1, 1, 1, 1), 0), ("utimensat", AT_FDCWD, 0, T(1, 1, 1, 1), 0),
        ("utimensat", handle, "", T(29, 30, 31, 32), 0x1000), ("utimensat", here, "", 0, 0),
        ("utimensat", 999, 0, T(1, 1, 1, 1), 0), ("utimensat", here, "one", 0x10, 0),
        ("utimensat", here, "one", T(1, 1, 1, 1), 0x800), ("utimensat", here, "none", 0, 0),
    ]
    for number, (call, *arguments) in enumerate(calls):
        name = f"{number} {call} {[str(a)[:60] for a in arguments]}"
        attempt(name, lambda: syscall(call, *arguments))
        for path in ("one", "link", "folder", "."):
            status = os.lstat(path)
            times = [t if t < 10**18 else "now" for t in (status.st_atime_ns, status.st_mtime_ns)]
            say(f"{name}: {path}", [oct(status.st_mode), *times])
    os.unlink("one")
    attempt("removed", lambda: os.fchmod(fd, 0o600))
    unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR)
    attempt("unnamed", lambda: os.fchmod(unnamed, 0o610))
    say("unnamed", oct(os.fstat(unnamed).st_mode))
    os.rmdir("folder")
    attempt("a removed directory", lambda: os.chmod(f"/proc/self/fd/{bare}", 0o711))
    attempt("a thread's", lambda: in_thread(lambda: os.chmod("link2" if 0 else ".", 0o755)))
    """


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@without_mounts
def test_calls_in_the_workspace_do_as_the_kernel_does(
    sandbox: Sandbox, yard: Yard, attack_argv: Callable[..., list[str]]
) -> None:
    """The same calls, made confined and made bare by a process without a capability."""
    script = ways(ALLOWED)
    bare = yard.path / "bare"
    bare.mkdir()
    argv = attack_argv("import ctypes\n" + WITHOUT_CAPABILITIES + script)
    finished = subprocess.run(argv, cwd=bare, capture_output=True, check=True, timeout=60)
    expected = lines(finished.stdout, bare)
    found = lines(sandbox.attack(script).output, yard.workspace)
    assert [(e, f) for e, f in zip(expected, found, strict=True) if e != f] == []
    assert len(expected) > 400


WITHOUT_CAPABILITIES = """
syscall("capset", b"\\x22\\x05\\x08\\x20" + bytes(4), bytes(24))
"""


def lines(output: bytes, place: Path) -> list[Any]:
    """Return what was said where the directory that is named *place* has no name."""
    return [json.loads(line) for line in output.replace(bytes(place), b"HERE").splitlines()]


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
def test_what_a_worker_may_change_is_what_its_user_may(sandbox: Sandbox, yard: Yard) -> None:
    """Root's worker has no capability, and gains none by whoever acts for it."""
    closed = yard.workspace / "closed"
    closed.mkdir()
    (closed / "file").write_text("theirs")
    theirs = yard.workspace / "theirs"
    theirs.write_text("theirs")
    if os.geteuid() == 0:
        os.chown(theirs, 12345, 12345)
        os.chown(closed / "file", 12345, 12345)
        os.chown(closed, 12345, 12345)
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    outcome = sandbox.attack(
        """
        attempt("give away", lambda: os.chown("notes", 12345, -1))
        attempt("to another group", lambda: os.chown("notes", -1, 12345))
        attempt("in a closed directory", lambda: os.chmod("closed/file", 0o600))
        if os.getuid() == 0:
            attempt("of another's", lambda: os.chmod("theirs", 0o600))
            attempt("take", lambda: os.chown("theirs", 0, 0))
            attempt("its time", lambda: os.utime("theirs", (1, 1)))
            attempt("its directory", lambda: os.chmod("closed", 0o777))
        for bits in (0o4755, 0o2755):
            attempt(f"{bits:o}", lambda: os.chmod("notes", bits))
        """
    )
    # EINVAL: in a user namespace of its own there is no such user.
    assert set(outcome.said.values()) <= {"EPERM", "EACCES", "EINVAL"}
    closed.chmod(0o700)


@pytest.mark.claim("fs.metadata")
def test_by_the_ways_of_every_system_no_metadata_outside_changes(
    sandbox: Sandbox, yard: Yard
) -> None:
    before = yard.seen(yard.outside), yard.seen(yard.reading)
    outcome = sandbox.attack(
        """
        outside, reading = ARGUMENTS
        os.symlink(outside + "/secret", "link")
        directory = os.open(reading, os.O_RDONLY)
        held = os.open(reading + "/kept", os.O_RDONLY)
        def all_of(name, path, **by):
            attempt("mode of " + name, lambda: os.chmod(path, 0o600, **by))
            attempt("owner of " + name, lambda: os.chown(path, os.getuid(), os.getgid(), **by))
            attempt("times of " + name, lambda: os.utime(path, (1, 1), **by))
        all_of("a file outside", outside + "/secret")
        all_of("what is outside", outside)
        all_of("what a link leads to", "link")
        all_of("what may be read", reading + "/kept")
        all_of("a directory that may be read", reading)
        all_of("what is beside a descriptor", "kept", dir_fd=directory)
        attempt("mode of a descriptor", lambda: os.fchmod(held, 0o600))
        attempt("owner of a descriptor", lambda: os.fchown(held, os.getuid(), os.getgid()))
        attempt("times of a descriptor", lambda: os.utime(held, (1, 1)))
        """,
        yard.outside,
        yard.reading,
    )
    assert outcome.done == []
    assert (yard.seen(yard.outside), yard.seen(yard.reading)) == before


@pytest.mark.claim("fs.metadata")
def test_a_file_that_may_be_written_is_the_only_one_there(confine: Confine, yard: Yard) -> None:
    for name in ("granted", "beside"):
        (yard.outside / name).write_text("theirs")
    yard.outside.chmod(0o711)
    os.link(yard.outside / "beside", yard.outside / "linked")
    outcome = confine(yard.granted(yard.outside / "granted", READ | WRITE)).attack(
        """
        outside, = ARGUMENTS
        for name in ("granted", "beside", "linked", "secret"):
            attempt(name, lambda: os.chmod(f"{outside}/{name}", 0o640))
        attempt("the directory", lambda: os.chmod(outside, 0o755))
        """,
        yard.outside,
    )
    # In the first tier the directory that the file stands in is the sandbox's own.
    assert outcome.done in (["granted"], ["granted", "the directory"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in yard.outside.iterdir()}
    assert [name for name, mode in modes.items() if mode == 0o640] == ["granted"]
    assert yard.outside.stat().st_mode & 0o777 == 0o711


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
@without_mounts
def test_what_took_a_grants_place_is_no_place_to_write(sandbox: Sandbox, yard: Yard) -> None:
    attack = """
        workspace, = ARGUMENTS
        attempt("mode", lambda: os.chmod(workspace + "/notes", 0o640))
        """
    assert sandbox.attack(attack, yard.workspace, cwd="/usr").done == ["mode"]
    yard.workspace.rename(yard.path / "moved")
    yard.workspace.mkdir()
    (yard.workspace / "notes").write_text("another")
    before = yard.seen(yard.workspace)
    assert sandbox.attack(attack, yard.workspace, cwd="/usr").done == []
    assert yard.seen(yard.workspace) == before


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.claim("fs.metadata")
def test_a_call_that_gave_up_all_writes_changes_no_metadata(sandbox: Sandbox, yard: Yard) -> None:
    before = yard.seen(yard.workspace)
    outcome = sandbox.attack(
        ways('forms("own", AT_FDCWD, "notes", os.open("notes", os.O_RDONLY))'),
        narrowing=Narrowing(writes=()),
    )
    assert outcome.done == []
    assert yard.seen(yard.workspace) == before


@pytest.mark.linux  # GNU's tools
def test_everyday_tools_keep_what_they_copy(sandbox: Sandbox, yard: Yard) -> None:
    tree = yard.workspace / "tree"
    (tree / "sub").mkdir(parents=True)
    for name, mode in (("a", 0o640), ("sub/b", 0o755), ("sub/c", 0o400)):
        (tree / name).write_text(name)
        (tree / name).chmod(mode)
        os.utime(tree / name, (1_000_000, 2_000_000))
    (tree / "link").symlink_to("a")
    outcome = sandbox.run(
        "sh",
        "-ec",
        "cp -a tree copied; mkdir packed; tar cf - tree | tar xpf - -C packed;"
        "touch -d 1999-01-01 copied/a; chmod -R g+w packed; install -m 640 tree/a installed;"
        "chown -R $(id -u):$(id -g) copied; chmod u+x,o= installed; touch new",
    )
    assert (outcome.status, outcome.text) == (0, "")
    for copied in ("copied/sub", "packed/tree/sub"):
        assert (yard.workspace / copied / "c").stat().st_mtime == 2_000_000
    assert (yard.workspace / "copied/sub/c").stat().st_mode & 0o777 == 0o400
    assert (yard.workspace / "packed/tree/a").stat().st_mode & 0o777 == 0o660
    assert (yard.workspace / "installed").stat().st_mode & 0o777 == 0o740


@pytest.mark.linux  # by Linux's calls, and what acts on behalf there
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_nobody_acts_where_mounts_hold(sandbox: Sandbox) -> None:
    """In the first tier the kernel itself does it: no call of these waits for another."""
    outcome = sandbox.attack(
        """
        attempt("mode", lambda: os.chmod("notes", 0o600))
        with open("/proc/self/status") as status:
            say("filters", [line for line in status if line.startswith("Seccomp_filters")])
        """
    )
    assert outcome.done == ["mode"]


def test_a_file_tool_keeps_the_mode_of_what_it_writes(sandbox: Sandbox, yard: Yard) -> None:
    """Its worker executes nothing, so it is read in the state that its lane left it in."""
    notes = yard.workspace / "notes"
    notes.chmod(0o640)
    read_end, write_end = os.pipe()
    os.write(write_end, json.dumps({"path": str(notes), "content": "new"}).encode())
    os.close(write_end)
    outcome = sandbox.run("write_file", stdin=read_end, builtin=True)
    os.close(read_end)
    assert "error" not in json.loads(outcome.text)
    assert (notes.read_text(), notes.stat().st_mode & 0o777) == ("new", 0o640)
