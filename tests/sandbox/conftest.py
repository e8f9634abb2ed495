"""Processes to confine, what they attempt, and eyes outside that see whether it happened.

The contract is one: every test that asks for `tier` runs in both, or in the one that
NONO_TEST_TIER names. What a tier doesn't give is left out by naming the other in the test.
"""

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from nono_sandbox import system
from nono_sandbox.call_end import CallEnd
from nono_sandbox.client import ForkServer, Lane
from nono_sandbox.confinement import (
    NAMESPACES,
    READ,
    WRITE,
    Call,
    Confinement,
    Grant,
    Link,
)
from nono_sandbox.seatbelt.fixed import SYSTEM_GRANTS

HERE = Path(__file__).parent
LONG_ENOUGH_S = 60.0
OUTPUT_KEPT_BYTES = 1 << 20
# Newer ones of libffi keep a file of their own open once ctypes is there: where nothing was yet.
FREE = """\
import os
FREE = os.dup(0)
os.close(FREE)
"""
INSIDE = FREE + (HERE / "inside.py").read_text(encoding="utf-8")
# The interpreter that a virtual environment leads to is the one that runs without it.
PYTHON = os.path.realpath(sys.executable)
SYSTEM = [
    Path(path)
    for path in (
        *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
        *("/etc/ld.so.cache", "/etc/alternatives"),
    )
]
FIRST = os.environ.get("NONO_TEST_FIRST", "")
"""What each supervisor that a test starts does first; an imitation of another system says it."""
ENVIRONMENT = (("PATH", "/usr/bin:/bin"), ("HOME", "/tmp"))  # noqa: S108  # the worker's own


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = os.environ.get("NONO_TEST_TIER", "")
    here = (wanted,) if wanted else system.BACKEND.tiers
    others = [
        item
        for item in items
        if item.path.is_relative_to(HERE)
        and isinstance(item, pytest.Function)
        and getattr(item, "callspec", None) is not None
        and item.callspec.params.get("tier", here[0]) not in here
    ]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def _namespaces_missing() -> str:
    with contextlib.closing(ForkServer.start()) as server:
        return server.reason


@pytest.fixture(params=system.BACKEND.tiers)
def tier(request: pytest.FixtureRequest, _namespaces_missing: str) -> str:
    wanted: str = request.param
    if wanted == NAMESPACES and _namespaces_missing:
        pytest.skip(_namespaces_missing)
    return wanted


def granted(path: Path, access: int) -> Grant:
    """Return a grant of the directory or file that is at *path* now."""
    status = path.stat()
    exact = not stat.S_ISDIR(status.st_mode)
    return Grant(os.fspath(path), access, exact, (status.st_dev, status.st_ino))


def system_grants() -> tuple[Grant, ...]:
    """Return what a program of this machine can't start without, and Python's own place."""
    paths = [path for path in SYSTEM if path.exists() and not path.is_symlink()]
    if system.BACKEND is system.MACOS:
        present = [one.path for one in SYSTEM_GRANTS if Path(one.path).exists()]
        paths = [Path(path) for path in present if os.path.realpath(path) == path]
    home = Path(sys.base_prefix).resolve()
    if not any(home.is_relative_to(path) for path in paths):
        paths.append(home)
    return tuple(granted(path, READ) for path in paths)


def system_links() -> tuple[Link, ...]:
    """Return the root's links into /usr."""
    return tuple(Link(str(path), str(path.readlink())) for path in SYSTEM if path.is_symlink())


def seen(path: Path) -> dict[str, tuple[object, ...]]:
    """Return all there is to see of a tree, but for access times."""
    found: dict[str, tuple[object, ...]] = {}
    for each in [path, *sorted(path.rglob("*"))]:
        status = each.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = each.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = each.readlink()
        attributes: tuple[tuple[str, bytes], ...] = ()
        if sys.platform == "linux":
            attributes = tuple(
                (name, os.getxattr(each, name, follow_symlinks=False))
                for name in os.listxattr(each, follow_symlinks=False)
            )
        found[os.fsdecode(each.relative_to(path))] = (
            content,
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_nlink,
            status.st_mtime_ns,
            status.st_ctime_ns,
            attributes,
        )
    return found


@dataclass
class Yard:
    """A workspace to write in, a directory to read, and an outside with a secret."""

    path: Path
    secret: str
    workspace: Path = field(init=False)
    reading: Path = field(init=False)
    outside: Path = field(init=False)

    def __post_init__(self) -> None:
        self.workspace = self._directory("workspace", "notes", "as they were")
        self.reading = self._directory("reading", "kept", "as it was")
        self.outside = self._directory("outside", "secret", self.secret)
        (self.outside / "program").write_text(f"#!/bin/sh\necho {self.secret}\n")
        (self.outside / "program").chmod(0o755)

    def _directory(self, name: str, file: str, text: str) -> Path:
        directory = self.path / name
        (directory / "sub").mkdir(parents=True)
        (directory / file).write_text(text)
        (directory / "sub" / file).write_text(text)
        return directory

    granted = staticmethod(granted)
    seen = staticmethod(seen)

    def confinement(self, *more: Grant, **changes: Any) -> Confinement:  # noqa: ANN401  # fields
        """Return the usual confinement: write the workspace, read the reading."""
        grants = (*system_grants(), granted(self.workspace, READ | WRITE))
        usual = Confinement(
            cwd=str(self.workspace),
            grants=(*grants, granted(self.reading, READ), *more),
            links=system_links(),
        )
        return usual.replace(**changes)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path, "hunter2-" + os.urandom(8).hex())


def told(output: bytes) -> dict[str, Any]:
    """Return what an attack program told in *output*, by name."""
    return dict(json.loads(line) for line in output.splitlines())


@dataclass
class Outcome:
    """How a confined program ended, and what it wrote."""

    ended: CallEnd
    output: bytes
    output_bytes: int

    @property
    def text(self) -> str:
        return self.output.decode(errors="replace")

    @property
    def status(self) -> int:
        return self.ended.status

    @property
    def said(self) -> dict[str, Any]:
        """Return what an attack program told, by the names of its attempts."""
        return told(self.output)

    @property
    def done(self) -> list[str]:
        """Return the names of the attempts that succeeded."""
        return [name for name, value in self.said.items() if value == "done"]


def below(pid: int) -> list[int]:
    """Return the processes that came of *pid*, which has a single thread, and theirs."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
            found += [int(child), *below(int(child))]
    return found


class Running:
    """A call under way."""

    def __init__(self, lane: Lane, read_end: int, server: int) -> None:
        self.lane = lane
        self._server = server
        self._read_end = read_end
        self._kept = bytearray()
        self._bytes = 0
        self._open = True

    @property
    def said(self) -> dict[str, Any]:
        """Return what an attack program has told so far."""
        return told(bytes(self._kept))

    def wait(self) -> Outcome:
        """Take in output until the call has ended."""
        self._until(self.lane.receive)
        ended = self.lane.ended
        assert ended is not None
        while self._open and select.select([self._read_end], [], [], 0)[0]:
            self._read()
        os.close(self._read_end)
        return Outcome(ended, bytes(self._kept), self._bytes)

    def pid(self) -> int:
        """Return the process id of the program, once its standard output is the call's."""
        pipe = Path(f"/proc/self/fd/{self._read_end}").readlink()
        deadline = time.monotonic() + LONG_ENOUGH_S
        while True:
            for pid in below(self._server):
                # It may have ended meanwhile; and of a lane nobody may ask.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    if Path(f"/proc/{pid}/fd/1").readlink() == pipe:
                        return pid
            assert time.monotonic() < deadline, "it doesn't run"
            time.sleep(0.01)

    def wait_for(self, text: str) -> None:
        """Take in output until *text* was in it."""
        self._until(lambda: text.encode() in self._kept)

    def wait_for_descriptor(self) -> None:
        """Take in what the lane says until it has sent its program's."""
        self._until(lambda: self.lane.pidfd >= 0)

    def wait_for_end_of_output(self) -> None:
        """Take in output until nobody is left who could write any."""
        self._until(lambda: not self._open)

    def _until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONG_ENOUGH_S
        while not happened():
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"nothing happened after {bytes(self._kept)!r}"
            watched = [self.lane.fileno(), *([self._read_end] if self._open else [])]
            if self._read_end in select.select(watched, [], [], remaining)[0]:
                self._read()
            if self.lane.ended is None and select.select([self.lane], [], [], 0)[0]:
                self.lane.receive()

    def _read(self) -> None:
        chunk = os.read(self._read_end, 1 << 18)
        self._open = bool(chunk)
        self._bytes += len(chunk)
        self._kept += chunk[: OUTPUT_KEPT_BYTES - len(self._kept)]


class Sandbox:
    """A fork server, made for one confinement, and lanes to run calls in."""

    def __init__(self, tier: str, confinement: Confinement) -> None:
        self.tier = tier
        self.cwd = confinement.cwd
        self.server = ForkServer.start(tier)
        self._lanes: list[Lane] = []
        try:
            self.server.configure(confinement)
        except BaseException:
            self.server.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all of it; once more does nothing more."""
        for lane in self._lanes:
            lane.close()
        self.server.close()

    def new_lane(self) -> Lane:
        """Return a lane that no other call uses."""
        lane = self.server.lane()
        self._lanes.append(lane)
        return lane

    def begin(
        self, *argv: str, stdin: int | None = None, lane: Lane | None = None, **changes: object
    ) -> Running:
        """Start a program; *changes* are fields of its call."""
        if lane is None:
            lane = self._lanes[0] if self._lanes else self.new_lane()
        call = Call(argv=argv, environment=ENVIRONMENT, cwd=self.cwd).replace(**changes)
        read_end, write_end = os.pipe()
        nothing = os.open("/dev/null", os.O_RDONLY)
        try:
            lane.begin(call, (nothing if stdin is None else stdin, write_end, write_end))
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(nothing)
            os.close(write_end)
        return Running(lane, read_end, self.server.pid)

    def run(self, *argv: str, **changes: Any) -> Outcome:  # noqa: ANN401  # see begin
        """Run a program to its end."""
        return self.begin(*argv, **changes).wait()

    def begin_attack(self, script: str, *arguments: object, **changes: Any) -> Running:  # noqa: ANN401
        """Start an attack program, a text in Python that follows inside.py."""
        return self.begin(*attack_argv(script, *arguments), **changes)

    def attack(self, script: str, *arguments: object, **changes: Any) -> Outcome:  # noqa: ANN401
        """Run an attack program, every line of it."""
        outcome = self.begin_attack(script, *arguments, **changes).wait()
        assert (outcome.status, outcome.ended.failure) == (0, None), outcome
        return outcome


def attack_argv(script: str, *arguments: object) -> list[str]:
    """Return the command line of an attack program."""
    words = [os.fsdecode(a) if isinstance(a, os.PathLike) else a for a in arguments]
    code = INSIDE + textwrap.dedent(script)
    return [PYTHON, "-I", "-S", "-c", code, json.dumps(_numbers()), json.dumps(words)]


def supervisor_argv(script: str, *arguments: str) -> list[str]:
    """Return the command line of a supervisor; *arguments* begin at its `sys.argv[2]`."""
    start = "import json, os, sys\nsys.path[:0] = json.loads(sys.argv[1])\n"
    code = start + FIRST + textwrap.dedent(script)
    return [sys.executable, "-I", "-S", "-c", code, json.dumps(sys.path), *arguments]


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a control group that is ours and has nobody in it, as one that was delegated."""
    from nono_sandbox.cgroups import hierarchy  # noqa: PLC0415  # it's Linux's alone

    top = hierarchy.make(hierarchy.directory_of(), os.getpid())
    path = Path(top) / "place"
    path.mkdir()
    yield path
    hierarchy.clear(str(path))
    assert hierarchy.remove(str(path))


def entering(place: Path, others: str = "") -> tuple[str, ...]:
    """Return what a command line begins with that starts in *place*, after some shell's words."""
    enter = f'{others} echo $$ > "$0/cgroup.procs" && exec "$@"'
    return ("/bin/sh", "-c", enter, str(place))


def _numbers() -> dict[str, int]:
    """Return system calls by name; none but on Linux, whose numbers stay what they are."""
    if sys.platform != "linux":
        return {}
    from nono_sandbox.seccomp.syscalls import numbers  # noqa: PLC0415  # it's Linux's alone

    return numbers(os.uname().machine)


Confine = Callable[..., Sandbox]


@pytest.fixture
def confine(tier: str, yard: Yard) -> Iterator[Confine]:
    """Return what makes sandboxes, of the yard's confinement or of a given one."""
    with contextlib.ExitStack() as open_ones:

        def start(*more: Grant, **changes: Any) -> Sandbox:  # noqa: ANN401  # fields
            confinement = yard.confinement(*more, **changes)
            return open_ones.enter_context(Sandbox(tier, confinement))

        yield start


@pytest.fixture
def sandbox(confine: Confine) -> Sandbox:
    return confine()


def holders(token: str) -> dict[int, str]:
    """Return the command lines that hold *token*, of any other process on the machine."""
    lines = command_lines() if sys.platform == "linux" else command_lines_by_ps()
    return {pid: line for pid, line in lines if token in line and pid != os.getpid()}


def command_lines() -> Iterator[tuple[int, str]]:
    """Yield what /proc tells of every process."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            line = (directory / "cmdline").read_bytes()
            yield int(directory.name), line.decode(errors="replace")


def command_lines_by_ps() -> Iterator[tuple[int, str]]:
    """Yield what ps(1) tells of every process but of those that only wait to be collected."""
    told = subprocess.run(
        ["/bin/ps", "-axww", "-o", "pid=,stat=,command="], capture_output=True, check=True
    )
    for line in told.stdout.decode(errors="replace").splitlines():
        words = line.split(None, 2)
        if len(words) == 3 and not words[1].startswith("Z"):  # its columns
            yield int(words[0]), words[2]


@pytest.fixture(name="attack_argv")
def _attack_argv() -> Callable[..., list[str]]:
    return attack_argv


@pytest.fixture(name="alive")
def _alive() -> Iterator[Callable[[str], list[str]]]:
    """Return what finds the command lines of processes that hold a text; in the end none does."""
    left: set[str] = set()

    def alive(token: str) -> list[str]:
        found = list(holders(token).values())
        (left.add if found else left.discard)(token)
        return found

    yield alive
    # Where a test failed, that is.
    for token in left:
        for pid in holders(token):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
