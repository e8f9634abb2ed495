"""The tools for jobs: what one printed, what it is to read, and its end.

Architecture invariant: what a job is told is recorded before it is told.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.audit.errors import AuditError
from nono_mcp.policy.errors import quoted
from nono_mcp.server import changes, results
from nono_mcp.server.client_info import asked_by
from nono_mcp.server.co_tenants import untold
from nono_mcp.server.text import amount, duration, readable, shortened, whole_characters

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context
    from mcp_types import CallToolResult

    from nono_mcp.guard.action import Action
    from nono_mcp.server.job_arguments import InputArguments, OutputArguments, StopArguments
    from nono_mcp.server.jobs import Job, Jobs
    from nono_mcp.session import Session

READ = (
    "Read what a job printed since you last read it (or from offset, or its tail), and how it "
    "is; without job, list the jobs."
)
READ_ONE = "Read what a job printed since it was last read (or from offset, or its tail)."
SEND = "Send text to a job that was started with keep_stdin or tty; returns its new output."
STOP = "Stop a job and all it started."
OUTPUT_BYTES_MAX = 9000
SEND_S_MAX = 5.0
"""How long a job may take to read what it is sent."""
TERM_S = 2.0
"""How long a job that is asked to end has before it is killed."""
_WAIT_S = 1.0
_COMMAND_CHARACTERS_MAX = 100


class JobTools:
    """The tools for the jobs of one session."""

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session = session
        self._jobs = jobs

    async def read_output(self, arguments: OutputArguments) -> CallToolResult:
        """Tell what a job printed, or which jobs there are.

        Raises:
            ToolError: There is no such job.
        """
        if arguments.job is None and not self._jobs.are_told:
            raise ToolError(untold("say which job"))
        if arguments.job is None:
            lines = [f"{job.id}: {_state(job, self._session)}" for job in self._jobs.all()]
            return results.plain("\n".join(lines) or "no jobs")
        job = self._jobs.find(arguments.job)
        offset = job.read_offset if arguments.offset is None else arguments.offset
        if arguments.wait_s:
            await job.wait(arguments.wait_s, output_after=offset if not arguments.tail else None)
        if arguments.tail:
            offset = job.output.end - arguments.tail
        return results.plain(await of_job(job, self._session, offset))

    async def send_input(self, arguments: InputArguments, context: Context) -> CallToolResult:
        """Send a job text, and tell what it printed then.

        Raises:
            ToolError: There is no such job, it takes no input, or it can't be recorded.
        """
        job = self._jobs.find(arguments.job)
        if not job.live.takes_input:
            raise ToolError(f"job {job.id} {_why_no_input(job)}")
        text = (arguments.text or "").encode()
        before = job.output.end
        self._record(job, {"stdin": text, "end": bool(arguments.end)}, "send_input", context)
        sent = 0
        with anyio.move_on_after(SEND_S_MAX):
            sent = await job.live.write(text)
        if sent < len(text):
            raise ToolError(f"job {job.id} didn't read it all: it may wait for something else")
        if arguments.end:
            await job.live.end_input()
        await job.wait(
            _WAIT_S if arguments.wait_s is None else arguments.wait_s, output_after=before
        )
        return results.plain(await of_job(job, self._session, job.read_offset))

    async def stop_job(self, arguments: StopArguments, context: Context) -> CallToolResult:
        """Signal a job; without a choice, or by KILL, nothing of it is left.

        Raises:
            ToolError: There is no such job, or it can't be recorded.
        """
        job = self._jobs.find(arguments.job)
        name = arguments.signal or "TERM"
        if not job.ended:
            self._record(job, {"signal": name}, "stop_job", context)
            if name != "KILL":
                job.live.signal(int(signal.Signals[f"SIG{name}"]))
                await job.wait(TERM_S)
            if arguments.signal in (None, "KILL"):
                await job.end()
        return results.plain(await of_job(job, self._session, job.read_offset))

    def _record(self, job: Job, what: dict[str, object], tool: str, context: Context) -> None:
        try:
            self._session.acted(job.id, what, tool=tool, asked=asked_by(context))
        except AuditError as error:
            raise ToolError(f"not done, since it can't be recorded: {error}") from error


async def of_job(job: Job, session: Session, offset: int) -> str:
    """Return how *job* is and what it printed from *offset* on, which then counts as read."""
    offset = max(0, offset)
    start, chunk = job.output.read(offset, OUTPUT_BYTES_MAX)
    if not job.ended or start + len(chunk) < job.output.end:
        chunk = whole_characters(chunk)
    end = start + len(chunk)
    job.read_offset = end
    parts = [f"job {job.id}: {_state(job, session)}"]
    if start > offset:
        parts.append(f"[nono] bytes {offset} to {start} aren't kept any more")
    parts.append(readable(chunk).removesuffix("\n"))
    parts += results.put_right(await _put_right(job, session))
    if job.result is not None:
        parts.append(changes.of_call(job.result.changed))
    if end < job.output.end:
        parts.append(f"[nono] more: offset {end} of {job.output.end}")
    return "\n".join(part for part in parts if part)


async def _put_right(job: Job, session: Session) -> tuple[Action, ...]:
    """Put right, before an answer tells of *job*, what it did by now; return what was."""
    if job.result is not None:
        return job.result.guarded
    if job.ended:
        return ()
    try:
        return await session.put_right(job.id, tool="run_sandboxed", asked={})
    except AuditError as error:
        raise ToolError(f"what the job made was put right, but not recorded: {error}") from error


def _why_no_input(job: Job) -> str:
    if job.ended:
        return "has ended"
    if job.live.wants_input:
        return "takes no more input: that was ended"
    return "takes no input: it needs keep_stdin or tty"


def _state(job: Job, session: Session) -> str:
    printed = f"{amount(job.output.end)} of output"
    command = shortened(quoted(" ".join(job.command.argv[-1:])), _COMMAND_CHARACTERS_MAX)
    if job.result is not None:
        limits = session.prepared.confinement.limits
        how = results.how_it_ended(job.result, limits)
        return f"{how}, {duration(job.result.duration_s)}, {printed}, {command}"
    if job.failure:
        return f"{job.failure}, {printed}, {command}"
    return f"running, {duration(time.monotonic() - job.began_at)}, {printed}, {command}"
