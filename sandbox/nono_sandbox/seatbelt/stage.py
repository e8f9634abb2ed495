"""The program that becomes `sandbox-exec`: between the supervisor's spawn and the worker.

Run as a script by `python -I -S`, so it imports nothing of its own package. A spawn can't set
limits or a working directory, and a fork of a process with threads is no place to do it; here
there is one thread and nobody's state. It costs the start of a Python, about 10 ms a call.

Descriptor 3 is read for the plan, 4 is told what failed and closes when the program starts.

Nobody has run it on a Mac; on Linux the tests run it with a stand-in for `sandbox-exec`.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import resource
import signal
import sys
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypedDict

    class Plan(TypedDict):
        """What to become; plain values, for `marshal` carries nothing else."""

        argv: list[str]
        environment: dict[str, str]
        cwd: str
        limits: list[tuple[str, int, int]]
        tty: bool


PLAN_FD = 3
FAILURE_FD = 4
CANNOT_RUN = 126
"""A shell's exit status for what exists and can't be executed."""


def main() -> NoReturn:
    """Become the plan's program, or report why not and exit with a shell's status."""
    step = "plan"
    try:
        # Before anything else: the program must hold nothing but its three streams.
        os.set_inheritable(FAILURE_FD, False)  # noqa: FBT003 - the parameter is positional
        with open(PLAN_FD, "rb") as stream:
            plan: Plan = marshal.load(stream)  # noqa: S302 - from the supervisor, by descriptor
        close_others()
        step = "setsid"
        os.setsid()
        reset_signals()
        if plan["tty"]:
            step = "controlling terminal"
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for name, soft, hard in plan["limits"]:
            step = name
            limit(name, soft, hard)
        step = plan["cwd"]
        os.chdir(plan["cwd"])
        step = plan["argv"][0]
        os.execve(plan["argv"][0], plan["argv"], plan["environment"])  # noqa: S606 - no shell wanted
    except OSError as error:
        report(f"{step}: {os.strerror(error.errno or 0)}")
    except (ValueError, EOFError, KeyError) as error:
        report(f"{step}: {error}")
    os._exit(CANNOT_RUN)


def close_others() -> None:
    """Close every descriptor but the three streams and the one that reports a failure."""
    # /dev/fd lists this process's own, on macOS as on Linux.
    for name in os.listdir("/dev/fd"):
        number = int(name)
        if number > FAILURE_FD or number == PLAN_FD:
            try:
                os.close(number)
            except OSError:
                continue


def reset_signals() -> None:
    """Give every signal its default action, for exec keeps what is ignored; block none."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def limit(name: str, soft: int, hard: int) -> None:
    """Set a limit, but never above the hard one there is."""
    which: int = getattr(resource, name)
    _, most = resource.getrlimit(which)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(which, (soft, hard))


def report(message: str) -> None:
    """Tell the supervisor why nothing ran."""
    os.write(FAILURE_FD, message.encode("utf-8", "replace")[:1024])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main()
