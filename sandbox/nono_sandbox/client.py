"""The supervisor's side: a fork server, its lanes, and the workers that run in them.

Everything here is synchronous and works on descriptors, so that any event loop can wait for
them. `ForkServer.start` and `.configure` block for milliseconds; nothing else blocks.

Architecture invariant: this side never executes, opens or resolves what an agent named.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from nono_sandbox import system, wire
from nono_sandbox.call_end import CallEnd
from nono_sandbox.cgroups import session_groups
from nono_sandbox.errors import ConfinementError, LaneLostError, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator
    from typing import Any, Self

    from nono_sandbox.cgroups.groups import Group
    from nono_sandbox.confinement import Call, Confinement

START_S_MAX = 20.0
"""How long the fork server may take to answer, on however slow a machine."""
_LOST = "the call's lane died; run it again"
_LOST_TO_MEMORY = "the call's lane died for want of memory; run it again with more"
_SOURCE_ROOT = str(Path(__file__).resolve().parent.parent)


class ForkServer:
    """One session's fork server. Made by `start`, made useful by `configure`, ended by `close`."""

    def __init__(self, process: subprocess.Popen[bytes], control: _socket.socket) -> None:
        self._process = process
        self._control = control
        self.tier = ""
        self.reason = ""
        """Why this isn't the first tier, if it isn't."""
        self.door = -1
        """The listening socket inside the session's network, the caller's to close; or -1."""
        self.groups = session_groups.SessionGroups()
        """What the kernel holds each call's memory and processes to their limits by."""
        self._spawns = self._spawns_in_group = False
        """Lanes start programs themselves, as `lane.Plan` has it."""

    @classmethod
    def start(cls, tier: str | None = None, open_files_usual: int | None = None) -> Self:
        """Start a fork server, insisting on *tier* if one is given.

        Its programs may have *open_files_usual* files open, unless they raise that: of use where
        this process has raised its own limit.

        Raises:
            LaneLostError: It died at once; nothing is left of it.
        """
        # It starts in the group that this process is in by then.
        top, reason = session_groups.make_top()
        ours, theirs = wire.socket_pair()
        # An empty environment: what isn't there can't be read from its memory.
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                system.BACKEND.server,
                _SOURCE_ROOT,
                str(theirs.fileno()),
                tier or "",
                "" if open_files_usual is None else str(open_files_usual),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={},
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        server = cls(process, ours)
        server.groups = session_groups.SessionGroups(top, process.pid, reason)
        (_, server.tier, server.reason), _ = server._answer()
        return server

    @property
    def pid(self) -> int:
        """Return the process id of the fork server."""
        return self._process.pid

    def configure(self, confinement: Confinement) -> None:
        """Make the session's namespaces and rulesets; once.

        Raises:
            ConfinementError: It can't be enforced as it stands; close this fork server.
            LaneLostError: The fork server died.
        """
        wire.send(self._control, "configure", confinement)
        (_, self._spawns, self._spawns_in_group), fds = self._answer()
        self.door = fds[0] if fds else -1

    def _answer(self) -> tuple[tuple[Any, ...], list[int]]:
        self._control.settimeout(START_S_MAX)
        try:
            message, fds = wire.receive(self._control)
        except (wire.ClosedError, TimeoutError) as error:
            self.close()
            raise LaneLostError("the fork server died while it started; try again") from error
        if message[0] == "failed":
            self.close()
            raise ConfinementError(message[1])
        return message, fds

    def lane(self, *, waits: bool = False) -> Lane:
        """Ask for one more lane; *waits*: one that keeps a worker forked ahead of need.

        Raises:
            LaneLostError: The fork server is dead, or there can be no group; close it and start
                another.
        """
        group = self.groups.group()
        control, lane_control = wire.socket_pair()
        requests, theirs = control, [lane_control]
        if waits or not (self._spawns_in_group if group else self._spawns):
            requests, lane_requests = wire.socket_pair()
            theirs.append(lane_requests)
        lane = Lane(control, requests, group)
        fds = [*(each.fileno() for each in theirs), *(group.joining if group else ())]
        try:
            wire.send(self._control, "lane", len(theirs), fds=fds)
        except wire.ClosedError as error:
            lane.close()
            raise LaneLostError("the session's fork server died") from error
        finally:
            for each in theirs:
                each.close()
        control.setblocking(False)  # noqa: FBT003 - the socket's own signature
        return lane

    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the fork server, its lanes and their workers; wait for the fork server."""
        self._control.close()
        try:
            self._process.wait(START_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.groups.close()


class Lane:
    """One lane. It runs one call at a time; `fileno` is readable when it has something to say."""

    def __init__(
        self, control: _socket.socket, requests: _socket.socket, group: Group | None = None
    ) -> None:
        self._control = control
        self._requests = requests
        """Where who waits for a call's program reads; *control*, if that is the lane itself."""
        self.group = group
        """What its calls are held by, if anything is."""
        self.ended: CallEnd | None = None
        self.pidfd = -1
        """The running program's, once it was asked for and came; the lane's to close."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._control.fileno()

    def begin(self, call: Call, stdio: tuple[int, int, int]) -> None:
        """Run *call* on *stdio*, which stays the caller's to close; -1 first is nothing to read.

        Raises:
            LaneLostError: The lane is dead; nothing ran.
        """
        self.ended = None
        self._close_pidfd()
        if self.group is not None:
            self.group.limit(call.limits)
        try:
            if self._requests is self._control:
                wire.send(self._control, "call", call, fds=[fd for fd in stdio if fd >= 0])
                return
            with _something_to_read(stdio) as fds:
                # In this order: who is woken first runs first, and the lane has only to watch.
                wire.send(self._requests, "call", call, fds=fds)
                wire.send(self._control, "begin", call.limits)
        except StartError as error:
            raise LaneLostError(str(error)) from error
        except wire.ClosedError as error:
            raise LaneLostError(self._last_words()) from error

    def end(self, reason: str) -> None:
        """Kill the call, which then ends with *reason* as its limit."""
        self._tell("end", reason)

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group."""
        self._tell("signal", number)

    def ask_pidfd(self) -> None:
        """Have `receive` take in the pidfd of the program, if it still runs then (Linux)."""
        self._tell("pidfd", None)

    def _tell(self, kind: str, what: object) -> None:
        try:
            wire.send(self._control, kind, what)
        except wire.ClosedError:
            return  # the lane is dead, and with it what this was to reach

    def receive(self) -> bool:
        """Take in what the lane has said so far; tell whether the call has ended.

        Raises:
            LaneLostError: The lane died; what it had started was killed.
            StartError: The lane could not be made.
        """
        while self.ended is None:
            try:
                self._take(*wire.receive(self._control))
            except BlockingIOError:
                return False
            except wire.ClosedError as error:
                raise LaneLostError(self._why_lost()) from error
        return True

    def _take(self, message: tuple[Any, ...], fds: list[int]) -> None:
        if message[0] == "broken":
            raise StartError(message[1], 126)
        if message[0] == "pidfd":
            self._close_pidfd()
            (self.pidfd,) = fds
            return
        status, limit, failure, (user_s, system_s), peak_kib, leftovers = message[1:]
        self.ended = CallEnd(status, limit, failure, user_s, system_s, peak_kib * 1024, leftovers)

    def _last_words(self) -> str:
        try:
            while True:
                self._take(*wire.receive(self._control))
        except StartError as error:
            return str(error)
        except (wire.ClosedError, BlockingIOError):
            return self._why_lost()

    def _why_lost(self) -> str:
        if self.group is None:
            return _LOST
        # What it was in charge of may have outlived it for a moment.
        self.group.kill()
        return _LOST_TO_MEMORY if self.group.lost_to_memory() else _LOST

    def close(self) -> None:
        """End the lane and whatever it runs."""
        self._close_pidfd()
        self._control.close()
        self._requests.close()
        if self.group is not None and not self.group.is_closed:
            self.group.close()

    def is_spent(self) -> bool:
        """Tell whether its next call would have less memory than it may, for what others left."""
        return self.group is not None and self.group.is_spent()

    def _close_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@contextmanager
def _something_to_read(stdio: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Yield *stdio*, with /dev/null for what is missing."""
    if stdio[0] >= 0:
        yield stdio
        return
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield null, *stdio[1:]
    finally:
        os.close(null)
