"""What an attack program has at hand. conftest.py puts this text before each of them.

It runs confined, as `python -I -S -c`, and speaks on standard output: a line of JSON for every
attempt, so that one process can make many.
"""

import ctypes
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

NUMBERS: dict[str, int] = json.loads(sys.argv[1])
ARGUMENTS: list[Any] = json.loads(sys.argv[2])
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_FOLLOW = 0x400
RENAME_EXCHANGE = 2

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def checked(result: int) -> int:
    """Turn the -1 of a C function into its errno."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def raw(number: int, *arguments: Any) -> int:  # noqa: ANN401  # whatever ctypes takes
    """Make a system call by its number."""
    words = [ctypes.c_ulong(a & (1 << 64) - 1) if isinstance(a, int) else a for a in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *words))


def syscall(name: str, *arguments: Any) -> int:  # noqa: ANN401  # whatever ctypes takes
    """Make a system call; a text is passed as the path it spells."""
    if name not in NUMBERS:
        raise OSError(errno.ENOSYS, f"{name} doesn't exist on this architecture")
    words = [os.fsencode(a) if isinstance(a, str) else a for a in arguments]
    return raw(NUMBERS[name], *words)


def say(name: str, value: object) -> None:
    """Tell what was found."""
    os.write(1, json.dumps([name, value]).encode() + b"\n")


def attempt(name: str, act: Callable[[], object]) -> None:
    """Do it, and tell how that went."""
    try:
        act()
    except OSError as error:
        say(name, errno.errorcode.get(error.errno or 0, str(error)))
    except AttributeError:
        # Python has no word for what this system can't do.
        if os.uname().sysname == "Linux":
            raise
        say(name, "ENOSYS")
    else:
        say(name, "done")


def read(path: str) -> None:
    """Open a file, and put what is in it where the tests look for secrets."""
    with open(path, "rb") as stream:  # noqa: PTH123  # -S: a short start
        say(f"content of {path}", stream.read().decode(errors="replace"))


def write(path: str, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
    """Open a file for writing, and write."""
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(fd, b"spoilt")
    os.close(fd)


def in_child(act: Callable[[], object]) -> int:
    """Fork, *act* there, and return the child's process id."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return pid


def in_thread(act: Callable[[], object]) -> None:
    """Let another thread *act*, and raise here what it raised there."""
    raised: list[OSError] = []

    def run() -> None:
        try:
            act()
        except OSError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


OFTEN = 500
LONG_S = 1.0


def _counted(ways: Mapping[Any, int], often: int, besides: Collection[str]) -> list[Any]:
    return [way for way, count in ways.items() if count >= often and way not in besides]


def race(
    against: Iterable[Callable[[], object]],
    tried: Mapping[str, Callable[[], object]],
    awaited: Collection[str],
    besides: Collection[str] = (),
) -> None:
    """Try it while threads of ours act *against* it again and again; tell all that came of each.

    Each of the *awaited* has to have come out in two ways *besides* some, so that threads and tries
    did meet: often, or for long.
    """
    going = [True]

    def repeat(act: Callable[[], object]) -> None:
        while going:
            act()

    threads = [threading.Thread(target=repeat, args=(act,)) for act in against]
    sys.setswitchinterval(1e-6)
    for thread in threads:
        thread.start()
    seen: dict[str, dict[Any, int]] = {name: {} for name in tried}
    end = time.monotonic() + LONG_S
    often = OFTEN

    while any(len(_counted(seen[name], often, besides)) < 2 for name in awaited):
        if time.monotonic() > end:
            often = 1
        for name, act in tried.items():
            came: Any
            try:
                came = act() or "done"
            except OSError as error:
                came = errno.errorcode[error.errno or 0]
            seen[name][came] = seen[name].get(came, 0) + 1
    going.clear()
    for thread in threads:
        thread.join()
    for name, ways in seen.items():
        say(name, sorted(ways))


def sleep_for_ever() -> None:
    """Wait for a signal, again and again."""
    while True:
        signal.pause()
