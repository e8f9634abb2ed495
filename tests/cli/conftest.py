"""A person at the command line: a home, a workspace, the commands as they are installed."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import nono_mcp
import nono_sandbox
from nono_sandbox.client import ForkServer
from nono_sandbox.confinement import LANDLOCK, NAMESPACES

HERE = Path(__file__).parent
NONO = Path(sys.executable).parent / "nono"
LONG_ENOUGH_S = 60.0
PATH = "/usr/local/bin:/usr/bin:/bin"
AT_LAST = "\0that was all\0"
IN_A_SESSION = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
LEFT_OPEN_COUNT = 1_100
"""More than select(2) takes a number of."""
LEAVING_OPEN = (
    "import os, resource, sys;"
    "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({LEFT_OPEN_COUNT + 200}, hard));"
    f"[os.set_inheritable(os.dup(0), True) for _ in range({LEFT_OPEN_COUNT})];"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = os.environ.get("NONO_TEST_TIER", "")
    others = [
        item
        for item in items
        if wanted
        and item.path.is_relative_to(HERE)
        and isinstance(item, pytest.Function)
        and getattr(item, "callspec", None) is not None
        and item.callspec.params.get("tier", wanted) != wanted
    ]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def _namespaces_missing() -> str:
    server = ForkServer.start()
    server.close()
    return server.reason


@pytest.fixture(params=[NAMESPACES, LANDLOCK])
def tier(request: pytest.FixtureRequest, _namespaces_missing: str) -> str:
    wanted: str = request.param
    if wanted == NAMESPACES and _namespaces_missing:
        pytest.skip(_namespaces_missing)
    return wanted


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a home and a workspace of their own, beside each other."""

    home: Path
    workspace: Path

    def environment(self, **more: str) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": PATH, "LANG": "C.UTF-8", "TERM": "dumb", **more}

    def nono(
        self,
        *arguments: str | bytes,
        stdin: str = "",
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end."""
        return subprocess.run(
            [os.fsencode(NONO), *(os.fsencode(word) for word in arguments)],
            capture_output=True,
            check=False,
            cwd=cwd or self.workspace,
            encoding="utf-8",
            env=self.environment(**(environment or {})),
            errors="surrogateescape",
            input=stdin,
            timeout=LONG_ENOUGH_S,
        )

    def nono_after(
        self, before: str, *arguments: str, python: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end in an interpreter that runs the code *before* first."""
        packages = (nono_mcp, nono_sandbox)
        roots = sorted({str(Path(*package.__path__).parent) for package in packages})
        ours = f"import sys; sys.path += {roots!r}\n{before}\n"
        code = f"{ours}from nono_mcp.__main__ import run; run()"
        return subprocess.run(
            [sys.executable, "-I", "-S", *python, "-c", code, *arguments],
            capture_output=True,
            check=False,
            cwd=self.workspace,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=LONG_ENOUGH_S,
        )

    def start(self, *arguments: str, leads_a_group: bool = False) -> subprocess.Popen[str]:
        """Start a command line, as a job of its own or not; its standard streams are pipes."""
        return subprocess.Popen(
            [NONO, *arguments],
            cwd=self.workspace,
            encoding="utf-8",
            env=self.environment(),
            process_group=0 if leads_a_group else None,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )


def with_many_left_open(*command: str) -> list[str]:
    """Return what starts *command* with more descriptors than most programs ever have."""
    return [sys.executable, "-I", "-S", "-c", LEAVING_OPEN, *command]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    made = Person(tmp_path / "home", tmp_path / "work")
    made.home.mkdir()
    made.workspace.mkdir()
    return made


def eventually(true: Callable[[], bool]) -> bool:
    """Wait until *true* is; tell whether it came to be."""
    deadline = time.monotonic() + LONG_ENOUGH_S
    while time.monotonic() < deadline:
        if true():
            return True
        select.select([], [], [], 0.02)
    return False


def running(mark: str) -> list[int]:
    """Return the processes with *mark* on their command line, but for those of the test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if mark.encode() in words and state != "Z":
                found.append(int(entry.name))
    return found


class Terminal:
    """A terminal emulator of few words: what it shows is looked for, what is typed is sent."""

    def __init__(self, person: Person, *command: str, **environment: str) -> None:
        self.master, self.slave = os.openpty()
        self.resize(24, 80)
        self.at_first = self.settings()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_A_SESSION, *command],
            cwd=person.workspace,
            env=person.environment(**environment),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.slave)

    def type(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self.master, data[:512]) :]

    def expect(self, text: str) -> str:
        """Wait for *text*, and return all that was shown up to its end since the last one."""
        deadline = time.monotonic() + LONG_ENOUGH_S
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} isn't in {self.shown!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 65536).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def status(self) -> int:
        """Wait for the end, showing the rest, and return the exit status."""
        deadline = time.monotonic() + LONG_ENOUGH_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running; it shows {self.shown!r}"
            self.read(0.05)
        # The kernel carries output over in its own time, and in order.
        os.write(self.slave, AT_LAST.encode())
        while not self.shown.endswith(AT_LAST):
            assert time.monotonic() < deadline, f"its last isn't shown; it shows {self.shown!r}"
            self.read(0.05)
        self.shown = self.shown.removesuffix(AT_LAST)
        return self.process.returncode

    def read(self, patience_s: float) -> None:
        while select.select([self.master], [], [], patience_s)[0]:
            self.shown += os.read(self.master, 65536).decode(errors="replace")

    def hang_up(self) -> None:
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(LONG_ENOUGH_S)
        if self.master >= 0:
            self.hang_up()


@pytest.fixture
def terminal(person: Person) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*command: str, **environment: str) -> Terminal:
        opened.append(Terminal(person, *command, **environment))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
