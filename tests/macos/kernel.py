"""What a Mac's kernel would do to a confined Python, done by the evaluator of its profile.

The stand-in for sandbox-exec puts this before the text of a program that it runs by `python -c`:
what the program attempts by Python's own functions is asked of the profile first, and refused as
Seatbelt refuses, before any of it happens. Nothing is held of programs in other languages, nor
from who means to get around it: it judges profiles, and confines nobody.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import socket
import stat
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Act = Callable[..., Any]

CREATED = "file-write-create"
UNLINKED = "file-write-unlink"
SEEN = "file-read-metadata"
FAMILIES = {socket.AF_UNIX: "AF_UNIX", socket.AF_INET: "AF_INET", socket.AF_INET6: "AF_INET6"}
HERE = ("127.0.0.1", "::1", "0.0.0.0", "::", "localhost", "")  # noqa: S104 - compared, not bound
_working = threading.local()


class Kernel:
    """Asks of one profile what it says to an act."""

    def __init__(self, text: str) -> None:
        from nono_sandbox.seatbelt.evaluator import Profile, Query

        self._profile = Profile(text)
        self._query = Query
        self._session = os.getsid(0)

    def judge(self, operation: str, **of: Any) -> None:  # noqa: ANN401
        """Raise what the kernel answers unless the profile allows it."""
        if not self._profile.decide(self._query(operation, **of)).allowed:
            raise PermissionError(errno.EPERM, f"denied: {operation} {of}")

    def path(self, path: Any, dir_fd: int | None = None, *, follow: bool = True) -> str:  # noqa: ANN401
        """Return the name the kernel has for *path*, or for what would be made there."""
        if isinstance(path, int):
            return os.readlink(f"/proc/self/fd/{path}")
        named = os.path.abspath(os.fsdecode(path)) if dir_fd is None else os.fsdecode(path)
        if dir_fd is not None:
            named = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), named)
        if named.startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, "a Mac has no /proc", named)
        if follow:
            return os.path.realpath(named)
        head, tail = os.path.split(named.rstrip("/"))
        return os.path.join(os.path.realpath(head), tail)

    def opened(self, path: Any, flags: int, dir_fd: int | None = None) -> None:  # noqa: ANN401
        name = self.path(path, dir_fd, follow=not flags & os.O_NOFOLLOW)
        if flags & os.O_PATH:
            return self.judge(SEEN, path=name)
        if flags & os.O_CREAT and not os.path.lexists(name):
            return self.judge(CREATED, path=name)
        if flags & os.O_ACCMODE != os.O_WRONLY:
            self.judge("file-read-data", path=name)
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self.judge("file-write-data", path=name)
        return None

    def named(self, file: Any, mode: str = "r", *_: object, **__: object) -> None:  # noqa: ANN401
        if isinstance(file, int):
            return
        flags = os.O_RDWR if "+" in mode else os.O_RDONLY if "r" in mode else os.O_WRONLY
        made = os.O_CREAT if set(mode) & set("wax") else 0
        self.opened(file, flags | made | (os.O_TRUNC if "w" in mode else 0))

    def moved(self, source: Any, target: Any, **at: Any) -> None:  # noqa: ANN401
        self.judge(UNLINKED, path=self.path(source, at.get("src_dir_fd"), follow=False))
        name = self.path(target, at.get("dst_dir_fd"), follow=False)
        self.judge(CREATED, path=name)
        if os.path.lexists(name):
            self.judge(UNLINKED, path=name)

    def on(self, operation: str, at: int = 0, *, follow: bool = True) -> Act:
        """Return what judges *operation* on the path that is argument number *at*."""

        def judge(*arguments: Any, **options: Any) -> None:  # noqa: ANN401
            given = arguments[at] if len(arguments) > at else options.get("path", ".")
            through = follow and options.get("follow_symlinks", True)
            self.judge(operation, path=self.path(given, options.get("dir_fd"), follow=through))

        return judge

    def mode(self, path: Any, mode: int, **options: Any) -> None:  # noqa: ANN401
        name = self.path(path, options.get("dir_fd"), follow=options.get("follow_symlinks", True))
        self.judge("file-write-mode", path=name)
        if mode & (stat.S_ISUID | stat.S_ISGID):
            self.judge("file-write-setugid", path=name)

    def signalled(self, pid: int, *_: object) -> None:
        own = pid == 0
        if not own and abs(pid) > 1:
            try:
                own = os.getsid(abs(pid)) == self._session
            except ProcessLookupError:
                return
        self.judge("signal", same_sandbox=own)

    def socket_made(self, _: object, *how: Any, fileno: int | None = None, **named: Any) -> None:  # noqa: ANN401
        given = dict(zip(("family", "type", "proto", "fileno"), how, strict=False)) | named
        if fileno is None and given.get("fileno") is None:
            family, protocol = given.get("family", -1), given.get("proto", 0)
            name = FAMILIES.get(socket.AF_INET if family == -1 else family, str(family))
            self.judge("system-socket", domain=name, domain_protocol=max(protocol, 0))

    def reached(self, operation: str) -> Act:
        def judge(one: socket.socket, *arguments: Any) -> None:  # noqa: ANN401
            address = arguments[-1]
            if one.family == socket.AF_UNIX:
                self.judge(operation, path=self.path(address, follow=operation != "network-bind"))
            elif isinstance(address, tuple):
                protocol = "tcp" if one.type == socket.SOCK_STREAM else "udp"
                here = operation != "network-bind" and address[0] in HERE
                self.judge(operation, protocol=protocol, port=address[1], here=here)

        return judge


def between(judge: Act, act: Act) -> Act:
    """Return *act*, which *judge* comes before; what judging itself does is nobody's to judge."""

    def judged(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if not getattr(_working, "now", False):
            _working.now = True
            try:
                judge(*arguments, **options)
            finally:
                _working.now = False
        return act(*arguments, **options)

    return judged


def install(text: str) -> None:
    """Have all that this process does from here on judged by the profile *text*."""
    kernel = Kernel(text)
    create = kernel.on(CREATED, follow=False)
    judges: list[tuple[Any, dict[str, Act]]] = [
        (builtins, {"open": kernel.named}),
        (io, {"open": kernel.named}),
        (os, {"open": lambda path, flags, _=0, dir_fd=None: kernel.opened(path, flags, dir_fd)}),
        (os, dict.fromkeys(("rename", "replace"), kernel.moved)),
        (os, dict.fromkeys(("unlink", "remove", "rmdir"), kernel.on(UNLINKED, follow=False))),
        (os, dict.fromkeys(("mkdir", "mkfifo"), create)),
        (os, {"mknod": kernel.on("file-mknod", follow=False)}),
        (os, {"symlink": kernel.on(CREATED, 1, follow=False), "link": kernel.on("file-link", 1)}),
        (os, {"truncate": kernel.on("file-write-data"), "ftruncate": kernel.on("file-write-data")}),
        (os, dict.fromkeys(("chmod", "fchmod"), kernel.mode)),
        (os, dict.fromkeys(("chown", "fchown"), kernel.on("file-write-owner"))),
        (os, {"lchown": kernel.on("file-write-owner", follow=False)}),
        (os, {"utime": kernel.on("file-write-times")}),
        (os, dict.fromkeys(("setxattr", "removexattr"), kernel.on("file-write-xattr"))),
        (os, dict.fromkeys(("getxattr", "listxattr"), kernel.on("file-read-xattr"))),
        (os, dict.fromkeys(("listdir", "scandir"), kernel.on("file-read-data"))),
        (os, dict.fromkeys(("stat", "access", "chdir", "statvfs"), kernel.on(SEEN))),
        (os, dict.fromkeys(("lstat", "readlink"), kernel.on(SEEN, follow=False))),
        (os, dict.fromkeys(("execv", "execve"), kernel.on("process-exec"))),
        (os, {"kill": kernel.signalled, "killpg": lambda pid, _: kernel.signalled(-pid)}),
        (socket.socket, {"__init__": kernel.socket_made, "bind": kernel.reached("network-bind")}),
        (socket.socket, dict.fromkeys(("connect", "sendto"), kernel.reached("network-outbound"))),
    ]
    for where, by_name in judges:
        for name, judge in by_name.items():
            setattr(where, name, between(judge, getattr(where, name)))
