"""Files: what no grant names can't be opened, and what a grant lets be read can't be changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import NAMESPACES, READ, WRITE, Denial
from nono_sandbox.errors import ConfinementError

if TYPE_CHECKING:
    from tests.sandbox.conftest import Confine, Sandbox, Yard

# Masks and read-only mounts are made in a mount namespace; Landlock knows no such thing.
with_mounts = pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
without_mounts = pytest.mark.parametrize("tier", ["landlock"], indirect=True)


@pytest.mark.claim("fs.deny-by-default")
def test_what_no_grant_names_is_read_by_no_path(sandbox: Sandbox, yard: Yard) -> None:
    (yard.workspace / "before").symlink_to(yard.outside / "secret")
    outcome = sandbox.attack(
        """
        secret, workspace = ARGUMENTS
        outside = os.path.dirname(secret)
        attempt("its own", lambda: read(secret))
        attempt("a link that was there", lambda: read("before"))
        os.symlink(secret, "after")
        attempt("a link made here", lambda: read("after"))
        os.symlink(outside, "directory")
        attempt("beneath a link", lambda: read("directory/secret"))
        attempt("a parent's parent", lambda: read("../outside/secret"))
        attempt("cwd's parent", lambda: read("/proc/self/cwd/../outside/secret"))
        attempt("this process's root", lambda: read("/proc/self/root" + secret))
        attempt("this thread's root", lambda: read("/proc/thread-self/root" + secret))
        attempt("the lane's root", lambda: read(f"/proc/{os.getppid()}/root" + secret))
        attempt("the lane's cwd", lambda: read(f"/proc/{os.getppid()}/cwd/../" + secret))
        attempt("many slashes", lambda: read("//" + secret.replace("/", "//./")))
        attempt("a listing", lambda: say("names", os.listdir(outside)))
        attempt("from a thread", lambda: in_thread(lambda: read(secret)))
        attempt("to execute", lambda: os.execv(outside + "/program", ["program"]))
        attempt("a truncation", lambda: os.truncate(secret, 0))
        """,
        yard.outside / "secret",
        yard.workspace,
    )
    assert outcome.done == []
    assert yard.secret not in outcome.text


@pytest.mark.claim("fs.deny-by-default")
def test_what_no_grant_names_is_read_by_no_descriptor(sandbox: Sandbox, yard: Yard) -> None:
    outcome = sandbox.attack(
        """
        secret, reading = ARGUMENTS
        outside, name = os.path.split(secret)
        def through(path, flags, act):
            fd = os.open(path, flags)
            try:
                act(fd)
            finally:
                os.close(fd)
        def reopen(fd):
            read(f"/proc/self/fd/{fd}")
        def beneath(fd):
            os.read(os.open(name, os.O_RDONLY, dir_fd=fd), 1)
        def beneath_root(fd):
            os.read(os.open(secret.lstrip("/"), os.O_RDONLY, dir_fd=fd), 1)
        def upward(fd):
            os.read(os.open("../" * 40 + secret, os.O_RDONLY, dir_fd=fd), 1)
        def changed_directory(fd):
            os.fchdir(fd)
            os.read(os.open(name, os.O_RDONLY), 1)
        attempt("O_PATH, opened again", lambda: through(secret, os.O_PATH, reopen))
        attempt("O_PATH of its directory", lambda: through(outside, os.O_PATH, beneath))
        attempt("O_PATH of the root", lambda: through("/", os.O_PATH, beneath_root))
        attempt("upward from a grant", lambda: through(reading, os.O_RDONLY, upward))
        attempt("fchdir", lambda: through(outside, os.O_PATH, changed_directory))
        def executed(fd):
            syscall("execveat", fd, "", 0, 0, AT_EMPTY_PATH)
        attempt("execveat", lambda: through(outside + "/program", os.O_PATH, executed))
        handle = ctypes.create_string_buffer(128 + 8)
        handle[0:4] = (128).to_bytes(4, sys.byteorder)
        mount = ctypes.c_int()
        attempt("a handle of it", lambda: syscall(
            "name_to_handle_at", AT_FDCWD, secret, handle, ctypes.byref(mount), 0))
        def by_handle(fd):
            # An ext4 handle of inode 2, the root of the file system this directory is on.
            made = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + (2).to_bytes(8, "little")
            syscall("open_by_handle_at", fd, made, os.O_RDONLY)
        attempt("a handle's file", lambda: through(reading, os.O_RDONLY, by_handle))
        """,
        yard.outside / "secret",
        yard.reading,
    )
    assert outcome.done == []
    assert yard.secret not in outcome.text


@pytest.mark.claim("fs.deny-by-default")
def test_a_name_made_for_it_inside_the_workspace_doesnt_open_it(
    sandbox: Sandbox, yard: Yard
) -> None:
    before = yard.seen(yard.outside)
    outcome = sandbox.attack(
        """
        secret, = ARGUMENTS
        outside = os.path.dirname(secret)
        attempt("a hard link", lambda: os.link(secret, "hard"))
        def link_descriptor():
            fd = os.open(secret, os.O_PATH)
            syscall("linkat", fd, "", AT_FDCWD, "by-descriptor", AT_EMPTY_PATH)
        attempt("a hard link to a descriptor", link_descriptor)
        def link_magic():
            fd = os.open(secret, os.O_PATH)
            os.link(f"/proc/self/fd/{fd}", "by-proc", follow_symlinks=True)
        attempt("a hard link by way of /proc", link_magic)
        attempt("a rename into it", lambda: os.rename(secret, "renamed"))
        attempt("a rename of its directory", lambda: os.rename(outside, "directory"))
        attempt("an exchange", lambda: syscall(
            "renameat2", AT_FDCWD, secret, AT_FDCWD, "notes", RENAME_EXCHANGE))
        attempt("an exchange of directories", lambda: syscall(
            "renameat2", AT_FDCWD, outside, AT_FDCWD, "sub", RENAME_EXCHANGE))
        attempt("a bind", lambda: syscall("mount", outside, "sub", 0, 4096, 0))
        attempt("a clone of the mount", lambda: syscall("open_tree", AT_FDCWD, outside, 1))
        for name in ("hard", "by-descriptor", "by-proc", "renamed", "directory/secret", "notes",
                     "sub/secret"):
            attempt("reading " + name, lambda: read(name))
        """,
        yard.outside / "secret",
    )
    assert set(outcome.done) == {"reading notes"}
    assert yard.secret not in outcome.text
    assert yard.seen(yard.outside) == before


@pytest.mark.claim("fs.deny-by-default")
def test_nothing_is_made_or_changed_outside_the_grants(sandbox: Sandbox, yard: Yard) -> None:
    before = yard.seen(yard.outside)
    outcome = sandbox.attack(
        """
        secret, = ARGUMENTS
        outside = os.path.dirname(secret)
        attempt("write", lambda: write(secret))
        attempt("append", lambda: write(secret, os.O_APPEND))
        attempt("create", lambda: write(outside + "/new"))
        attempt("truncate", lambda: os.truncate(secret, 0))
        attempt("unlink", lambda: os.unlink(secret))
        attempt("mkdir", lambda: os.mkdir(outside + "/directory"))
        attempt("rmdir", lambda: os.rmdir(outside + "/sub"))
        attempt("symlink", lambda: os.symlink("x", outside + "/symlink"))
        attempt("mkfifo", lambda: os.mkfifo(outside + "/fifo"))
        attempt("mknod", lambda: os.mknod(outside + "/node"))
        attempt("hard link out", lambda: os.link("notes", outside + "/hard"))
        attempt("rename out", lambda: os.rename("notes", outside + "/renamed"))
        attempt("rename a directory out", lambda: os.rename("sub", outside + "/directory"))
        attempt("exchange", lambda: syscall(
            "renameat2", AT_FDCWD, "notes", AT_FDCWD, secret, RENAME_EXCHANGE))
        def unnamed():
            fd = os.open(".", os.O_TMPFILE | os.O_WRONLY)
            os.link(f"/proc/self/fd/{fd}", outside + "/unnamed", follow_symlinks=True)
        attempt("name an unnamed file there", unnamed)
        attempt("an unnamed file there", lambda: os.open(outside, os.O_TMPFILE | os.O_WRONLY))
        os.symlink(outside + "/new", "dangling")
        attempt("create through a link", lambda: write("dangling"))
        """,
        yard.outside / "secret",
    )
    assert outcome.done == []
    assert yard.seen(yard.outside) == before
    assert (yard.workspace / "notes").read_text() == "as they were"


@pytest.mark.claim("fs.read-only")
def test_a_read_grant_lets_nothing_be_changed(sandbox: Sandbox, yard: Yard) -> None:
    before = yard.seen(yard.reading)
    outcome = sandbox.attack(
        """
        reading, = ARGUMENTS
        kept = reading + "/kept"
        read(kept)
        held = os.open(kept, os.O_RDONLY)
        attempt("write", lambda: write(kept))
        attempt("append", lambda: write(kept, os.O_APPEND))
        attempt("open to truncate", lambda: os.open(kept, os.O_RDONLY | os.O_TRUNC))
        attempt("truncate", lambda: os.truncate(kept, 0))
        attempt("truncate what is open", lambda: os.ftruncate(held, 0))
        attempt("fallocate", lambda: syscall("fallocate", held, 3, 0, 4))
        attempt("write to what is open", lambda: os.write(held, b"spoilt"))
        attempt("open it again", lambda: write(f"/proc/self/fd/{held}"))
        attempt("open it again by /dev", lambda: write(f"/dev/fd/{held}"))
        attempt("unlink", lambda: os.unlink(kept))
        attempt("create", lambda: write(reading + "/new"))
        attempt("mkdir", lambda: os.mkdir(reading + "/directory"))
        attempt("rmdir", lambda: os.rmdir(reading + "/sub"))
        attempt("symlink", lambda: os.symlink("x", reading + "/symlink"))
        attempt("mkfifo", lambda: os.mkfifo(reading + "/fifo"))
        attempt("rename within", lambda: os.rename(kept, reading + "/renamed"))
        attempt("rename out of it", lambda: os.rename(kept, "renamed"))
        attempt("rename into it", lambda: os.rename("notes", kept))
        attempt("exchange", lambda: syscall(
            "renameat2", AT_FDCWD, "notes", AT_FDCWD, kept, RENAME_EXCHANGE))
        attempt("exchange of directories", lambda: syscall(
            "renameat2", AT_FDCWD, "sub", AT_FDCWD, reading + "/sub", RENAME_EXCHANGE))
        attempt("a whiteout", lambda: syscall(
            "renameat2", AT_FDCWD, kept, AT_FDCWD, reading + "/white", 4))
        attempt("a writable hard link", lambda: os.link(kept, "hard"))
        attempt("writing to that", lambda: write("hard", 0))
        attempt("the same by descriptor", lambda: syscall(
            "linkat", held, "", AT_FDCWD, "hard", AT_EMPTY_PATH))
        attempt("writing to this", lambda: write("hard", 0))
        attempt("from a thread", lambda: in_thread(lambda: write(kept)))
        attempt("map it shared and write", lambda: __import__("mmap").mmap(held, 4))
        """,
        yard.reading,
    )
    assert outcome.done == []
    assert outcome.said[f"content of {yard.reading}/kept"] == "as it was"
    assert yard.seen(yard.reading) == before


@pytest.mark.linux  # macOS makes no hard links
def test_what_may_be_written_is_moved_between_directories(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        attempt("rename", lambda: os.rename("notes", "sub/moved"))
        attempt("link", lambda: os.link("sub/moved", "linked"))
        """
    )
    assert outcome.done == ["rename", "link"]


@pytest.mark.claim("fs.read-only")
def test_a_read_grant_beneath_a_write_grant_of_the_same_file_system_gives_no_more(
    confine: Confine, yard: Yard
) -> None:
    """A file can be moved from where it is merely read only if it could be changed there."""
    kept = yard.workspace.parent / "other"
    kept.mkdir()
    (kept / "file").write_text("as it was")
    outcome = confine(yard.granted(kept, READ)).attack(
        """
        kept, = ARGUMENTS
        attempt("rename the file", lambda: os.rename(kept + "/file", "file"))
        attempt("rename the directory", lambda: os.rename(kept, "moved"))
        attempt("link the file", lambda: os.link(kept + "/file", "file"))
        """,
        kept,
    )
    assert outcome.done == []
    assert (kept / "file").stat().st_nlink == 1


METADATA = """
    import ctypes
    def utimensat(*arguments):
        syscall("utimensat", *arguments, 0)
    file_attr = (ctypes.c_uint64 * 5)()
    for path in ARGUMENTS:
        there = os.path.exists(path)
        mode = os.stat(path).st_mode & 0o777 if there else 0o600
        mode ^= 0 if path.startswith("/dev") else 0o20
        attempt("chmod " + path, lambda: os.chmod(path, mode))
        attempt("fchmodat " + path, lambda: syscall("fchmodat", AT_FDCWD, path, mode))
        attempt("fchmodat2 " + path, lambda: syscall("fchmodat2", AT_FDCWD, path, mode, 0))
        attempt("chown " + path, lambda: os.chown(path, os.getuid(), os.getgid()))
        attempt("lchown " + path, lambda: os.lchown(path, os.getuid(), os.getgid()))
        attempt("utime " + path, lambda: os.utime(path))
        attempt("utimensat " + path, lambda: utimensat(AT_FDCWD, path, 0))
        attempt("O_PATH, utimensat " + path, lambda: syscall(
            "utimensat", os.open(path, os.O_PATH), "", 0, AT_EMPTY_PATH))
        attempt("O_PATH, chmod " + path, lambda: os.chmod(
            f"/proc/self/fd/{os.open(path, os.O_PATH)}", mode))
        def opened(act):
            fd = os.open(path, os.O_RDONLY)
            try:
                act(fd)
            finally:
                os.close(fd)
        attempt("fchmod " + path, lambda: opened(lambda fd: os.fchmod(fd, mode)))
        attempt("fchown " + path, lambda: opened(
            lambda fd: os.fchown(fd, os.getuid(), os.getgid())))
        attempt("futimens " + path, lambda: opened(lambda fd: utimensat(fd, 0, 0)))
        attempt("setxattr " + path, lambda: os.setxattr(path, "user.a", b"1"))
        attempt("fsetxattr " + path, lambda: opened(lambda fd: os.setxattr(fd, "user.a", b"1")))
        attempt("removexattr " + path, lambda: os.removexattr(path, "user.kept"))
        attempt("setxattrat " + path, lambda: syscall(
            "setxattrat", AT_FDCWD, path, 0, b"user.a", (ctypes.c_uint64 * 2)(), 16))
        attempt("file_setattr " + path, lambda: syscall(
            "file_setattr", AT_FDCWD, path, file_attr, ctypes.sizeof(file_attr), 0))
        attempt("FS_IOC_SETFLAGS " + path, lambda: opened(
            lambda fd: syscall("ioctl", fd, 0x40086602, (ctypes.c_long * 1)(0x80))))
        attempt("FS_IOC_FSSETXATTR " + path, lambda: opened(
            lambda fd: syscall("ioctl", fd, 0x401C5820, (ctypes.c_uint32 * 7)(0x40))))
        attempt("a lease " + path, lambda: opened(
            lambda fd: syscall("fcntl", fd, 1024, 1)))
    """


@pytest.mark.linux
@pytest.mark.claim("fs.metadata")
def test_metadata_of_what_cant_be_written_cant_be_changed(
    sandbox: Sandbox, yard: Yard, tier: str
) -> None:
    os.setxattr(yard.reading / "kept", "user.kept", b"1")
    before, device = yard.seen(yard.path), Path("/dev/null").stat()
    # In the second tier these are the machine's own, and a test that fails would change them.
    own = ("/", "/dev", "/proc", "/dev/null") if tier == NAMESPACES else ()
    paths = yard.reading / "kept", yard.reading, yard.outside / "secret", yard.outside
    outcome = sandbox.attack(METADATA, *paths, *own)
    assert outcome.done == []
    assert yard.seen(yard.path) == before
    assert Path("/dev/null").stat()[:6] == device[:6]


@pytest.mark.claim("fs.denied-inside")
@with_mounts
def test_a_denied_file_has_no_other_name(confine: Confine, yard: Yard) -> None:
    denied = yard.workspace / "sub" / ".env"
    denied.write_text(yard.secret)
    sandbox = confine(denials=(Denial(str(denied)),))
    before = yard.seen(yard.workspace)
    outcome = sandbox.attack(
        """
        denied, workspace = ARGUMENTS
        attempt("its own", lambda: read(denied))
        attempt("relative", lambda: read("sub/.env"))
        attempt("by /proc/self/cwd", lambda: read("/proc/self/cwd/sub/.env"))
        attempt("by /proc/self/root", lambda: read("/proc/self/root" + denied))
        attempt("a detour", lambda: read("sub/../sub/./.env"))
        directory = os.open("sub", os.O_RDONLY)
        attempt("openat", lambda: os.read(os.open(".env", os.O_RDONLY, dir_fd=directory), 1))
        attempt("O_PATH", lambda: read(f"/proc/self/fd/{os.open(denied, os.O_PATH)}"))
        attempt("write", lambda: write(denied))
        attempt("truncate", lambda: os.truncate(denied, 0))
        attempt("unlink", lambda: os.unlink(denied))
        attempt("rename", lambda: os.rename(denied, "moved"))
        attempt("replace", lambda: os.rename("notes", denied))
        attempt("exchange", lambda: syscall(
            "renameat2", AT_FDCWD, "notes", AT_FDCWD, denied, RENAME_EXCHANGE))
        attempt("hard link", lambda: os.link(denied, "hard"))
        attempt("hard link by descriptor", lambda: syscall(
            "linkat", os.open(denied, os.O_PATH), "", AT_FDCWD, "hard", AT_EMPTY_PATH))
        attempt("chmod", lambda: os.chmod(denied, 0o644))
        attempt("umount", lambda: syscall("umount2", denied, 2))
        attempt("rmtree", lambda: __import__("shutil").rmtree("sub"))
        os.symlink("sub/.env", "symbolic")
        attempt("symlink", lambda: read("symbolic"))
        os.unlink("symbolic")
        """,
        denied,
        yard.workspace,
    )
    assert outcome.done == []
    assert yard.secret not in outcome.text
    after = yard.seen(yard.workspace)
    assert after["sub/.env"] == before["sub/.env"]
    assert after.keys() - before.keys() == set()


@pytest.mark.claim("fs.denied-inside")
@with_mounts
def test_a_denied_file_stays_denied_when_its_directory_is_renamed(
    confine: Confine, yard: Yard
) -> None:
    """Neither now nor in the next session, whose denial has the old path."""
    denied = yard.workspace / "sub" / "deep" / ".env"
    denied.parent.mkdir()
    denied.write_text(yard.secret)
    script = """
        attempt("rename the parent", lambda: os.rename("sub/deep", "sub/other"))
        attempt("rename its parent", lambda: os.rename("sub", "other"))
        attempt("exchange", lambda: syscall(
            "renameat2", AT_FDCWD, "sub", AT_FDCWD, "empty", RENAME_EXCHANGE))
        for directory, _, names in os.walk("."):
            for name in names:
                attempt("reading " + name, lambda: read(directory + "/" + name))
        """
    (yard.workspace / "empty").mkdir()
    for _ in range(2):
        outcome = confine(denials=(Denial(str(denied)),)).attack(script)
        assert "reading .env" not in outcome.done
        assert yard.secret not in outcome.text
    assert denied.read_text() == yard.secret


@pytest.mark.claim("fs.denied-inside")
@with_mounts
def test_a_denied_directory_is_closed_and_new_files_are_made_beside_it(
    confine: Confine, yard: Yard
) -> None:
    denied = yard.workspace / ".ssh"
    denied.mkdir()
    (denied / "id").write_text(yard.secret)
    sandbox = confine(denials=(Denial(str(denied)),))
    outcome = sandbox.attack(
        """
        attempt("list", lambda: say("names", os.listdir(".ssh")))
        attempt("read", lambda: read(".ssh/id"))
        attempt("stat", lambda: os.stat(".ssh/id"))
        attempt("create", lambda: write(".ssh/new"))
        attempt("rename", lambda: os.rename(".ssh", "moved"))
        attempt("rmdir", lambda: os.rmdir(".ssh"))
        attempt("chmod", lambda: os.chmod(".ssh", 0o755))
        attempt("beside", lambda: write("new"))
        """
    )
    assert outcome.done == ["beside"]
    assert sorted(path.name for path in yard.workspace.iterdir()) == [".ssh", "new", "notes", "sub"]
    assert [path.name for path in denied.iterdir()] == ["id"]


@pytest.mark.claim("fs.denied-inside")
@with_mounts
def test_a_path_denied_to_writing_alone_is_read_and_stays_as_it_is(
    confine: Confine, yard: Yard
) -> None:
    hooks = yard.workspace / ".git" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "pre-commit").write_text("true")
    (yard.workspace / ".git" / "config").write_text("[core]")
    denials = (Denial(str(hooks), WRITE), Denial(str(hooks.parent / "config"), WRITE))
    sandbox = confine(denials=denials)
    before = yard.seen(yard.workspace / ".git")
    outcome = sandbox.attack(
        """
        read(".git/config")
        read(".git/hooks/pre-commit")
        attempt("write a hook", lambda: write(".git/hooks/pre-commit"))
        attempt("add a hook", lambda: write(".git/hooks/post-commit"))
        attempt("chmod a hook", lambda: os.chmod(".git/hooks/pre-commit", 0o755))
        attempt("write the configuration", lambda: write(".git/config"))
        attempt("replace the configuration", lambda: os.rename("notes", ".git/config"))
        attempt("replace the hooks", lambda: os.rename("sub", ".git/hooks"))
        attempt("replace it all", lambda: os.rename(".git", "moved"))
        attempt("a hard link to write through", lambda: os.link(".git/config", "hard"))
        """
    )
    assert outcome.done == []
    assert yard.seen(yard.workspace / ".git") == before


@pytest.mark.claim("fs.denied-inside")
@without_mounts
def test_without_mounts_a_denial_inside_a_grant_is_refused_by_name(
    confine: Confine, yard: Yard
) -> None:
    denied = yard.workspace / "sub"
    with pytest.raises(ConfinementError, match=f"{denied} can't be denied inside the grant"):
        confine(denials=(Denial(str(denied)),))


@pytest.mark.claim("fs.deny-by-default")
def test_a_granted_file_is_granted_alone(confine: Confine, yard: Yard) -> None:
    (yard.outside / "beside").write_text("other")
    sandbox = confine(yard.granted(yard.outside / "beside", READ | WRITE))
    outcome = sandbox.attack(
        """
        outside, = ARGUMENTS
        attempt("write", lambda: write(outside + "/beside"))
        attempt("its neighbour", lambda: read(outside + "/secret"))
        attempt("the listing", lambda: say("names", os.listdir(outside)))
        attempt("unlink", lambda: os.unlink(outside + "/beside"))
        attempt("rename", lambda: os.rename(outside + "/beside", "moved"))
        """,
        yard.outside,
    )
    # In the fresh root the directory is there, with what was granted of it.
    assert outcome.done in (["write"], ["write", "the listing"])
    assert outcome.said.get("names", ["beside"]) == ["beside"]
    assert (yard.outside / "beside").read_text() == "spoilt"


@pytest.mark.linux  # macOS's has some characters refused
def test_a_grant_may_have_any_name(confine: Confine, yard: Yard) -> None:
    names = ["a b", "a\nb", "a'b\"c", "-rf", "$HOME", "\udcff\udcfe", "ü", "a\\b", "x" * 255]
    for name in names:
        (yard.outside / name).mkdir()
        (yard.outside / name / "file").write_text("as it was")
    grants = [yard.granted(yard.outside / name, READ | WRITE) for name in names]
    sandbox = confine(*grants)
    for name in names:
        outcome = sandbox.run("touch", f"{yard.outside}/{name}/{name[:200]}-made")
        assert (outcome.status, outcome.output) == (0, b"")
        assert (yard.outside / name / f"{name[:200]}-made").exists()
    outcome = sandbox.attack("attempt('read', lambda: read(ARGUMENTS[0]))", yard.outside / "secret")
    assert outcome.done == []


@pytest.mark.claim("fs.deny-by-default")
def test_a_directory_moved_out_of_its_grant_takes_nobody_along(
    sandbox: Sandbox, yard: Yard
) -> None:
    """A process whose cwd is moved to beside the secret can't step over to it."""
    inside = yard.workspace / "sub"
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(
        """
        os.chdir("sub")
        directory = os.open(".", os.O_RDONLY)
        say("ready", True)
        os.read(0, 1)
        attempt("from cwd", lambda: read("../secret"))
        attempt("from a descriptor", lambda: os.open("../secret", os.O_RDONLY, dir_fd=directory))
        attempt("by /proc", lambda: read("/proc/self/cwd/../secret"))
        attempt("a new file there", lambda: write("../new"))
        attempt("list it", lambda: os.listdir(".."))
        """,
        stdin=read_end,
    )
    os.close(read_end)
    running.wait_for("ready")
    inside.rename(yard.outside / "moved")
    os.write(write_end, b"go")
    os.close(write_end)
    outcome = running.wait()
    assert outcome.done == []
    assert yard.secret not in outcome.text
    assert not (yard.outside / "new").exists()


@pytest.mark.claim("fs.deny-by-default")
def test_standard_input_is_the_file_it_is_and_no_way_to_others(
    sandbox: Sandbox, yard: Yard
) -> None:
    """An open file of the person's, handed in to be read, can't be opened again for writing."""
    before = yard.seen(yard.outside)
    fd = os.open(yard.outside / "secret", os.O_RDONLY)
    outcome = sandbox.attack(
        """
        attempt("write", lambda: os.write(0, b"spoilt"))
        attempt("open it again", lambda: write("/proc/self/fd/0"))
        attempt("by /dev", lambda: write("/dev/stdin"))
        attempt("truncate", lambda: os.ftruncate(0, 0))
        attempt("fchmod", lambda: os.fchmod(0, 0o4777))
        attempt("fsetxattr", lambda: os.setxattr(0, "user.a", b"1"))
        attempt("hard link", lambda: syscall("linkat", 0, "", AT_FDCWD, "hard", AT_EMPTY_PATH))
        attempt("its neighbour", lambda: read("/proc/self/fd/0/../program"))
        say("handed in", os.read(0, 100).decode())
        """,
        stdin=fd,
    )
    os.close(fd)
    assert outcome.done == []
    assert outcome.said["handed in"] == yard.secret
    assert yard.seen(yard.outside) == before


@pytest.mark.claim("fs.denied-inside")
@with_mounts
def test_a_directory_as_standard_input_is_refused(confine: Confine, yard: Yard) -> None:
    """It would be a way past every mount that covers something."""
    (yard.workspace / "sub" / ".env").write_text(yard.secret)
    sandbox = confine(denials=(Denial(str(yard.workspace / "sub" / ".env")),))
    for flags in (os.O_RDONLY, os.O_PATH):
        fd = os.open(yard.workspace / "sub", flags)
        script = "say('read', os.read(os.open('.env', 0, dir_fd=0), 99).decode())"
        outcome = sandbox.begin_attack(script, stdin=fd).wait()
        os.close(fd)
        assert yard.secret not in outcome.text
        assert (outcome.status, outcome.output) == (126, b"")
        assert outcome.ended.failure is not None
        assert "directory" in outcome.ended.failure[1]


def test_a_file_made_inside_belongs_to_the_person(sandbox: Sandbox, yard: Yard) -> None:
    assert sandbox.run("sh", "-c", "umask 022; echo hi > made; mkdir d").status == 0
    status = (yard.workspace / "made").stat()
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert status.st_mode & 0o7777 == 0o644
    assert Path(yard.workspace / "d").is_dir()
