"""Privilege: a worker has none, gets none, and plants none."""

from __future__ import annotations

import ctypes
import os
import platform
import pty
import signal
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import NAMESPACES, READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Confine, Sandbox, Yard

SET_ID = stat.S_ISUID | stat.S_ISGID


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_there_is_no_capability_and_no_way_to_one(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        syscall("capget", header, data)
        say("sets", list(data))
        say("bounding", [n for n in range(64) if libc.prctl(23, n, 0, 0, 0) == 1])
        say("ambient", [n for n in range(64) if libc.prctl(47, 1, n, 0, 0) == 1])
        say("no_new_privs", libc.prctl(39, 0, 0, 0, 0))
        say("seccomp", libc.prctl(21, 0, 0, 0, 0))
        full = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
        attempt("capset", lambda: syscall("capset", header, full))
        attempt("raise an ambient one", lambda: checked(libc.prctl(47, 2, 21, 0, 0)))
        attempt("undo no_new_privs", lambda: checked(libc.prctl(38, 0, 0, 0, 0)))
        attempt("securebits", lambda: checked(libc.prctl(28, 0, 0, 0, 0)))
        attempt("strict seccomp off", lambda: checked(libc.prctl(22, 0, 0, 0, 0)))
        """
    )
    assert outcome.done == []
    assert outcome.said["sets"] == [0] * 6
    assert outcome.said["ambient"] == []
    assert (outcome.said["no_new_privs"], outcome.said["seccomp"]) == (1, 2)
    # An ordinary user has none to give up; no_new_privs keeps a program from getting any.
    own = os.geteuid() != 0 and sandbox.tier != NAMESPACES
    assert own or outcome.said["bounding"] == []


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_nobody_else_can_be_become(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        other = 12345
        attempt("setuid", lambda: os.setuid(other))
        attempt("setgid", lambda: os.setgid(other))
        attempt("setresuid", lambda: os.setresuid(other, other, other))
        libc.setfsuid(other)
        say("setfsuid", "done" if libc.setfsuid(-1) == other else "EPERM")
        attempt("setgroups", lambda: os.setgroups([0, other]))
        attempt("give a file away", lambda: os.chown("notes", other, other))
        attempt("renice", lambda: os.nice(-5))
        attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5)))
        attempt("a higher limit", lambda: syscall(
            "prlimit64", 0, 4, (ctypes.c_uint64 * 2)(1 << 30, 1 << 30), 0))
        """
    )
    assert outcome.done == []


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
@pytest.mark.skipif(not Path("/usr/bin/su").exists(), reason="no set-uid program at hand")
def test_a_set_uid_program_runs_as_whoever_runs_it(sandbox: Sandbox) -> None:
    """su, as an ordinary user, finds itself without the right to read a password."""
    outcome = sandbox.run("su", "-c", "echo became", "nobody")
    assert outcome.status != 0
    assert "became" not in outcome.text


NAMESPACE_FLAGS = {
    "mount": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x80,
}


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_no_namespace_is_made_or_joined(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        for name, flag in ARGUMENTS[0].items():
            attempt("unshare " + name, lambda: syscall("unshare", flag))
            attempt("unshare user and " + name, lambda: syscall("unshare", flag | 0x10000000))
            attempt("unshare, high bits " + name, lambda: syscall("unshare", 1 << 32 | flag))
            def cloned(call, *arguments):
                pid = syscall(call, *arguments)
                pid or os._exit(0)
                os.waitpid(pid, 0)
            if name != "time":  # to clone it is an exit signal
                attempt("clone " + name, lambda: cloned("clone", flag | 17, 0, 0, 0, 0))
            args = (ctypes.c_uint64 * 11)(flag, 0, 0, 0, 17)
            attempt("clone3 " + name, lambda: cloned("clone3", args, ctypes.sizeof(args)))
        for name in ("user", "mnt", "pid", "net"):
            attempt("setns " + name, lambda: syscall(
                "setns", os.open(f"/proc/self/ns/{name}", os.O_RDONLY), 0))
        attempt("setns by pidfd", lambda: syscall("setns", os.pidfd_open(os.getpid()), 0x10000000))
        attempt("from a thread", lambda: in_thread(lambda: syscall("unshare", 0x10000000)))
        """,
        NAMESPACE_FLAGS,
    )
    assert outcome.done == []


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_no_mount_is_made_changed_or_listed(sandbox: Sandbox, yard: Yard) -> None:
    before = Path("/proc/self/mountinfo").read_bytes()
    outcome = sandbox.attack(
        """
        workspace, reading = ARGUMENTS
        none = 0
        attempt("tmpfs", lambda: syscall("mount", "none", "sub", "tmpfs", 0, 0))
        attempt("bind", lambda: syscall("mount", reading, "sub", none, 4096, 0))
        attempt("writable", lambda: syscall("mount", none, reading, none, 32 | 4096, 0))
        attempt("everything writable", lambda: syscall("mount", none, "/", none, 32, 0))
        attempt("shared", lambda: syscall("mount", none, "/", none, 1 << 20 | 16384, 0))
        attempt("move", lambda: syscall("mount", workspace, "sub", none, 8192, 0))
        attempt("proc", lambda: syscall("mount", "proc", "sub", "proc", 0, 0))
        attempt("sysfs", lambda: syscall("mount", "sysfs", "sub", "sysfs", 0, 0))
        for path in (workspace, reading, "/", "/proc", "/dev", "/usr", "/tmp"):
            attempt("umount " + path, lambda: syscall("umount2", path, 2))
        attempt("pivot_root", lambda: syscall("pivot_root", ".", "."))
        attempt("chroot", lambda: os.chroot("."))
        attempt("open_tree", lambda: syscall("open_tree", -100, reading, 1))
        attempt("open_tree_attr", lambda: syscall("open_tree_attr", -100, reading, 1, 0, 0))
        attempt("fsopen", lambda: syscall("fsopen", "tmpfs", 0))
        attempt("fspick", lambda: syscall("fspick", -100, "/", 0))
        writable = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
        attempt("mount_setattr", lambda: syscall(
            "mount_setattr", -100, reading, 0x8000, writable, 32))
        attempt("move_mount", lambda: syscall("move_mount", -100, reading, -100, "sub", 0))
        ids = (ctypes.c_uint64 * 64)()
        request = (ctypes.c_uint64 * 3)(24, (1 << 64) - 1, 0)
        attempt("listmount", lambda: syscall("listmount", request, ids, 64, 0))
        attempt("statmount", lambda: syscall("statmount", request, ids, 512, 0))
        """,
        yard.workspace,
        yard.reading,
    )
    assert outcome.done == []
    assert Path("/proc/self/mountinfo").read_bytes() == before


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("setid.none-planted")
def test_no_set_id_bit_is_planted(sandbox: Sandbox, yard: Yard) -> None:
    outcome = sandbox.attack(
        """
        os.umask(0)
        write("file")
        os.chmod("file", 0o755)
        fd = os.open("file", os.O_RDONLY)
        directory = os.open(".", os.O_RDONLY)
        how = lambda flags, mode: (ctypes.c_uint64 * 3)(flags, mode, 0)
        for name, bits in (("uid", 0o4755), ("gid", 0o2755), ("both", 0o6755), ("bare", 0o2000)):
            attempt("chmod " + name, lambda: os.chmod("file", bits))
            attempt("fchmod " + name, lambda: os.fchmod(fd, bits))
            attempt("fchmodat " + name, lambda: os.chmod("file", bits, dir_fd=directory))
            attempt("fchmodat2 " + name, lambda: syscall("fchmodat2", -100, "file", bits, 0))
            attempt("by /proc " + name, lambda: os.chmod(f"/proc/self/fd/{fd}", bits))
            attempt("open " + name, lambda: syscall("open", "o-" + name, 0o102, bits))
            attempt("openat " + name, lambda: os.open("oa-" + name, os.O_CREAT | os.O_RDWR, bits))
            attempt("openat2 " + name, lambda: syscall(
                "openat2", -100, "o2-" + name, how(os.O_CREAT | os.O_RDWR, bits), 24))
            attempt("creat " + name, lambda: syscall("creat", "c-" + name, bits))
            attempt("mknod " + name, lambda: os.mknod("n-" + name, bits | 0o100000))
            attempt("mkfifo " + name, lambda: os.mkfifo("f-" + name, bits))
            attempt("mkdir " + name, lambda: syscall("mkdir", "d-" + name, bits))
            attempt("mkdirat " + name, lambda: os.mkdir("da-" + name, bits, dir_fd=directory))
            attempt("high bits, fchmod " + name, lambda: syscall("fchmod", fd, 1 << 32 | bits))
            attempt("more high bits, chmod " + name, lambda: syscall(
                "chmod", "file", 0xFFFF0000 | bits))
            def unnamed():
                made = os.open(".", os.O_TMPFILE | os.O_RDWR, bits)
                os.link(f"/proc/self/fd/{made}", "t-" + name, follow_symlinks=True)
            attempt("unnamed " + name, unnamed)
            attempt("from a thread " + name, lambda: in_thread(lambda: os.chmod("file", bits)))
            def queued():
                syscall("io_uring_setup", 8, bytes(120))
            attempt("io_uring " + name, queued)
            attempt("an ACL " + name, lambda: os.setxattr(
                "file", "system.posix_acl_access", bytes((2, 0, 0, 0))))
        attempt("capabilities of a file", lambda: os.setxattr(
            "file", "security.capability", bytes.fromhex("0100000200000000" + "00" * 12)))
        for program in ("/bin/chmod 4755 file", "/usr/bin/install -m 4755 file installed",
                        "/bin/cp -p /bin/su copied", "/bin/mkdir -m 2755 md"):
            os.system(program + " 2>/dev/null")
        """
    )
    planted = {path: path.lstat().st_mode for path in yard.workspace.rglob("*")}
    assert [path.name for path, mode in planted.items() if mode & SET_ID] == []
    # chmod with bits above the mode's does what it says without them, or is refused.
    assert [name for name in outcome.done if "bits" not in name] == []
    assert [
        os.listxattr(path) for path in planted if os.listxattr(path, follow_symlinks=False)
    ] == []


@pytest.mark.claim("setid.none-planted")
def test_no_set_id_bit_is_planted_by_what_every_system_has(sandbox: Sandbox, yard: Yard) -> None:
    sandbox.attack(
        """
        os.umask(0)
        write("file")
        fd = os.open("file", os.O_RDONLY)
        directory = os.open(".", os.O_RDONLY)
        for name, bits in (("uid", 0o4755), ("gid", 0o2755), ("both", 0o6755)):
            attempt("chmod " + name, lambda: os.chmod("file", bits))
            attempt("fchmod " + name, lambda: os.fchmod(fd, bits))
            attempt("fchmodat " + name, lambda: os.chmod("file", bits, dir_fd=directory))
            attempt("from a thread " + name, lambda: in_thread(lambda: os.chmod("file", bits)))
        """
    )
    assert not (yard.workspace / "file").stat().st_mode & SET_ID


@pytest.mark.claim("setid.none-planted")
def test_no_set_id_bit_is_planted_by_making_a_file_nor_by_programs(
    sandbox: Sandbox, yard: Yard
) -> None:
    outcome = sandbox.attack(
        """
        os.umask(0)
        for name, bits in (("uid", 0o4755), ("gid", 0o2755), ("both", 0o6755)):
            attempt("open " + name, lambda: os.open("o-" + name, os.O_CREAT | os.O_RDWR, bits))
            attempt("mkfifo " + name, lambda: os.mkfifo("f-" + name, bits))
        for program in ("/bin/chmod 4755 notes", "/bin/mkdir -m 2755 md"):
            os.system(program + " 2>/dev/null")
        """
    )
    assert outcome.status == 0
    left = [path.name for path in yard.workspace.rglob("*") if path.lstat().st_mode & SET_ID]
    assert left == []


@pytest.mark.claim("setid.none-planted")
def test_no_set_id_program_is_brought_in(sandbox: Sandbox, yard: Yard) -> None:
    """Neither by a hard link to one that may be read, nor by moving it."""
    program = yard.reading / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o4755)
    outcome = sandbox.attack(
        """
        program, = ARGUMENTS
        attempt("link", lambda: os.link(program, "linked"))
        attempt("rename", lambda: os.rename(program, "renamed"))
        """,
        program,
    )
    assert outcome.done == []


@pytest.mark.linux  # on macOS root alone makes one, and stays root
@pytest.mark.claim("privilege.none")
def test_no_device_is_made(sandbox: Sandbox, yard: Yard) -> None:
    outcome = sandbox.attack(
        """
        for name, kind, major, minor in (("disk", 0o060000, 254, 0), ("memory", 0o020000, 1, 1),
                                         ("null", 0o020000, 1, 3), ("whiteout", 0o020000, 0, 0)):
            for where in (".", "/tmp", "/dev", "/dev/shm"):
                path = f"{where}/{name}"
                attempt("mknod " + path, lambda: os.mknod(
                    path, kind | 0o666, os.makedev(major, minor)))
        """
    )
    assert outcome.done == []
    assert not any(stat.S_ISBLK(p.lstat().st_mode) for p in yard.workspace.iterdir())


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_what_the_kernel_keeps_for_others_stays_closed(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        attr = ctypes.create_string_buffer(128)
        attempt("bpf", lambda: syscall("bpf", 0, attr, 48))
        attempt("bpf program", lambda: syscall("bpf", 5, attr, 48))
        attempt("perf_event_open", lambda: syscall("perf_event_open", attr, 0, -1, -1, 0))
        attempt("userfaultfd", lambda: syscall("userfaultfd", 0))
        attempt("userfaultfd, user mode", lambda: syscall("userfaultfd", 1))
        attempt("io_uring_setup", lambda: syscall("io_uring_setup", 8, attr))
        attempt("io_uring_enter", lambda: syscall("io_uring_enter", 0, 0, 0, 0, 0, 0))
        attempt("keyctl join", lambda: syscall("keyctl", 1, 0))
        attempt("keyctl of the user", lambda: syscall("keyctl", 0, -4, 0))
        attempt("keyctl of the session", lambda: syscall("keyctl", 0, -3, 0))
        attempt("keyctl search", lambda: syscall("keyctl", 10, -4, "user", "x", 0))
        attempt("add_key", lambda: syscall("add_key", "user", "nono-test", "x", 1, -4))
        attempt("request_key", lambda: syscall("request_key", "user", "nono-test", 0, -4))
        attempt("fanotify", lambda: syscall("fanotify_init", 0, 0))
        attempt("fanotify by handles", lambda: syscall("fanotify_init", 0x200, 0))
        attempt("a listener", lambda: syscall("seccomp", 1, 8, (ctypes.c_uint64 * 2)(1, 0)))
        attempt("personality", lambda: syscall("personality", 0x0400000))
        attempt("syslog", lambda: syscall("syslog", 3, attr, 128))
        attempt("syslog size", lambda: syscall("syslog", 10, 0, 0))
        attempt("swapoff", lambda: syscall("swapoff", "none"))
        attempt("sethostname", lambda: syscall("sethostname", os.uname().nodename, 0))
        attempt("acct", lambda: syscall("acct", "notes"))
        attempt("quotactl", lambda: syscall("quotactl", 0x800007 << 8, 0, 0, attr))
        attempt("iopl", lambda: syscall("iopl", 3))
        attempt("ioperm", lambda: syscall("ioperm", 0, 1, 1))
        attempt("modify_ldt", lambda: syscall("modify_ldt", 0, attr, 128))
        attempt("lookup_dcookie", lambda: syscall("lookup_dcookie", 0, attr, 128))
        attempt("vmsplice", lambda: syscall("vmsplice", os.pipe()[1], attr, 0, 0))
        for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/loop0",
                     "/dev/tty0", "/dev/console", "/dev/net/tun", "/proc/kcore", "/proc/kmsg",
                     "/proc/1/mem", "/sys/kernel/notes", "/sys/fs/cgroup"):
            attempt("open " + path, lambda: os.open(path, os.O_RDONLY))
        for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern",
                     "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe",
                     "/proc/self/uid_map", "/proc/self/oom_score_adj",
                     "/proc/self/mem", "/proc/self/comm", "/proc/self/clear_refs",
                     "/sys/kernel/uevent_helper", "/sys/power/state",
                     "/sys/fs/cgroup/cgroup.procs"):
            attempt("write " + path, lambda: os.open(path, os.O_WRONLY))
        """
    )
    assert outcome.done == []


@pytest.fixture
def machine_ipc(yard: Yard) -> Iterator[dict[str, object]]:
    """IPC objects of the machine, with the secret in them, by key, number and name."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    key = int.from_bytes(os.urandom(3), "big") + 1
    made = 0o1600
    shm, msg, sem = libc.shmget(key, 4096, made), libc.msgget(key, made), libc.semget(key, 1, made)
    queue, file = f"/nono-{key}", Path(f"/dev/shm/nono-{key}")  # noqa: S108  # the machine's
    librt = ctypes.CDLL("librt.so.1", use_errno=True)
    descriptor = librt.mq_open(queue.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    assert min(shm, msg, sem, descriptor) >= 0, os.strerror(ctypes.get_errno())
    ctypes.memmove(libc.shmat(shm, None, 0), yard.secret.encode(), len(yard.secret))
    libc.msgsnd(msg, struct.pack("@l32s", 1, yard.secret.encode()), 32, 0)
    file.write_text(yard.secret)
    yield {"key": key, "shm": shm, "msg": msg, "sem": sem, "queue": queue, "file": file.name}
    # What is gone can't be removed: each of these would fail.
    removed = [libc.shmctl(shm, 0, None), libc.msgctl(msg, 0, None), libc.semctl(sem, 0, 0)]
    removed.append(librt.mq_unlink(queue.encode()))
    os.close(descriptor)
    file.unlink()
    assert removed == [0, 0, 0, 0]


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_nothing_of_the_machines_ipc_is_reached(
    sandbox: Sandbox, yard: Yard, machine_ipc: dict[str, object]
) -> None:
    outcome = sandbox.attack(
        """
        ids = ARGUMENTS[0]
        buffer = ctypes.create_string_buffer(256)
        attempt("shm by key", lambda: syscall("shmget", ids["key"], 0, 0))
        attempt("shm by id", lambda: syscall("shmctl", ids["shm"], 2, buffer))
        attempt("attach it", lambda: syscall("shmat", ids["shm"], 0, 0))
        attempt("remove it", lambda: syscall("shmctl", ids["shm"], 0, 0))
        attempt("messages by key", lambda: syscall("msgget", ids["key"], 0))
        attempt("take a message", lambda: syscall("msgrcv", ids["msg"], buffer, 64, 0, 0o4000))
        attempt("remove the queue", lambda: syscall("msgctl", ids["msg"], 0, 0))
        attempt("semaphores by key", lambda: syscall("semget", ids["key"], 1, 0))
        attempt("remove them", lambda: syscall("semctl", ids["sem"], 0, 0, 0))
        attempt("a POSIX queue", lambda: syscall("mq_open", ids["queue"].lstrip("/"), 0, 0, 0))
        attempt("remove that", lambda: syscall("mq_unlink", ids["queue"].lstrip("/")))
        attempt("shared memory", lambda: read(f"/dev/shm/{ids['file']}"))
        """,
        machine_ipc,
    )
    assert outcome.done == []
    assert yard.secret not in outcome.text


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_no_text_is_typed_into_a_terminal_that_was_handed_in(sandbox: Sandbox) -> None:
    """What is typed there would be run by the person's own shell."""
    master, slave = pty.openpty()
    outcome = sandbox.attack(
        """
        import fcntl
        for name, number in (("TIOCSTI", 0x5412), ("TIOCSTI, high bits", 1 << 32 | 0x5412),
                             ("TIOCSTI, more bits", 0xFFFFFFFF << 32 | 0x5412),
                             ("TIOCLINUX", 0x541C), ("TIOCSETD", 0x5423),
                             ("TIOCSETD, high bits", 1 << 40 | 0x5423)):
            attempt(name, lambda: syscall("ioctl", 0, number, ctypes.byref(ctypes.c_char(b"x"))))
        attempt("take it over", lambda: fcntl.ioctl(0, 0x540E, 1))
        """,
        stdin=slave,
    )
    os.set_blocking(slave, False)
    os.write(master, b"\n")
    typed = os.read(slave, 100)
    os.close(master)
    os.close(slave)
    assert typed == b"\n"
    assert [name for name in outcome.done if name != "take it over"] == []


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_other_numberings_of_system_calls_are_closed(sandbox: Sandbox, yard: Yard) -> None:
    """x32's numbers, and i386's by `int 0x80`, would pass a filter that knows x86_64 alone."""
    if platform.machine() != "x86_64":
        outcome = sandbox.attack('attempt("bits above", lambda: raw(1 << 30 | 52, 0, 0))')
        assert outcome.done == []
        return
    outcome = sandbox.attack(
        """
        import mmap
        secret, = ARGUMENTS
        X32 = 0x40000000
        attempt("x32 chmod", lambda: raw(X32 | 90, b"notes", 0o4755))
        attempt("x32 unshare", lambda: raw(X32 | 272, 0x10000000))
        attempt("x32 socket", lambda: raw(X32 | 41, 2, 1, 0))
        attempt("x32 ptrace", lambda: raw(X32 | 521, 0, 0, 0, 0))
        attempt("x32 getpid", lambda: raw(X32 | 39))
        # mov ebx, edi; mov ecx, esi; mov eax, edx; int 0x80; ret - with rbx kept.
        code = bytes.fromhex("53 89fb 89f1 89d0 cd80 5b c3")
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(code)
        call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)(
            ctypes.addressof(ctypes.c_char.from_buffer(page)))
        # 32-bit pointers: a page below 4 GiB for the path. MAP_32BIT
        libc.mmap.restype = ctypes.c_void_p
        low = libc.mmap(None, 4096, 3, 0x62, -1, 0)
        ctypes.memmove(low, b"notes\\0", 6)
        def i386(number, first=0, second=0):
            result = call(first, second, number)
            if result < 0:
                raise OSError(-result, os.strerror(-result))
        def in_child_of_its_own(act):
            # The filter may kill whoever tries.
            pid = os.fork()
            if not pid:
                try:
                    act()
                except OSError:
                    os._exit(1)
                os._exit(0)
            if os.waitpid(pid, 0)[1]:
                raise OSError(1, "refused")
        attempt("i386 getpid", lambda: in_child_of_its_own(lambda: i386(20)))
        attempt("i386 chmod", lambda: in_child_of_its_own(lambda: i386(15, low, 0o4755)))
        attempt("i386 unshare", lambda: in_child_of_its_own(lambda: i386(310, 0x10000000)))
        attempt("i386 socketcall", lambda: in_child_of_its_own(lambda: i386(102, 1, low)))
        """,
        yard.outside / "secret",
    )
    assert outcome.done == []
    assert (yard.workspace / "notes").stat().st_mode & SET_ID == 0


@pytest.mark.claim("privilege.none")
def test_a_crash_leaves_no_core(sandbox: Sandbox, yard: Yard) -> None:
    before = {path.name for path in yard.workspace.iterdir()}
    for name in ("SIGSEGV", "SIGABRT", "SIGQUIT"):
        number = int(getattr(signal, name))
        outcome = sandbox.run("sh", "-c", f"ulimit -c unlimited; ulimit -c 100; kill -{number} $$")
        assert outcome.status == 128 + number
    assert {path.name for path in yard.workspace.iterdir()} == before
    limits = sandbox.attack('say("core", __import__("resource").getrlimit(4))')
    assert max(limits.said["core"]) <= 1


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_a_tracer_may_trace_its_own_children_and_only_where_it_was_allowed(
    confine: Confine,
) -> None:
    script = """
        pid = os.fork()
        if not pid:
            sleep_for_ever()
        def attached():
            syscall("ptrace", 16, pid, 0, 0)
            os.waitpid(pid, 0)
        attempt("attach", attached)
        """
    assert confine(ptrace=False).attack(script).done == []
    assert confine(ptrace=True).attack(script).done == ["attach"]


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
@pytest.mark.parametrize("access", [READ, READ | WRITE])
def test_with_the_whole_root_granted_the_kernels_own_files_still_cant_be_written(
    confine: Confine, yard: Yard, access: int
) -> None:
    """Through /sys and /proc/sys root would run programs outside (uevent_helper, core_pattern)."""
    places = ("/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/fs", "/sys/kernel", "/sys/power")
    paths = [str(path) for place in places for path in Path(place).glob("*") if path.is_file()]
    outcome = confine(yard.granted(Path("/"), access)).attack(
        """
        for path in ARGUMENTS:
            attempt("write " + path, lambda: os.close(os.open(path, os.O_WRONLY)))
        attempt("a device", lambda: os.open("/dev/mem", os.O_RDONLY))
        attempt("what this is", lambda: read("/etc/passwd"))
        """,
        *("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"),
        *paths,
    )
    assert outcome.done == ["what this is"]
