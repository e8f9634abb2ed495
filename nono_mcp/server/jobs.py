"""Commands that go on after their call was answered.

Architecture invariant: a job ends with its session, and has a lane of its own like every call;
their number and what is kept of their output is bounded.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.running import Live
from nono_mcp.server.attending import REFUSALS, refusal
from nono_mcp.server.text import HEAD_BYTES_MAX, TAIL_BYTES_MAX, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nono_mcp.session import Command, Result, Session

JOBS_MAX = 16
"""Jobs of one server that run at once: half of its lanes."""
ENDED_MAX = 16
"""Ended jobs whose output is still there to be read."""
KEPT_BYTES_MAX = 1024 * 1024
"""What is kept of each job's output: its end."""
SHOWN_BYTES_MAX = HEAD_BYTES_MAX + TAIL_BYTES_MAX
CLOSE_S_MAX = 20.0


class Kept:
    """The end of an output, by offsets from its beginning."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._data = bytearray()
        self.end = 0

    @property
    def start(self) -> int:
        """Return the offset of the first byte that is still there."""
        return self.end - len(self._data)

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        self._data += chunk
        self.end += len(chunk)
        if len(self._data) > 2 * self._bytes_max:
            del self._data[: -self._bytes_max]

    def read(self, offset: int, bytes_max: int) -> tuple[int, bytes]:
        """Return what is there from *offset* on, and the offset where it begins."""
        offset = min(max(offset, self.start), self.end)
        first = offset - self.start
        return offset, bytes(self._data[first : first + bytes_max])


class Job:
    """One command that runs, or has run, by itself."""

    def __init__(
        self, command: Command, live: Live, on_change: Callable[[str], None] | None = None
    ) -> None:
        self.command = command
        self._on_change = on_change
        self.live = live
        self.output = Kept()
        self.result: Result | None = None
        self.failure = ""
        """Why there is no result, if there is to be none."""
        self.read_offset = 0
        """Up to where its output was read."""
        self.began_at = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self._changed = anyio.Event()

    @property
    def id(self) -> str:
        """Return the id of its call."""
        return self.live.id

    @property
    def ended(self) -> bool:
        """Tell whether nothing of it runs any more."""
        return self.result is not None or bool(self.failure)

    def feed(self, chunk: bytes) -> None:
        """Take in output."""
        self.output.feed(chunk)
        self.change()

    def change(self) -> None:
        """Wake whoever waits."""
        self._changed.set()
        self._changed = anyio.Event()
        if self._on_change is not None:
            self._on_change(self.id)

    async def wait(self, seconds: float, *, output_after: int | None = None) -> None:
        """Wait until it has ended or (with *output_after*) printed more, for *seconds* at most."""
        with anyio.move_on_after(seconds):
            while not self.ended and (output_after is None or self.output.end <= output_after):
                await self._changed.wait()

    async def end(self) -> None:
        """End it, with all it started."""
        if self.task is not None:
            self.task.cancel()
        with anyio.CancelScope(shield=True):
            await self.wait(CLOSE_S_MAX)


class Jobs:
    """The jobs of one session."""

    def __init__(self, session: Session, *, are_told: bool = True) -> None:
        self._session = session
        self.are_told = are_told
        """Who asks may hear of all of them, and not of the one alone whose id they have."""
        self._jobs: dict[str, Job] = {}
        self.listeners: list[Callable[[str], None]] = []
        """Told the id of a job whose output, or state, has changed."""
        session.stack.push_async_callback(self._close)

    def all(self) -> list[Job]:
        """Return the jobs that are known, the oldest first."""
        return list(self._jobs.values())

    def find(self, id_: str) -> Job:
        """Return the job of that id.

        Raises:
            ToolError: There is none.
        """
        if id_ not in self._jobs:
            known = f"; there are: {', '.join(self._jobs) or 'none'}" if self.are_told else ""
            raise ToolError(f"no job {shortened(id_, 40)!a}{known}")
        return self._jobs[id_]

    def start(self, command: Command, asked: Mapping[str, object], live: Live) -> Job:
        """Start *command*, which goes on by itself.

        Raises:
            ToolError: Too many run already.
        """
        running = [job for job in self._jobs.values() if not job.ended]
        if len(running) >= JOBS_MAX:
            ids = f" ({', '.join(job.id for job in running)})" if self.are_told else ""
            raise ToolError(f"{JOBS_MAX} jobs run already: stop one{ids}")
        job = Job(command, live, self._tell)
        job.task = asyncio.create_task(self._run(job, asked))
        self._jobs[job.id] = job
        self._forget()
        return job

    def keep(self, command: Command, result: Result, output: Kept) -> None:
        """Keep the output of a call that has ended, if it was too long to be shown whole."""
        if output.end <= SHOWN_BYTES_MAX:
            self._jobs.pop(result.id, None)
            return
        job = Job(command, Live(takes_input=False, terminal=False))
        job.live.id, job.result, job.output = result.id, result, output
        self._jobs[result.id] = job
        self._forget()

    def _tell(self, id_: str) -> None:
        for listener in self.listeners:
            listener(id_)

    def _forget(self) -> None:
        ended = [job for job in self._jobs.values() if job.ended]
        for job in ended[: max(0, len(ended) - ENDED_MAX)]:
            del self._jobs[job.id]

    async def _run(self, job: Job, asked: Mapping[str, object]) -> None:
        try:
            job.result = await self._session.run(
                job.command,
                tool="run_sandboxed",
                asked=asked,
                on_output=job.feed,
                live=job.live,
            )
        except REFUSALS as error:
            job.failure = refusal(error)
        except asyncio.CancelledError:
            job.failure = "it was stopped"
            raise
        finally:
            job.failure = job.failure or ("" if job.result else "it failed")
            job.change()

    async def _close(self) -> None:
        tasks = [job.task for job in self._jobs.values() if job.task and not job.ended]
        for task in tasks:
            task.cancel()
        if tasks:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks, timeout=CLOSE_S_MAX)
