"""A finished command as a tool's result: a status line, what it printed, and data for machines.

Text comes first: a client that finds structured content shows the model nothing else.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from mcp_types import CallToolResult, TextContent

from nono_mcp.policy.errors import quoted
from nono_mcp.server import changes
from nono_mcp.server.text import amount, duration, excerpt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.guard.action import Action
    from nono_mcp.server.enforcement import Enforcement
    from nono_mcp.session import Result
    from nono_sandbox.confinement import Limits

META_KEY = "nono-mcp/call"
"""Where in a result's `_meta` the data for machines is."""

_ACTIONS_MAX = 20
_DONE = {
    "removed": "taken away again",
    "restored": "put back as it was",
    "left": "changed, and NOT put back",
}
_LIMITS = {
    "wall": "its time limit (timeout_s) was reached",
    "cpu": "it used all the CPU time it may",
    "memory": "it used more memory than it may",
    "processes": "it started more processes than it may",
    "file-size": "it made a file larger than it may",
    "disk": "it added more to the disk than it may",
    "disk-free": "it all but filled the disk it writes to",
    "grant-moved": "a grant was moved away while it ran",
    "output": "it printed more than it may",
}


def plain(text: str, *, is_error: bool = False) -> CallToolResult:
    """Return *text* as a result."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)


def of_command(
    result: Result, limits: Limits, enforcement: Enforcement, hint: str = ""
) -> CallToolResult:
    """Return what a model is told of *result*, a failure of the command included."""
    shown = excerpt(*result.output.ends(), result.output.omitted_bytes)
    warning = f", {enforcement.warning}" if enforcement.warning else ""
    parts = [status_line(result, limits) + warning, shown.head]
    if shown.omitted_bytes:
        parts += [_gap(shown.omitted_bytes, result.id), shown.tail]
    parts += put_right(result.guarded)
    if hint:
        parts.append(f"[nono] {hint}")
    parts.append(changes.of_call(result.changed))
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        _meta={META_KEY: _data(result, shown.omitted_bytes, enforcement)},
    )


def put_right(actions: Sequence[Action]) -> list[str]:
    """Return what a model is told of what was put right after its command."""
    lines = [
        f"[nono] {_DONE[one.action]}: {quoted(one.path)} ({one.what})"
        + (f": {one.why}" if one.why else "")
        for one in actions[:_ACTIONS_MAX]
    ]
    if len(actions) > _ACTIONS_MAX:
        lines.append(f"[nono] and {len(actions) - _ACTIONS_MAX} more")
    if actions:
        lines.append(
            "[nono] Such files run outside the sandbox later, so what a command puts there "
            "doesn't stay. A person can let one be written: start nono serve with --bypass PATH"
        )
    return lines


def status_line(result: Result, limits: Limits) -> str:
    """Return how *result* ended, how long it took, how much it printed, and where."""
    facts = [
        how_it_ended(result, limits),
        duration(result.duration_s),
        f"{amount(result.output.total_bytes)} of output",
        f"in {quoted(result.cwd)}",
    ]
    if result.ended.leftovers:
        facts.append("a process is stuck in the kernel and ends when it returns from there")
    return ", ".join(facts)


def how_it_ended(result: Result, limits: Limits) -> str:
    """Return the exit status, the signal or the limit that ended *result*."""
    ended = result.ended
    if ended.limit:
        reason = _LIMITS.get(ended.limit, f"the limit {ended.limit!r} was reached")
        return f"stopped: {reason}{_bound(ended.limit, limits)}"
    if ended.wait_status is not None and os.WIFSIGNALED(ended.wait_status):
        return f"killed by {_signal_name(os.WTERMSIG(ended.wait_status))} (status {ended.status})"
    return f"exit status {ended.status}"


def _bound(limit: str, limits: Limits) -> str:
    sizes = {
        "memory": limits.memory_bytes_max,
        "file-size": limits.file_size_bytes_max,
        "output": limits.output_bytes_max,
        "disk": limits.disk_bytes_max,
    }
    size = sizes.get(limit)
    if size is not None:
        return f" ({amount(size)})"
    numbers = {"processes": limits.processes_max, "cpu": limits.cpu_s}
    number = numbers.get(limit)
    return "" if number is None else f" ({number:g})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal


def _gap(omitted_bytes: int, job: str) -> str:
    return f"[nono] {omitted_bytes} bytes left out here; read_output has them: job {job}, offset 0"


def _data(result: Result, omitted_bytes: int, enforcement: Enforcement) -> dict[str, object]:
    ended = result.ended
    return {
        "id": result.id,
        "status": ended.status,
        "limit": ended.limit,
        "duration_s": round(result.duration_s, 6),
        "output_bytes": result.output.total_bytes,
        "omitted_bytes": omitted_bytes,
        "cwd": quoted(result.cwd),
        "cpu_s": round(ended.user_s + ended.system_s, 6),
        "memory_bytes_max": ended.memory_bytes_max,
        "tier": enforcement.tier,
        "guarded": [{"path": quoted(one.path), "action": one.action} for one in result.guarded],
        "not_enforced": [one.id for one in enforcement.lacking],
        **changes.data(result.changed),
    }
