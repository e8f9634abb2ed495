"""A Linux that does as a Mac does, save that nothing is confined: for tests of what lies around it.

What a Mac's Python has no names for is taken away, its few own ones are imitated, and /proc can't
be opened. `sandbox-exec` is a stand-in. All else is what runs on a Mac.

Only who imports this gets it: no variable, option or file of nono's leads here.
"""

from __future__ import annotations

import configparser
import errno
import fcntl
import importlib
import os
import platform
import posix
import resource
import select
import signal
import socket
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nono_sandbox.seatbelt.lane import Means
    from nono_sandbox.seatbelt.tree import Process
    from nono_sandbox.system import Backend

HERE = Path(__file__).parent
# What the standard library decides by the system's name, it decides before that changes.
BEFORE = (
    "asyncio", "ctypes.util", "getpass", "http.client", "http.server", "multiprocessing", "pathlib",
    "shutil", "sqlite3", "ssl", "subprocess", "tempfile", "urllib.request", "uuid", "webbrowser",
)  # fmt: skip
_OF_THE_SYSTEM = (
    "O_PATH", "O_TMPFILE", "O_NOATIME", "O_DIRECT", "O_RSYNC", "O_LARGEFILE", "pipe2",
    "memfd_create", "MFD_CLOEXEC", "pidfd_open", "P_PIDFD", "eventfd", "eventfd_read",
    "eventfd_write", "EFD_CLOEXEC", "EFD_NONBLOCK", "listxattr", "getxattr", "setxattr",
    "removexattr", "copy_file_range", "splice", "posix_fadvise", "posix_fallocate",
    "fdatasync", "sched_getaffinity", "sched_setaffinity", "sched_getscheduler",
    "getresuid", "getresgid", "setresuid", "setresgid", "getrandom", "waitid",
)  # fmt: skip
LINUX_ONLY = {
    os: _OF_THE_SYSTEM,
    posix: _OF_THE_SYSTEM,
    select: ("epoll", "POLLRDHUP"),
    socket: (
        "SOCK_CLOEXEC", "SOCK_NONBLOCK", "MSG_CMSG_CLOEXEC", "AF_NETLINK", "AF_PACKET", "AF_VSOCK",
        "AF_ALG", "SO_PEERCRED", "SO_DOMAIN", "SO_PROTOCOL", "SO_PASSCRED", "SO_BINDTODEVICE",
    ),
    signal: ("sigtimedwait", "sigwaitinfo", "SIGRTMIN", "SIGRTMAX", "SIGPWR", "SIGSTKFLT"),
    resource: ("prlimit", "RLIMIT_NICE", "RLIMIT_MSGQUEUE", "RLIMIT_SIGPENDING"),
}  # fmt: skip
"""Names that CPython has on Linux and not on macOS, where this package or its tests know them."""
EVENT_ONLY = 0o10000000
"""O_EVTONLY, with the value of what it is imitated by: O_PATH."""
MAKING = {"os.mkdir": 0, "os.rename": 1, "os.symlink": 1, "os.link": 1}
"""Which argument names what an event makes."""
NAME_OF = 50
"""F_GETPATH."""


class Queue:
    """As much of a kqueue as is used: one process, and its end."""

    def __init__(self) -> None:
        self._fd = -1

    def control(self, changes: list[Any], _: int) -> None:
        (pid,) = changes
        assert _pidfd_open is not None
        self._fd = _pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


# A real Mac collects no tests from here, and does import this.
_pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
_readlink = os.readlink
_fcntl = fcntl.fcntl
_wait4 = os.wait4


def become(*before: str) -> None:
    """Make this process, for good, one of a Mac, with the modules *before* as Linux has them."""
    for name in before:
        importlib.import_module(name)
    for module, names in LINUX_ONLY.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    of_the_system: dict[str, object] = {
        "O_EVTONLY": EVENT_ONLY,
        "O_SYMLINK": os.O_NOFOLLOW,
        "readlink": _read_link,
        "wait4": _collect,
    }
    imitated: dict[Any, dict[str, object]] = {
        os: of_the_system,
        posix: of_the_system,
        fcntl: {"F_GETPATH": NAME_OF, "fcntl": _control},
        select: {
            "kqueue": Queue,
            "kevent": lambda pid, *_, **__: pid,
            **dict.fromkeys(("KQ_FILTER_PROC", "KQ_EV_ADD", "KQ_NOTE_EXIT", "KQ_FILTER_TIMER"), 0),
        },
        platform: {"mac_ver": lambda: ("15.6.1", ("", "", ""), "arm64")},
        sys: {"platform": "darwin"},
    }
    for module, values in imitated.items():
        for name, value in values.items():
            setattr(module, name, value)
    sys.addaudithook(_without_proc)
    sys.meta_path.insert(0, LinuxOnly())
    imitate_renaming()
    if "shutil" in sys.modules:
        # It looked for attributes that can be copied when it was imported.
        setattr(sys.modules["shutil"], "_copyxattr", lambda *_, **__: None)  # noqa: B010 - private


def imitate_renaming() -> None:
    """Have renameatx_np(2), with its own flags, which Linux's renameat2(2) does as well."""
    from nono_sandbox import _foreign

    call = _foreign.Library.call
    ours = {2: 2, 4: 1}

    def called(library: _foreign.Library, name: str, *arguments: Any) -> int:  # noqa: ANN401
        if name == "renameatx_np":
            *names, flags = arguments
            return call(library, "renameat2", *names, _foreign.UInt(ours[flags.value]))
        return call(library, name, *arguments)

    _foreign.Library.call = called  # type: ignore[method-assign, assignment]


class LinuxOnly:
    """Finds no module that is Linux's alone, and says so."""

    def __init__(self) -> None:
        self._names = linux_only()

    def find_spec(self, name: str, *_: object) -> None:
        if is_left_out(name, self._names):
            raise ImportError(f"{name} is Linux's, and this does as a Mac does")


def linux_only() -> set[str]:
    """Return the modules that the check of types leaves out for macOS."""
    checked = configparser.ConfigParser()
    checked.read(HERE.parent.parent / ".ci" / "mypy-macos.ini", encoding="utf-8")
    left_out = [section for section in checked if "nono_sandbox" in section]
    return {name for section in left_out for name in section.removeprefix("mypy-").split(",")}


def is_left_out(name: str, patterns: set[str]) -> bool:
    """Tell whether *name* is a module, or in a package, that one of *patterns* names."""
    named = {pattern for pattern in patterns if not pattern.endswith(".*")}
    packages = tuple(pattern.removesuffix("*") for pattern in patterns - named)
    return name in named or f"{name}.".startswith(packages)


def _without_proc(event: str, arguments: tuple[object, ...]) -> None:
    """Know no /proc, and make nothing whose name isn't UTF-8."""
    if event in ("open", "os.listdir", "os.scandir", "os.chmod"):
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
        if path.startswith("/proc/") and not path.endswith("/stat"):
            raise FileNotFoundError(2, "a Mac has no /proc", path)
    if event == "open":
        made = arguments[0] if isinstance(arguments[2], int) and arguments[2] & os.O_CREAT else ""
    else:
        made = arguments[MAKING[event]] if event in MAKING else ""
    if isinstance(made, str | bytes) and not _is_utf8(made):
        raise OSError(errno.EILSEQ, "a Mac's names are UTF-8", made)


def _is_utf8(name: str | bytes) -> bool:
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read_link(path: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as os.readlink
    if os.fsdecode(path).startswith("/proc/"):
        raise FileNotFoundError(2, "a Mac has no /proc", path)
    return _readlink(path, *arguments, **options)


def _collect(pid: int, options: int) -> tuple[int, int, Any]:
    """Collect a child as macOS does, which counts its memory in bytes."""
    found, status, usage = _wait4(pid, options)
    at = resource.struct_rusage.__match_args__.index("ru_maxrss")
    counted = [value * 1024 if one == at else value for one, value in enumerate(usage)]
    return found, status, resource.struct_rusage(counted)


def _control(fd: Any, command: int, argument: Any = 0) -> Any:  # noqa: ANN401 - as fcntl.fcntl
    if command == NAME_OF:
        number = fd if isinstance(fd, int) else fd.fileno()
        return os.fsencode(_readlink(f"/proc/self/fd/{number}")).ljust(len(argument), b"\0")
    return _fcntl(fd, command, argument)


def backend(directory: str) -> Backend:
    """Return macOS's back end with the stand-in in *directory*."""
    from nono_sandbox import system

    first = "import sys; sys.path.append(sys.argv.pop(1)); "
    first += f"sys.path.append({str(HERE)!r}); import mac; "
    return system.MACOS.replace(
        server=f"{first}mac.server({directory!r})", single_run=f"{first}mac.single({directory!r})"
    )


def command_line(directory: str) -> None:
    """Be the command line, on a Mac whose sandbox-exec is the stand-in in *directory*."""
    # A run without a proxy imports so little that it needs none of it.
    rich = sys.argv[1] in ("doctor", "serve") or "--allow-domain" in sys.argv
    become(*(BEFORE if rich else ()))
    from nono_sandbox import system
    from nono_sandbox.seatbelt import asking

    system.BACKEND = backend(directory)
    asking.ask.__defaults__ = (f"{directory}/sandbox-exec",)
    from nono_mcp.__main__ import run

    run()


def server(directory: str) -> None:
    """Be a session's fork server."""
    become()
    from nono_sandbox.seatbelt import server as seatbelt

    seatbelt.main(int(sys.argv[1]), means(directory))


def single(directory: str) -> None:
    """Be the lane of a single run."""
    become()
    from nono_sandbox.seatbelt import single_run as seatbelt

    seatbelt.main(int(sys.argv[1]), means(directory))


def contract(directory: str, *arguments: str) -> None:
    """Run tests as a Mac would, with the stand-in in *directory*, and exit."""
    import tempfile

    import pytest

    # It has found out by now that Linux can do without a name.
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]  # noqa: SLF001 - likewise
    become(*BEFORE)
    from nono_sandbox import system

    system.BACKEND = system.MACOS = backend(directory)
    os.environ["NONO_TEST_FIRST"] = f"""\
sys.path.append({str(HERE)!r})
import mac
mac.become()
from nono_sandbox import system
system.BACKEND = mac.backend({directory!r})
"""
    quiet = ("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    sys.exit(pytest.main(["-q", "--tb=no", *quiet, *arguments]))


def means(directory: str) -> Means:
    """Return what this Linux has instead of macOS's."""
    from nono_sandbox.seatbelt.lane import Means

    return Means(f"{directory}/sandbox-exec", processes)


def processes() -> list[Process]:
    """Return Linux's processes; when one began tells it from others of its number."""
    from nono_sandbox.seatbelt.tree import Process

    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b") ")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in (b"Z", b"X"):
                pid = int(entry.name)
                found[pid] = (int(fields[3]), (int(fields[19]) << 22) | pid, int(fields[1]))
    return [
        Process(pid, session, identity, found[parent][1] if parent in found else 0)
        for pid, (session, identity, parent) in found.items()
    ]
