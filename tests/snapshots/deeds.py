"""A workspace with some of everything, and what may be done to it: a table of deeds."""

# mypy: disable-error-code="func-returns-value"

import ctypes
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

Deed = Callable[[Path], object]


# macOS has no names that aren't UTF-8.
ODD = b"\xff\xfe" if sys.platform == "linux" else "ÿ".encode()


def sparse(path: Path, *runs: tuple[int, bytes], size: int) -> None:
    with path.open("wb") as file:
        for offset, data in runs:
            file.seek(offset)
            file.write(data)
        file.truncate(size)


def acl(path: Path, name: str = "system.posix_acl_access") -> None:
    """Give user 12345 the right to read."""
    entries = [(1, 6, -1), (2, 4, 12345), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(path, name, struct.pack("<I", 2) + packed)


def populate(w: Path) -> None:
    for name in ("a.txt", "b.txt", "dir/c.txt", "dir/sub/d.txt", "dir/sub/deep/e.txt", ".env"):
        path = w / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
    (w / "crlf.txt").write_bytes(b"one\r\ntwo\r\n")
    (w / "run.sh").write_text("#!/bin/sh\n")
    (w / "run.sh").chmod(0o755)
    (w / "suid").write_text("s")
    (w / "suid").chmod(0o4711)
    (w / "sgid").write_text("s")
    (w / "sgid").chmod(0o2755)
    (w / "sticky").mkdir()
    (w / "sticky").chmod(0o1777)
    (w / "readonly").write_text("r")
    (w / "readonly").chmod(0o444)
    (w / "closed").mkdir()
    (w / "closed/inside").write_text("hidden")
    (w / "closed").chmod(0o500)
    (w / "empty").mkdir()
    (w / "link").symlink_to("a.txt")
    (w / "dangling").symlink_to("/nowhere/at/all")
    (w / "dirlink").symlink_to("dir")
    os.mkfifo(w / "fifo", 0o640)
    (w / "one").write_text("linked")
    (w / "two").hardlink_to(w / "one")
    (w / "dir/three").hardlink_to(w / "one")
    (w / "big").write_bytes(b"pattern!" * (9 << 17))
    sparse(w / "holes", (1 << 20, b"data" * 1024), size=4 << 20)
    (w / "attr").write_text("x")
    if sys.platform == "linux":
        os.setxattr(w / "attr", "user.note", b"kept\0bytes")
        os.setxattr(w / "dir", "user.note", b"of a directory")
        acl(w / "b.txt")
    os.mkdir(os.path.join(os.fsencode(w), ODD))
    Path(os.fsdecode(os.path.join(os.fsencode(w), ODD, b"new\nline"))).write_text("n")
    (w / "-rf").write_text("dash")
    (w / ("n" * 255)).write_text("long")
    (w / "node_modules/left-pad").mkdir(parents=True)
    (w / "node_modules/left-pad/index.js").write_text("pad")
    (w / ".gitignore").write_text("node_modules\n.env\n")
    for path in [w, *w.rglob("*")]:
        os.utime(path, ns=(1, 1_700_000_000_123_456_789), follow_symlinks=False)


def replaced_by_link(w: Path) -> None:
    shutil.rmtree(w / "dir")
    (w / "dir").symlink_to("/etc")


def swapped(w: Path) -> None:
    (w / "a.txt").rename(w / "t")
    (w / "b.txt").rename(w / "a.txt")
    (w / "t").rename(w / "b.txt")


def directory_for_file(w: Path) -> None:
    (w / "a.txt").unlink()
    (w / "a.txt/x/y").mkdir(parents=True)
    (w / "a.txt/x/y/z").write_text("z")


def file_for_directory(w: Path) -> None:
    shutil.rmtree(w / "dir")
    (w / "dir").write_text("a file now")


def unlinked_and_relinked(w: Path) -> None:
    (w / "two").unlink()
    (w / "two").write_text("linked")
    (w / "b.txt").unlink()
    (w / "b.txt").hardlink_to(w / "one")


def same_size(w: Path) -> None:
    status = (w / "a.txt").stat()
    (w / "a.txt").write_bytes(b"X" * status.st_size)
    os.utime(w / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns))


def everything_gone(w: Path) -> None:
    (w / "closed").chmod(0o700)
    for path in w.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def closed_all_over(w: Path) -> None:
    for path in (w / "dir/sub/deep/e.txt", w / "dir/sub/deep", w / "dir/sub", w / "dir", w / "big"):
        path.chmod(0)


def many_files(w: Path) -> None:
    for number in range(300):
        (w / f"many-{number}").write_text(str(number))


def deep_chain(w: Path) -> None:
    fd = os.open(w, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("x" * 50, dir_fd=fd)
        below = os.open("x" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def new_kinds(w: Path) -> None:
    os.mkfifo(w / "new-fifo")
    (w / "new-link").symlink_to("x" * 4000)
    (w / "new-hard").hardlink_to(w / "a.txt")
    (w / "new-empty").touch()
    sparse(w / "new-sparse", size=1 << 20)


def exchange(a: Path, b: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, bytes(a), -100, bytes(b), 2) == 0


DEEDS: dict[str, Deed] = {
    "write": lambda w: (w / "a.txt").write_text("changed"),
    "append": lambda w: os.truncate(w / "a.txt", 100),
    "truncate": lambda w: os.truncate(w / "a.txt", 0),
    "extend": lambda w: os.truncate(w / "a.txt", 1 << 20),
    "same size, time put back": same_size,
    "touch": lambda w: os.utime(w / "a.txt", (5, 5)),
    "crlf to lf": lambda w: (w / "crlf.txt").write_bytes(b"one\ntwo\n"),
    "unlink": lambda w: (w / "a.txt").unlink(),
    "unlink ignored": lambda w: (w / ".env").unlink(),
    "rewrite ignored": lambda w: (w / "node_modules/left-pad/index.js").write_text("evil"),
    "remove ignored": lambda w: shutil.rmtree(w / "node_modules"),
    "remove tree": lambda w: shutil.rmtree(w / "dir"),
    "remove empty": lambda w: (w / "empty").rmdir(),
    "remove closed": lambda w: ((w / "closed").chmod(0o700), shutil.rmtree(w / "closed")),
    "remove everything": everything_gone,
    "create": lambda w: (w / "new").write_text("new"),
    "create in new directories": lambda w: (w / "n/e/w").mkdir(parents=True),
    "create many": many_files,
    "create deep": deep_chain,
    "create other kinds": new_kinds,
    "rename": lambda w: (w / "a.txt").rename(w / "renamed"),
    "rename over": lambda w: (w / "a.txt").rename(w / "b.txt"),
    "rename directory": lambda w: (w / "dir").rename(w / "moved"),
    "rename case": lambda w: (w / "a.txt").rename(w / "A.TXT"),
    "swap": swapped,
    "exchange with directory": lambda w: exchange(w / "a.txt", w / "dir"),
    "directory for file": directory_for_file,
    "file for directory": file_for_directory,
    "symlink for directory": replaced_by_link,
    "chmod": lambda w: (w / "a.txt").chmod(0o600),
    "chmod +x": lambda w: (w / "a.txt").chmod(0o755),
    "chmod -x": lambda w: (w / "run.sh").chmod(0o644),
    "chmod suid away": lambda w: (w / "suid").chmod(0o711),
    "write to suid": lambda w: (w / "sgid").write_text("loses its bit"),
    "chmod sticky away": lambda w: (w / "sticky").chmod(0o777),
    "chmod 000 all over": closed_all_over,
    "chmod the root": lambda w: w.chmod(0o700),
    "close the root": lambda w: ((w / "a.txt").unlink(), w.chmod(0o300)),
    "write read-only": lambda w: ((w / "readonly").chmod(0o644), (w / "readonly").write_text("w")),
    "retarget symlink": lambda w: ((w / "link").unlink(), (w / "link").symlink_to("b.txt")),
    "symlink to file": lambda w: ((w / "link").unlink(), (w / "link").write_text("a.txt")),
    "symlink to directory": lambda w: ((w / "dirlink").unlink(), (w / "dirlink").mkdir()),
    "file to fifo": lambda w: ((w / "a.txt").unlink(), os.mkfifo(w / "a.txt")),
    "fifo gone": lambda w: (w / "fifo").unlink(),
    "fifo mode": lambda w: (w / "fifo").chmod(0o666),
    "write through hard link": lambda w: (w / "two").write_text("through another name"),
    "unlink hard link": lambda w: (w / "two").unlink(),
    "regroup hard links": unlinked_and_relinked,
    "chmod hard link": lambda w: (w / "one").chmod(0o600),
    "fill hole": lambda w: sparse(w / "holes", (0, b"full" * (1 << 20)), size=4 << 20),
    "move hole": lambda w: sparse(w / "holes", (2 << 20, b"data" * 1024), size=4 << 20),
    "change a block": lambda w: os.truncate(w / "big", (8 << 20) + 5),
    "remove big": lambda w: (w / "big").unlink(),
    "set attribute": lambda w: os.setxattr(w / "a.txt", "user.new", b"1"),
    "change attribute": lambda w: os.setxattr(w / "attr", "user.note", b"2"),
    "remove attribute": lambda w: os.removexattr(w / "attr", "user.note"),
    "remove directory's attribute": lambda w: os.removexattr(w / "dir", "user.note"),
    "set acl": lambda w: acl(w / "a.txt"),
    "remove acl": lambda w: os.removexattr(w / "b.txt", "system.posix_acl_access"),
    "set default acl": lambda w: (
        acl(w / "dir", "system.posix_acl_default"),
        (w / "dir/n").touch(),
    ),
    "set default acl on the root": lambda w: acl(w, "system.posix_acl_default"),
    "rename fifo over file": lambda w: (w / "fifo").rename(w / "a.txt"),
    "punch hole": lambda w: sparse(w / "big", (0, b"pattern!"), size=9 << 20),
    "odd names gone": lambda w: [
        shutil.rmtree(os.path.join(os.fsencode(w), ODD)),
        (w / "-rf").unlink(),
        (w / ("n" * 255)).unlink(),
    ],
}
if sys.platform != "linux":
    # Python has no words for macOS's.
    DEEDS = {name: do for name, do in DEEDS.items() if not {"attribute", "acl"} & set(name.split())}
if os.geteuid() == 0:
    # Nobody else can, nor could give it back.
    DEEDS |= {
        "chown": lambda w: os.chown(w / "a.txt", 12345, 54321),
        "chown of a link": lambda w: os.lchown(w / "link", 12345, 54321),
        "chown of a directory": lambda w: os.chown(w / "dir", 12345, -1),
    }
