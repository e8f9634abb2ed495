"""The forbidden thing attempted, by a process that has nothing else to hold it.

As root it keeps every capability, so that whatever fails, fails because of the filter. Where
the kernel would say no anyhow, the attempt is made without a filter too, and must end otherwise.
"""

import ctypes
import errno
import fcntl
import os
import pty
import resource
import select
import shutil
import socket
import stat
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nono_sandbox.confinement import OPEN, PORTS
from nono_sandbox.seccomp import Options, base_filter, closed_network_filter
from nono_sandbox.seccomp import rows as rows_of

pytestmark = pytest.mark.linux

ARCH = os.uname().machine
Kernel = Any
Confined = Callable[..., Any]

ALONE = base_filter(Options(), ARCH)
ON_PORTS = base_filter(Options(network=PORTS), ARCH)
ONLINE = base_filter(Options(network=OPEN), ARCH)
OWN = base_filter(Options(own_network=True, own_ipc=True, own_pids=True), ARCH)

AT_FDCWD = 2**64 - 100
MSG_FASTOPEN = 0x2000_0000
TIOCSTI = 0x5412
SIGCHLD = 17
CLONE_NEWUSER = 0x1000_0000

needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None and "CI" not in os.environ, reason="no C compiler"
)
only_x86_64 = pytest.mark.skipif(ARCH != "x86_64", reason="has no such interface")

UNCONDITIONAL = sorted(
    {(name, row.answer) for row in rows_of(Options()) if not row.when for name in row.calls.split()}
    - {("socket", errno.EACCES), ("socketpair", errno.EACCES)}
)


def test_every_call_that_is_refused_outright_is_refused_by_the_kernel(
    confined: Confined, kernel: Kernel
) -> None:
    # Arguments of -1 are no good to any of them, so the attempt without a filter is harmless.
    calls = [(name, answer) for name, answer in UNCONDITIONAL if kernel.has(name)]

    def attempts() -> list[int]:
        return [kernel(name, *[2**64 - 1] * 6) for name, _ in calls]

    assert confined(attempts, ALONE) == [-answer for _, answer in calls]
    bare = confined(attempts)
    differ = [name for (name, answer), said in zip(calls, bare, strict=True) if said != -answer]
    assert len(differ) > len(calls) / 2


@only_x86_64
def test_x32_numbers_are_not_there(confined: Confined, kernel: Kernel) -> None:
    x32 = 0x4000_0000
    getpid, open_, io_uring_setup = 39, 2, 425
    assert (
        confined(
            lambda: [
                kernel(x32 + number, 0, 0, 0) for number in (getpid, open_, io_uring_setup, 520)
            ],
            OWN,
        )
        == [-errno.ENOSYS] * 4
    )


@only_x86_64
@needs_gcc
def test_int_80_reaches_nothing(confined: Confined, yard: Path) -> None:
    (yard / "old.c").write_text(
        """
        #include <stdio.h>
        static int call(int number, int a, int b, int c) {
            int result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c));
            return result;
        }
        /* getpid, umask, unshare(CLONE_NEWUSER), personality(READ_IMPLIES_EXEC) of i386 */
        int main(void) {
            printf("%d %d %d %d", call(20, 0, 0, 0), call(60, 022, 0, 0),
                   call(310, 0x10000000, 0, 0), call(136, 0x0400000, 0, 0));
        }
        """
    )
    program = yard / "old"
    subprocess.run(["gcc", "-o", program, yard / "old.c"], check=True, timeout=60)

    def old() -> list[int]:
        output = subprocess.run([program], capture_output=True, check=False, timeout=120).stdout
        return [int(word) for word in output.split()]

    assert confined(old, OWN) == [-errno.ENOSYS] * 4
    assert confined(old)[0] != -errno.ENOSYS, "this kernel has no IA-32: it proves nothing"


def plant(kernel: Kernel, yard: Path) -> None:
    """Try to leave a set-id file in *yard*, in every way there is."""
    at = AT_FDCWD
    for mode in (0o6755, 0o4755, 0o2755, 0x1_0000 | 0o4755, 0xDEAD << 32 | 0o6755):
        name = f"{mode:o}"

        def path(way: str, name: str = name) -> ctypes.c_char_p:
            return ctypes.c_char_p(os.fsencode(yard / f"{way}-{name}"))

        def made(way: str, path: Callable[[str], ctypes.c_char_p] = path) -> ctypes.c_char_p:
            Path(os.fsdecode(path(way).value or b"")).write_text("#!/bin/sh\n")
            return path(way)

        kernel("fchmodat", at, made("fchmodat"), mode)
        fd = os.open(os.fsdecode(made("fchmod").value or b""), os.O_RDWR)
        kernel("fchmod", fd, mode)
        os.close(fd)
        kernel("openat", at, path("openat"), os.O_CREAT | os.O_WRONLY, mode)
        kernel("mknodat", at, path("mknodat"), stat.S_IFREG | mode, 0)
        kernel("mkdirat", at, path("mkdirat"), mode)
        kernel("fchmodat2", at, made("fchmodat2"), mode, 0)
        how = struct.pack("=QQQ", os.O_CREAT | os.O_WRONLY, mode & 0o7777, 0)
        kernel("openat2", at, path("openat2"), ctypes.c_char_p(how), len(how))
        fd = kernel(
            "openat", at, ctypes.c_char_p(os.fsencode(yard)), os.O_TMPFILE | os.O_RDWR, mode
        )
        if fd >= 0:
            source = ctypes.c_char_p(b"/proc/self/fd/%d" % fd)
            kernel("linkat", at, source, at, path("tmpfile"), 0x400)
            os.close(fd)
        if kernel.has("chmod"):
            kernel("chmod", made("chmod"), mode)
            kernel("open", path("open"), os.O_CREAT | os.O_WRONLY, mode)
            kernel("creat", path("creat"), mode)
            kernel("mknod", path("mknod"), stat.S_IFREG | mode, 0)
            kernel("mkdir", path("mkdir"), mode)


def planted(yard: Path) -> set[str]:
    """Return the ways in which something set-id came into *yard*, seen from outside."""
    return {
        path.name.split("-")[0]
        for path in yard.iterdir()
        if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    }


def test_set_id_bits_cannot_be_planted(confined: Confined, kernel: Kernel, yard: Path) -> None:
    (yard / "held").mkdir(mode=0o777)
    (yard / "held").chmod(0o777)
    confined(lambda: plant(kernel, yard / "held"), OWN)
    assert list((yard / "held").iterdir()), "nothing was made, so nothing was tried"
    assert planted(yard / "held") == set()

    (yard / "bare").mkdir()
    (yard / "bare").chmod(0o777)
    confined(lambda: plant(kernel, yard / "bare"))
    ways = {"fchmodat", "fchmod", "openat", "mknodat", "openat2", "tmpfile"}
    assert planted(yard / "bare") >= ways


def test_modes_without_set_id_bits_go_through(confined: Confined, yard: Path) -> None:
    def ordinary() -> None:
        path = yard / "file"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o1644))
        path.chmod(0o755)
        (yard / "sticky").mkdir(mode=0o1777)
        os.mkfifo(yard / "fifo", 0o644)
        # An open that makes nothing, with what happened to be in the register.
        os.close(os.open(path, os.O_RDONLY, 0o6755))

    confined(ordinary, OWN)
    assert stat.S_IMODE((yard / "file").stat().st_mode) == 0o755
    assert stat.S_ISFIFO((yard / "fifo").stat().st_mode)


def test_devices_cannot_be_made(confined: Confined, kernel: Kernel, yard: Path) -> None:
    whiteout = ctypes.c_char_p(os.fsencode(yard / "whiteout"))
    block = ctypes.c_char_p(os.fsencode(yard / "block"))

    def attempts() -> list[int]:
        said = [
            kernel("mknodat", AT_FDCWD, whiteout, stat.S_IFCHR | 0o644, 0),
            kernel("mknodat", AT_FDCWD, block, stat.S_IFBLK | 0o666, os.makedev(254, 0)),
        ]
        if kernel.has("mknod"):
            said.append(kernel("mknod", whiteout, 0x1_0000 | stat.S_IFCHR | 0o644, 0))
        return said

    assert set(confined(attempts, OWN)) == {-errno.EPERM}
    assert list(yard.iterdir()) == []
    assert confined(attempts)[0] == 0


def test_attributes_beside_the_mode_stay(confined: Confined, kernel: Kernel, yard: Path) -> None:
    path = yard / "file"
    path.write_text("")
    path.chmod(0o666)
    name = ctypes.c_char_p(os.fsencode(path))
    key, value = ctypes.c_char_p(b"user.nono"), ctypes.c_char_p(b"x")

    def attempts() -> list[int]:
        with path.open() as reading:
            return [
                kernel("setxattr", name, key, value, 1, 0),
                kernel("lsetxattr", name, key, value, 1, 0),
                kernel("fsetxattr", reading.fileno(), key, value, 1, 0),
                kernel("removexattr", name, key),
                kernel("fremovexattr", reading.fileno(), key),
            ]

    assert confined(attempts, OWN) == [-errno.EOPNOTSUPP] * 5
    assert os.listxattr(path) == []


def test_inode_flags_and_leases_stay(confined: Confined, kernel: Kernel, yard: Path) -> None:
    (yard / "file").write_text("")
    (yard / "file").chmod(0o666)
    get_flags, set_flags = 0x8008_6601, 0x4008_6602
    nodump = struct.pack("=q", 0x40)

    def attempts() -> list[int]:
        with (yard / "file").open() as reading:
            fd = reading.fileno()
            flags = ctypes.create_string_buffer(nodump)
            return [
                kernel("ioctl", fd, set_flags, flags),
                kernel("ioctl", fd, 0xDEAD << 32 | set_flags, flags),
                kernel("fcntl", fd, 1024, fcntl.F_RDLCK),
                kernel("fcntl", fd, 0xDEAD << 32 | 1024, fcntl.F_RDLCK),
                # Neighbours: asking for flags, and locks.
                min(0, kernel("ioctl", fd, get_flags, flags)) in (0, -errno.ENOTTY),
                kernel("flock", fd, fcntl.LOCK_EX),
            ]

    assert confined(attempts, OWN) == [*[-errno.EPERM] * 4, True, 0]


def test_no_snapshot_holds_what_is_hidden(confined: Confined, kernel: Kernel, yard: Path) -> None:
    create, create_v2, subvolume, destroy, bcachefs = (
        0x5000_9401,
        0x5000_9417,
        0x5000_940E,
        0x5000_940F,
        0x4020_BC10,
    )
    tunnel = 0x4004_54CA

    def attempts() -> list[int]:
        fd = os.open(yard, os.O_RDONLY)
        arguments = ctypes.create_string_buffer(4096)
        return [
            kernel("ioctl", fd, command, arguments)
            for command in (create, create_v2, subvolume, destroy, bcachefs, tunnel)
        ]

    assert confined(attempts, OWN) == [-errno.EPERM] * 6
    assert -errno.EPERM not in confined(attempts)


def inject(kernel: Kernel, slave: int) -> list[int]:
    """As its session's leader, make *slave* the terminal and type into it."""
    fcntl.ioctl(slave, 0x540E, 0)  # TIOCSCTTY
    letter = ctypes.c_char_p(b"!")
    return [
        kernel("ioctl", slave, TIOCSTI, letter),
        kernel("ioctl", slave, 0xDEAD << 32 | TIOCSTI, letter),
        kernel("ioctl", slave, 0x541C, ctypes.c_char_p(b"\x03")),  # TIOCLINUX
        kernel("ioctl", slave, 0x5423, ctypes.byref(ctypes.c_int(0))),  # TIOCSETD
    ]


def typed(slave: int) -> bytes:
    return os.read(slave, 100) if select.select([slave], [], [], 0)[0] else b""


def test_nothing_is_typed_into_the_terminal_it_was_given(
    confined: Confined, kernel: Kernel
) -> None:
    for programs, expected in (((OWN,), b""), ((), b"!!")):
        master, slave = pty.openpty()
        # Not canonical, so that what was typed can be read at once.
        settings = termios.tcgetattr(slave)
        settings[3] &= ~2
        termios.tcsetattr(slave, 0, settings)
        said = confined(lambda slave=slave: inject(kernel, slave), *programs)
        if programs:
            assert said == [-errno.EPERM] * 4
        arrived = typed(slave)
        # A kernel without legacy_tiocsti lets only CAP_SYS_ADMIN type.
        assert arrived == expected or (not programs and -errno.EIO in said)
        os.close(master)
        os.close(slave)


def test_namespaces_cannot_be_made(confined: Confined, kernel: Kernel) -> None:
    def attempts() -> list[int]:
        flags = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000]
        return [
            *(kernel("clone", flag | SIGCHLD, 0, 0, 0, 0) for flag in [*flags, 0x4000_0000]),
            kernel("clone", 0xDEAD << 32 | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0),
            kernel("unshare", CLONE_NEWUSER),
            kernel("unshare", 0),
            kernel("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0),
        ]

    assert confined(attempts, OWN) == [-errno.EPERM] * 11


def test_processes_and_threads_can_be_made(confined: Confined, kernel: Kernel) -> None:
    def ordinary() -> list[int]:
        ran: list[int] = []
        thread = threading.Thread(target=lambda: ran.append(1))
        thread.start()
        thread.join()
        pid = kernel("clone", SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            os._exit(7)
        ran.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        ran.append(subprocess.run(["/bin/true"], check=False, timeout=120).returncode)
        return ran

    assert confined(ordinary, OWN) == [1, 7, 0]


def test_a_listener_is_refused_and_a_further_filter_is_not(
    confined: Confined, kernel: Kernel
) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    def attempts() -> list[int]:
        allow = struct.pack("=HBBI", 6, 0, 0, 0x7FFF_0000)
        program = ctypes.byref(Program(1, allow))
        return [
            kernel("seccomp", 1, 8, program),
            kernel("seccomp", 1, 0xDEAD << 32 | 8, program),
            kernel("seccomp", 0xDEAD << 32 | 1, 8, program),
            kernel("seccomp", 1, 0, program),
        ]

    assert confined(attempts, OWN) == [-errno.EPERM, -errno.EPERM, -errno.EPERM, 0]


def test_personalities(confined: Confined, kernel: Kernel) -> None:
    read_implies_exec, no_randomize, query = 0x0040_0000, 0x0004_0000, 0xFFFF_FFFF
    assert confined(
        lambda: [
            kernel("personality", read_implies_exec),
            kernel("personality", 0xDEAD << 32 | 8),
            kernel("personality", query),
            kernel("personality", no_randomize),
            kernel("personality", query),
        ],
        OWN,
    ) == [-errno.EPERM, -errno.EPERM, 0, 0, no_randomize]


@pytest.fixture
def other(uid: int) -> Iterator[int]:
    """A process of *uid* outside the sandbox, for nobody to miss."""
    who: dict[str, Any] = (
        {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with subprocess.Popen(["/bin/sleep", "600"], **who) as process:
        yield process.pid
        process.kill()


def test_other_processes_are_out_of_reach(confined: Confined, kernel: Kernel, other: int) -> None:
    limit = ctypes.create_string_buffer(struct.pack("=QQ", 100, 100))
    old = ctypes.create_string_buffer(16)
    nofile = resource.RLIMIT_NOFILE

    def attempts() -> list[int]:
        pair, _ = socket.socketpair()
        cpus = ctypes.create_string_buffer(b"\xff" * 128)
        return [
            kernel("prlimit64", other, nofile, limit, old),
            kernel("sched_setaffinity", other, 128, cpus),
            kernel("setpriority", 0, other, 19),
            kernel("ioprio_set", 1, other, 3 << 13),
            kernel("ptrace", 0x4206, other, 0, 0),  # PTRACE_SEIZE
            kernel("process_vm_readv", other, 0, 0, 0, 0, 0),
            kernel("fcntl", pair.fileno(), fcntl.F_SETOWN, other),
            kernel("ioctl", pair.fileno(), 0x8901, ctypes.byref(ctypes.c_int(other))),
        ]

    assert confined(attempts, ALONE) == [-errno.EPERM] * 8
    assert -errno.EPERM not in confined(attempts)


def test_all_processes_of_a_user_are_out_of_reach(confined: Confined, kernel: Kernel) -> None:
    def attempts() -> list[int]:
        if os.geteuid() == 0:
            # Should the filter fail, nobody else's processes are to suffer.
            os.setuid(61234)
        return [kernel("setpriority", 2, 0, 19), kernel("ioprio_set", 3, 0, 3 << 13)]

    assert confined(attempts, ALONE) == [-errno.EPERM] * 2
    assert confined(attempts, OWN) == [-errno.EPERM] * 2
    assert confined(attempts)[0] == 0


def test_process_1_is_out_of_reach_in_its_own_namespace(confined: Confined, kernel: Kernel) -> None:
    # Here it is the machine's, and root gives it what it has already.
    nofile = resource.RLIMIT_NOFILE
    known = resource.prlimit(1 if os.geteuid() == 0 else 0, nofile)
    limits = ctypes.create_string_buffer(struct.pack("=qq", *known))
    mask = sum(1 << cpu for cpu in os.sched_getaffinity(1)).to_bytes(128, "little")
    cpus = ctypes.create_string_buffer(mask)
    priority = os.getpriority(os.PRIO_PROCESS, 1)

    def attempts() -> list[int]:
        return [
            kernel("prlimit64", 1, nofile, limits, 0),
            kernel("sched_setaffinity", 1, 128, cpus),
            kernel("setpriority", 0, 1, priority),
            kernel("ioprio_set", 1, 1, 0),
        ]

    assert confined(attempts, OWN) == [-errno.EPERM] * 4


def test_a_process_has_its_own_self_in_hand(confined: Confined, kernel: Kernel) -> None:
    def ordinary() -> list[int]:
        cpus = ctypes.create_string_buffer(b"\xff" * 128)
        old = ctypes.create_string_buffer(16)
        return [
            kernel("prlimit64", 0, resource.RLIMIT_CORE, 0, old),
            kernel("prlimit64", os.getpid(), resource.RLIMIT_CORE, 0, old),
            kernel("prlimit64", 0, resource.RLIMIT_CORE, old, 0),
            kernel("sched_setaffinity", 0, 128, cpus),
            kernel("setpriority", 0, 0, 19),
            kernel("ioprio_set", 1, 0, 3 << 13),
        ]

    assert confined(ordinary, ALONE) == [0] * 6


def test_shared_memory_of_the_machine(confined: Confined, kernel: Kernel) -> None:
    ipc_creat, ipc_rmid = 0o1000, 0

    def attempts() -> int:
        found: int = kernel("shmget", 0, 4096, ipc_creat | 0o600)
        if found >= 0:
            kernel("shmctl", found, ipc_rmid, 0)
        return min(found, 0)

    assert confined(attempts, ALONE) == -errno.EPERM
    assert confined(attempts, OWN) == 0


def sockets_made(kernel: Kernel) -> dict[str, int]:
    """Return for each kind of socket 0, if it can be made, or why not."""
    kinds = {
        "unix stream": (1, 1, 0),
        "unix dgram": (1, 2, 0),
        "tcp": (2, 1, 0),
        "tcp6": (10, 0x80801, 6),
        "udp": (2, 2, 17),
        "mptcp": (2, 1, 262),
        "mptcp6": (10, 1, 262),
        "mptcp, dressed": (0xDEAD << 32 | 2, 0xDEAD << 32 | 1, 0xDEAD << 32 | 262),
        "sctp": (2, 5, 132),
        "udplite": (2, 2, 136),
        "ping": (2, 2, 1),
        "raw": (2, 3, 255),
        "old packet": (2, 10, 768),
        "packet": (17, 3, 768),
        "vsock": (40, 1, 0),
        "alg": (38, 5, 0),
        "route": (16, 3, 0),
        "audit": (16, 3, 9),
        "uevent": (16, 2, 15),
        "generic": (16, 3, 16),
    }
    return {kind: min(kernel("socket", *words), 0) for kind, words in kinds.items()}


@pytest.mark.parametrize(
    ("program", "made"),
    [
        (ALONE, set()),
        (base_filter(Options(unix_sockets=True), ARCH), {"unix stream", "unix dgram"}),
        (ON_PORTS, {"tcp", "tcp6"}),
        (ONLINE, {"tcp", "tcp6", "udp", "route"}),
        (OWN, {"unix stream", "unix dgram", "tcp", "tcp6", "udp", "route"}),
    ],
    ids=["closed", "unix", "ports", "open", "own"],
)
def test_sockets_of_each_network(
    confined: Confined, kernel: Kernel, program: bytes, made: set[str]
) -> None:
    said = confined(lambda: sockets_made(kernel), program)
    assert said == {kind: 0 if kind in made else -errno.EACCES for kind in said}


def test_a_call_can_give_up_its_network(confined: Confined, kernel: Kernel) -> None:
    def both() -> tuple[dict[str, int], int]:
        left, right = socket.socketpair()
        left.sendall(b"x")
        return sockets_made(kernel), len(right.recv(1))

    said, received = confined(both, OWN, closed_network_filter(ARCH))
    assert {kind for kind, answer in said.items() if answer == 0} == {"unix stream", "unix dgram"}
    assert received == 1


def fast_open(kernel: Kernel, port: int) -> list[int]:
    """Send data to *port* of loopback, never calling connect()."""
    address = struct.pack("=H", 2) + struct.pack("!H4s8x", port, bytes([127, 0, 0, 1]))
    name, data = ctypes.create_string_buffer(address), ctypes.create_string_buffer(b"smuggled")

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))

    class Message(ctypes.Structure):
        _fields_ = (
            ("name", ctypes.c_void_p),
            ("namelen", ctypes.c_int),
            ("iov", ctypes.c_void_p),
            ("iovlen", ctypes.c_size_t),
            ("control", ctypes.c_void_p),
            ("controllen", ctypes.c_size_t),
            ("flags", ctypes.c_int),
            ("length", ctypes.c_uint),
        )

    vector = Vector(ctypes.addressof(data), 8)
    message = Message(ctypes.addressof(name), 16, ctypes.addressof(vector), 1, None, 0, 0, 0)
    said = []
    for flags in (MSG_FASTOPEN, 0xDEAD << 32 | MSG_FASTOPEN | 0x4000):
        for call, *args in (
            ("sendto", data, 8, flags, name, 16),
            ("sendmsg", ctypes.byref(message), flags),
            ("sendmmsg", ctypes.byref(message), 1, flags),
        ):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                said.append(kernel(call, client.fileno(), *args))
    return said


def test_no_data_leaves_without_connect(confined: Confined, kernel: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        assert confined(lambda: fast_open(kernel, port), ON_PORTS) == [-errno.EPERM] * 6
        with pytest.raises(BlockingIOError):
            server.accept()

        assert confined(lambda: fast_open(kernel, port))[0] > 0
        assert select.select([server], [], [], 5)[0]
        server.accept()[0].close()


def test_sending_otherwise_works(confined: Confined) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def ordinary() -> int:
            with socket.socket() as client:
                client.connect(("127.0.0.1", port))
                client.send(b"a", socket.MSG_NOSIGNAL)
                return client.sendmsg([b"b"], [], socket.MSG_DONTWAIT)

        assert confined(ordinary, ON_PORTS) == 1


def test_no_port_is_listened_at_without_a_grant(confined: Confined, kernel: Kernel) -> None:
    def attempt() -> int:
        with socket.socket() as server:
            said: int = kernel("listen", server.fileno(), 1)
            return said

    assert confined(attempt, ON_PORTS) == -errno.EACCES
    assert confined(attempt, base_filter(Options(network=PORTS, binds=True), ARCH)) == 0
    assert confined(attempt, OWN) == 0


def test_no_upper_layer_is_put_on_tcp(confined: Confined, kernel: Kernel) -> None:
    def attempts() -> list[int]:
        with socket.socket() as client:
            fd = client.fileno()
            one = ctypes.byref(ctypes.c_int(1))
            return [
                kernel("setsockopt", fd, 6, 31, ctypes.c_char_p(b"smc"), 4),
                kernel("setsockopt", fd, 0xDEAD << 32 | 6, 31, ctypes.c_char_p(b"smc"), 4),
                kernel("setsockopt", fd, socket.IPPROTO_TCP, socket.TCP_NODELAY, one, 4),
            ]

    assert confined(attempts, ON_PORTS) == [-errno.ENOENT, -errno.ENOENT, 0]
