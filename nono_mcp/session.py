"""A session: one policy, one fork server, and the confined calls made under it.

    async with Session.open(request) as session:
        result = await session.run(Command(argv=("make", "test")))

Architecture invariant: nothing a command names is executed, opened or resolved by this process;
a call can give up what its session may do and can't add to it; and a call that was cancelled
has ended, with all it started, when the cancellation leaves here.
"""

from __future__ import annotations

import math
import os
import select
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from nono_mcp.capture import Capture
from nono_mcp.policy import home, load
from nono_sandbox import scratch
from nono_sandbox.client import Ended, ForkServer, Lane
from nono_sandbox.confinement import LANDLOCK, WRITE, Call, Limits, Narrowing
from nono_sandbox.errors import LaneLostError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from nono_mcp.policy.request import Prepared, Request

LANES_MAX = 32
"""Calls of one session that run at once; more wait their turn."""
LANES_IDLE_MAX = 8
TIMEOUT_S_MAX = 24 * 3600.0
ARGUMENT_BYTES_MAX = 128 * 1024 - 1
"""MAX_ARG_STRLEN of the kernel, less the final NUL."""
ARGUMENTS_BYTES_MAX = 1536 * 1024
STDIN_BYTES_MAX = 64 * 1024 * 1024
IDENTITIES_MAX = 64
"""Grants that are looked at before each call; a replaced one among the others loses its grant."""
_PIPE_BYTES = 256 * 1024
_KILL_S_MAX = 15.0


class CommandError(ValueError):
    """The command can't be run as it was given. Nothing ran; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an agent wants run. Fields left alone mean what the session's policy says."""

    argv: tuple[str, ...]
    cwd: str | None = None
    """Absolute, or relative to the workspace."""
    stdin: bytes = b""
    timeout_s: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] | None = None
    """The only paths that may be written, within what the session may write."""
    network_closed: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. All its processes are gone."""

    ended: Ended
    output: Capture
    """Standard output and error, interleaved as they were written."""
    duration_s: float
    cwd: str

    @property
    def status(self) -> int:
        """Return the exit status as a shell reports it."""
        return self.ended.status


class Session:
    """Runs commands under one policy. Made by `open`."""

    def __init__(self, request: Request, tier: str | None) -> None:
        self._request = request
        self._tier = tier
        self._turns = anyio.Semaphore(LANES_MAX)
        self._starting = anyio.Lock()
        self._generation: _Generation | None = None
        self._current_prepared: Prepared | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, request: Request, *, tier: str | None = None) -> AsyncIterator[Session]:
        """Start a session; *tier* insists on one, else this machine's best is taken.

        Raises:
            PolicyError, RefusedError, SandboxError: Nothing was started.
        """
        session = cls(request, tier)
        try:
            await session._current()
            yield session
        finally:
            if session._generation is not None:
                session._generation.retire()

    @property
    def prepared(self) -> Prepared:
        """Return the policy as it is in force."""
        if self._current_prepared is None:
            raise RuntimeError("the session isn't open")
        return self._current_prepared

    @property
    def tier(self) -> str:
        """Return the tier in force."""
        return self._generation.server.tier if self._generation else ""

    @property
    def tier_reason(self) -> str:
        """Return why this isn't the first tier, if it isn't."""
        return self._generation.server.reason if self._generation else ""

    @property
    def fork_server_pid(self) -> int:
        """Return the process id of the fork server, or 0 before there is one."""
        return self._generation.server.pid if self._generation else 0

    async def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> Result:
        """Run *command* to its end, or to its limit's, and return what came of it.

        *on_output* sees every byte as it arrives. When this is cancelled, the command and all
        it started have been killed.

        Raises:
            CommandError: The command can't be run as given. Nothing ran.
            SandboxError: It couldn't be confined, or its lane died. Nothing is left of it.
        """
        generation = await self._current()
        call = call_for(command, self.prepared)
        async with self._turns:
            lane = generation.take()
            keep = False
            try:
                result = await _run(lane, call, command.stdin, on_output)
                keep = not result.ended.leftovers
            finally:
                generation.give_back(lane, keep=keep)
        return result

    async def _current(self) -> _Generation:
        """Return the fork server to use: a new one if the last died or a grant was replaced."""
        async with self._starting:
            old = self._generation
            if old is not None and old.server.alive() and not old.stale():
                return old
            self._generation = await anyio.to_thread.run_sync(self._started)
            if old is not None:
                old.retire()
            return self._generation

    def _started(self) -> _Generation:
        server = ForkServer.start(self._tier)
        directory = None
        try:
            request = self._request.replace(tier=server.tier)
            if server.tier == LANDLOCK and request.tmpdir is None:
                directory = scratch.make(tempfile.gettempdir())
                request = request.replace(tmpdir=directory)
            prepared = load.prepare(request)
            home.ensure(prepared)
            server.configure(prepared.confinement)
        except BaseException:
            server.close()
            if directory is not None:
                scratch.remove(directory)
            raise
        self._current_prepared = prepared
        return _Generation(server, prepared, directory)


class _Generation:
    """A fork server and its lanes, for as long as the objects that were granted stay the same."""

    def __init__(
        self, server: ForkServer, prepared: Prepared, scratch_directory: str | None
    ) -> None:
        self.server = server
        self._scratch = scratch_directory
        self._grants = [
            (grant.source or grant.path, grant.identity)
            for grant in prepared.confinement.grants
            if grant.identity is not None
        ]
        # What can be written is what can be replaced.
        writable = {grant.path for grant in prepared.confinement.grants if grant.access & WRITE}
        self._grants.sort(key=lambda pair: pair[0] not in writable)
        self._idle: list[Lane] = []
        self._busy_count = 0
        self._retired = False

    def stale(self) -> bool:
        """Tell whether a grant's object isn't the one that was judged any more."""
        for path, identity in self._grants[:IDENTITIES_MAX]:
            try:
                status = os.lstat(path)
            except OSError:
                return True
            if (status.st_dev, status.st_ino) != identity:
                return True
        return False

    def take(self) -> Lane:
        """Return a lane that runs nothing.

        Raises:
            LaneLostError: The fork server died.
        """
        lane = self._idle.pop() if self._idle else self.server.lane()
        self._busy_count += 1
        return lane

    def give_back(self, lane: Lane, *, keep: bool) -> None:
        """Take *lane* back; without *keep* it is ended with whatever it still runs."""
        self._busy_count -= 1
        if keep and not self._retired and len(self._idle) < LANES_IDLE_MAX:
            self._idle.append(lane)
        else:
            lane.close()
        self._end_if_unused()

    def retire(self) -> None:
        """End the fork server, once the calls that still use it have ended."""
        self._retired = True
        for lane in self._idle:
            lane.close()
        self._idle.clear()
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if not self._retired or self._busy_count:
            return
        self.server.close()
        if self._scratch is not None:
            scratch.remove(self._scratch)
            self._scratch = None


def call_for(command: Command, prepared: Prepared) -> Call:
    """Return *command* as a call that stays within *prepared*.

    Raises:
        CommandError: It can't be run as given.
    """
    confinement = prepared.confinement
    environment = dict(confinement.environment)
    for name, value in command.environment.items():
        if not name or "=" in name:
            raise CommandError(f"{name!r} can't be the name of an environment variable")
        environment[name] = value
    _check_texts("argv", command.argv)
    _check_texts("env", (*environment, *environment.values()))
    if len(command.stdin) > STDIN_BYTES_MAX:
        raise CommandError(f"stdin has {len(command.stdin)} bytes; at most {STDIN_BYTES_MAX}")
    return Call(
        argv=command.argv,
        environment=tuple(environment.items()),
        cwd=_directory(command.cwd, confinement.cwd),
        limits=_limits(confinement.limits, command.timeout_s),
        narrowing=_narrowing(command, confinement.cwd),
    )


def _check_texts(what: str, texts: tuple[str, ...]) -> None:
    total = 0
    if what == "argv" and not (texts and texts[0]):
        raise CommandError("the command is empty: name a program to run")
    for text in texts:
        try:
            size = len(os.fsencode(text))
        except UnicodeEncodeError as error:
            raise CommandError(
                f"{what} holds a lone surrogate, which no system call takes"
            ) from error
        if "\0" in text:
            raise CommandError(f"{what} holds a NUL character, which no system call takes")
        if size > ARGUMENT_BYTES_MAX:
            raise CommandError(
                f"{what} holds a text of {size} bytes and the kernel takes {ARGUMENT_BYTES_MAX}: "
                f"write it to a file first, or pass it as stdin"
            )
        total += size
    if total > ARGUMENTS_BYTES_MAX:
        raise CommandError(f"{what} has {total} bytes in all; at most {ARGUMENTS_BYTES_MAX}")


def _directory(cwd: str | None, workspace: str) -> str:
    """Return the absolute path of the working directory, which is in the workspace."""
    if cwd is None:
        return workspace
    _check_texts("cwd", (cwd,))
    path = _absolute(cwd, workspace)
    if path != workspace and not path.startswith(workspace.rstrip("/") + "/"):
        raise CommandError(f"cwd {cwd!r} is outside the workspace {workspace}")
    return path


def _absolute(path: str, workspace: str) -> str:
    """Return *path* without `.` and `..`, by its text alone: where it leads the kernel judges."""
    return os.path.normpath(f"{workspace}/{path}" if not path.startswith("/") else path)


def _limits(limits: Limits, timeout_s: float | None) -> Limits:
    if timeout_s is None:
        return limits
    if not math.isfinite(timeout_s) or not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise CommandError(f"timeout_s must be over 0 and at most {TIMEOUT_S_MAX:.0f}")
    bound = timeout_s if limits.wall_s is None else min(timeout_s, limits.wall_s)
    return limits.replace(wall_s=bound)


def _narrowing(command: Command, workspace: str) -> Narrowing:
    writes = command.writes
    if writes is not None:
        _check_texts("writes", ("-", *writes))
        writes = tuple(_absolute(path, workspace) for path in writes)
    return Narrowing(writes=writes, network_closed=command.network_closed)


async def _run(
    lane: Lane, call: Call, stdin: bytes, on_output: Callable[[bytes], None] | None
) -> Result:
    began_at = time.monotonic()
    capture = Capture()
    with _output_of(lane, call, stdin) as output_fd:
        try:
            await _attend(lane, call, output_fd, capture, on_output)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await _end(lane, "cancelled")
            raise
        _drain(output_fd, capture, on_output)
    if lane.ended is None:
        raise LaneLostError("the call ended without a report; run it again")
    return Result(lane.ended, capture, time.monotonic() - began_at, call.cwd)


@contextmanager
def _output_of(lane: Lane, call: Call, stdin: bytes) -> Iterator[int]:
    """Begin *call* and yield the descriptor its output arrives on."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(read_end, False)
        input_fd = _input(stdin)
        try:
            lane.begin(call, (input_fd, write_end, write_end))
        finally:
            os.close(input_fd)
            os.close(write_end)
        yield read_end
    finally:
        os.close(read_end)


def _input(stdin: bytes) -> int:
    if not stdin:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    memfd = os.memfd_create("stdin")
    try:
        os.write(memfd, stdin)
        return os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(memfd)


async def _attend(
    lane: Lane,
    call: Call,
    output_fd: int,
    capture: Capture,
    on_output: Callable[[bytes], None] | None,
) -> None:
    """Take in output until the lane says that the call has ended."""
    with select.epoll() as events:
        events.register(lane.fileno(), select.EPOLLIN)
        events.register(output_fd, select.EPOLLIN)
        output_bytes_max = call.limits.output_bytes_max
        while True:
            await anyio.wait_readable(events.fileno())
            for fd, _ in events.poll(0):
                if fd == lane.fileno():
                    if lane.receive():
                        return
                elif not _read_some(output_fd, capture, on_output):
                    events.unregister(output_fd)
            if output_bytes_max is not None and capture.total_bytes > output_bytes_max:
                lane.end("output")
                output_bytes_max = None


def _read_some(fd: int, capture: Capture, on_output: Callable[[bytes], None] | None) -> bool:
    """Read once; tell whether there may be more to come."""
    try:
        chunk = os.read(fd, _PIPE_BYTES)
    except BlockingIOError:
        return True
    if chunk:
        capture.feed(chunk)
        if on_output is not None:
            on_output(chunk)
    return bool(chunk)


def _drain(fd: int, capture: Capture, on_output: Callable[[bytes], None] | None) -> None:
    """Read what a pipe still holds; its writers are gone, or no business of this call."""
    for _ in range(16):
        before = capture.total_bytes
        if not _read_some(fd, capture, on_output) or capture.total_bytes == before:
            return


async def _end(lane: Lane, reason: str) -> None:
    """Kill the call and wait until nothing is left of it."""
    lane.end(reason)
    with anyio.move_on_after(_KILL_S_MAX), suppress(LaneLostError):
        while not lane.receive():
            await anyio.wait_readable(lane.fileno())
