"""What changed, what is kept and what was put back, told to a model that pays by the word.

Architecture invariant: this module does no I/O. Every name is quoted: it may be hostile.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nono_mcp.policy.errors import quoted
from nono_mcp.server.text import amount, shortened
from nono_mcp.snapshots.values import NOBODY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.snapshots.values import (
        Change,
        Conflict,
        Difference,
        Outcome,
        Plan,
        Snapshot,
        Unprotected,
    )
    from nono_mcp.undo.values import Changed

ID_DIGITS = 8
"""How much of an id is shown; any beginning that is one snapshot's own will do."""
_NAMED_MAX = 4
_LISTED_MAX = 12
_NAME_CHARACTERS_MAX = 120


def short(snapshot: Snapshot) -> str:
    """Return by what a snapshot is called; whole where no beginning of it will do."""
    return snapshot.id if snapshot.owner == NOBODY else snapshot.id[:ID_DIGITS]


def name(path: bytes) -> str:
    """Return a path of the workspace as text."""
    return shortened(quoted(os.fsdecode(path) or "."), _NAME_CHARACTERS_MAX)


def of_call(changed: Changed | None) -> str:
    """Return one line about what a call changed, or nothing if it changed nothing."""
    if changed is None:
        return ""
    undo = f"undo: rollback {short(changed.before)}"
    if changed.error:
        return f"[nono] what changed isn't known: {shortened(changed.error)}; {undo}"
    if changed.difference is None:
        return ""
    among = ", by this or by calls at the same time" if changed.overlapped else ""
    return f"[nono] changed{among}: {counted(changed.difference)}; {undo}"


def counted(difference: Difference, named_max: int = _NAMED_MAX) -> str:
    """Return how many entries differ, by how much, and the first of them."""
    counts = [
        f"{number} {kind}"
        for kind, number in (
            ("added", difference.added),
            ("modified", difference.modified),
            ("deleted", difference.deleted),
            ("touched", difference.touched),
        )
        if number
    ]
    size = [
        f"{sign}{amount(number)}"
        for sign, number in (("+", difference.bytes_added), ("-", difference.bytes_removed))
        if number
    ]
    sizes = f" ({' '.join(size)})" if size else ""
    total = difference.added + difference.modified + difference.deleted + difference.touched
    names = listed([name(change.path) for change in difference.changes], total, named_max)
    return f"{', '.join(counts)}{sizes}: {names}"


def listed(texts: Sequence[str], count: int, listed_max: int = _LISTED_MAX) -> str:
    """Return the first of *texts*, and how many of *count* aren't among them."""
    shown = list(texts[:listed_max])
    more = count - len(shown)
    return f"{', '.join(shown)} and {more} more" if more > 0 else ", ".join(shown)


def data(changed: Changed | None) -> dict[str, object]:
    """Return what machines are told of a call's changes."""
    if changed is None:
        return {}
    fields: dict[str, object] = {"before": changed.before.id, "before_root": changed.before.root}
    if changed.after is not None:
        fields |= {"after": changed.after.id, "after_root": changed.after.root}
    if changed.error:
        return {"changes": fields | {"error": changed.error}}
    difference = changed.difference
    fields["overlapped"] = changed.overlapped
    for key in ("added", "modified", "deleted", "touched", "bytes_added", "bytes_removed"):
        fields[key] = getattr(difference, key) if difference else 0
    fields["paths"] = [name(change.path) for change in difference.changes] if difference else []
    return {"changes": fields}


def of_snapshot(snapshot: Snapshot) -> str:
    """Return a snapshot as one line."""
    about = [f"{short(snapshot)} {_time(snapshot.time_ns)} {snapshot.reason}"]
    if snapshot.name is not None:
        about.append(f"named {shortened(quoted(snapshot.name), _NAME_CHARACTERS_MAX)}")
    if snapshot.call is not None:
        about.append(f"call {snapshot.call}")
    about.append(f"{snapshot.files_count} files, {amount(snapshot.bytes_total)}")
    if snapshot.unprotected_count:
        about.append(f"{snapshot.unprotected_count} unprotected")
    return ", ".join(about)


def of_change(change: Change) -> str:
    """Return a change as one line."""
    where = f"{change.kind} {name(change.path)}"
    if change.type == "directory":
        where += "/"
    size = ""
    if "content" in change.what or change.kind in ("added", "deleted"):
        size = {
            "added": f" (+{amount(change.size_after)})",
            "deleted": f" (-{amount(change.size_before)})",
        }.get(change.kind, f" ({change.size_before} -> {change.size_after} bytes)")
    other = sorted(change.what - {"content", "time"}) if change.kind == "modified" else []
    return f"{where}{size}" + (f" [{', '.join(other)}]" if other else "")


def difference_lines(found: Difference) -> list[str]:
    """Return what differs, as lines: the counts, then each change that is listed."""
    if not found.changes:
        return ["no difference"]
    lines = [f"{found.added} added, {found.modified} modified, {found.deleted} deleted"]
    lines[0] += f", {found.touched} touched" if found.touched else ""
    lines += [of_change(change) for change in found.changes]
    return [*lines, "(cut: there are more)"] if found.cut else lines


def of_plan(plan: Plan) -> str:
    """Return what a rollback would do, as a few lines."""
    does = "change nothing" if plan.nothing else "do this:"
    lines = [f"rolling back to {of_snapshot(plan.snapshot)} would {does}"]
    lines += _done(
        ("bring back", plan.difference.added),
        ("put back", plan.difference.modified + plan.difference.touched),
        ("remove", plan.difference.deleted),
    )
    lines += [f"  {of_change(change)}" for change in plan.difference.changes[:_LISTED_MAX]]
    more = sum(_counts(plan.difference)) - min(_LISTED_MAX, len(plan.difference.changes))
    lines += [f"  and {more} more"] if more > 0 else []
    return "\n".join([*lines, *_left(plan.kept, (), plan.unprotected)])


def of_outcome(snapshot: str, outcome: Outcome, command: str = "rollback") -> str:
    """Return what a rollback did, as a few lines; *command* is what undoes it."""
    verified = "verified" if outcome.verified else "NOT verified: see the conflicts"
    lines = [f"rolled back to {snapshot[:ID_DIGITS]}, {verified}"]
    for word, paths, count in (
        ("restored", outcome.restored, outcome.restored_count),
        ("removed", outcome.removed, outcome.removed_count),
    ):
        if count:
            lines.append(f"{word} {count}: {listed([name(path) for path in paths], count)}")
    lines += _left(outcome.kept, outcome.conflicts, outcome.unprotected)
    lines.append(f"undo this: {command} {short(outcome.safety)}")
    return "\n".join(lines)


def _left(
    kept: Sequence[Conflict], conflicts: Sequence[Conflict], unprotected: Sequence[Unprotected]
) -> list[str]:
    lines = []
    for word, found in (("kept", kept), ("conflicts", conflicts), ("unprotected", unprotected)):
        if found:
            texts = [f"{name(one.path)} ({one.why})" for one in found[:_LISTED_MAX]]
            lines.append(f"{word} {len(found)}: {listed(texts, len(found))}")
    return lines


def _done(*counts: tuple[str, int]) -> list[str]:
    told = ", ".join(f"{word} {number}" for word, number in counts if number)
    return [told] if told else []


def _counts(difference: Difference) -> tuple[int, int, int, int]:
    return difference.added, difference.modified, difference.deleted, difference.touched


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
