"""`nono snapshot`: keep a workspace as it is, look at what is kept, and keep it in bounds."""

from __future__ import annotations

import os
from dataclasses import asdict

from nono_mcp import places
from nono_mcp.cli import options, say, workspace_snapshots
from nono_mcp.cli.option_values import whole
from nono_mcp.cli.options import Option, UsageError, nearest, shown
from nono_mcp.cli.progress import showing
from nono_mcp.server import changes
from nono_mcp.server.text import amount, readable
from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.values import Retention

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.cli.options import Parsed

LIMIT = Option("--limit", "N")
PATH = Option("--path", "FILE")
QUOTA = Option("--quota", "SIZE")
OPTIONS = (*workspace_snapshots.OPTIONS, LIMIT, PATH, QUOTA)
COMMANDS = ("create", "list", "show", "diff", "delete", "verify", "prune", "usage")
USAGE = f"""\
usage: nono snapshot create [NAME]        keep the workspace as it is; with a name, for good
       nono snapshot list [--limit N]     what is kept, the newest first
       nono snapshot show ID              one of them, and what it doesn't protect
       nono snapshot diff ID [ID] [--path FILE]
                                          what changed between two, or since; or in one file
       nono snapshot delete ID            forget one, a named one too; prune gives its space back
       nono snapshot verify               read all that is kept, of every workspace
       nono snapshot prune [--quota SIZE] thin out old ones, of every workspace
       nono snapshot usage                how much space all that takes

  nono snapshot create 'before the upgrade'
  nono snapshot diff latest --path src/main.py

ID is an id or its beginning, a name, or latest. Going back: nono rollback.

  --limit N                how many lines at most (50)
  --path FILE              the text that changed in FILE
  --quota SIZE             how much space is to be left in use: 2G
{workspace_snapshots.ABOUT}
Exit status: 0 done (verify: everything is whole), 1 not, 2 this usage, 126 refused.
"""
PROGRAM = "nono snapshot"
LIMIT_DEFAULT = 50
LIMIT_MAX = 1_000_000


def main(argv: list[str]) -> int:
    """Do what *argv* says and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    if not parsed.rest:
        raise UsageError("what about snapshots?", f"one of {', '.join(COMMANDS)}")
    name, *operands = parsed.rest
    if name not in _ACTS:
        raise UsageError(f"unknown: snapshot {shown(name)}", nearest(name, COMMANDS))
    act, least, most = _ACTS[name]
    if not least <= len(operands) <= most:
        raise UsageError(f"snapshot {name} takes {_count(least, most)}")
    with workspace_snapshots.failing():
        return act(parsed, operands)


def _count(least: int, most: int) -> str:
    if not most:
        return "no operand"
    return f"{least} to {most} operands" if least != most else f"{most} operand"


def _limit(parsed: Parsed) -> int:
    text = parsed.one(LIMIT.name)
    return LIMIT_DEFAULT if text is None else whole(text, LIMIT.name, LIMIT_MAX)


def _answer(parsed: Parsed, text: str, fields: dict[str, object], *, ok: bool = True) -> int:
    if parsed.flag(options.JSON):
        say.document({"id": "snapshot", "ok": ok, "error": None, **fields})
    else:
        say.out(text + "\n")
    return 0 if ok else 1


def _create(parsed: Parsed, operands: list[str]) -> int:
    with workspace_snapshots.opened(parsed) as opened:
        taken = opened.take(operands[0] if operands else None, PROGRAM)
    return _answer(
        parsed, changes.of_snapshot(taken), {"snapshot": workspace_snapshots.fields_of(taken)}
    )


def _list(parsed: Parsed, _: list[str]) -> int:
    limit = _limit(parsed)
    with workspace_snapshots.opened(parsed) as opened:
        found = opened.snapshots.list(limit=limit)
    text = "\n".join(changes.of_snapshot(one) for one in found) or "no snapshots"
    return _answer(
        parsed, text, {"snapshots": [workspace_snapshots.fields_of(one) for one in found]}
    )


def _show(parsed: Parsed, operands: list[str]) -> int:
    with workspace_snapshots.opened(parsed) as opened:
        found = opened.snapshots.get(operands[0])
    lines = [changes.of_snapshot(found), f"id {found.id}", f"root {found.root}"]
    lines += [f"left out: {changes.name(os.fsencode(text))}" for text in found.exclusions]
    lines += [f"unprotected: {changes.name(one.path)} ({one.why})" for one in found.unprotected]
    return _answer(parsed, "\n".join(lines), {"snapshot": workspace_snapshots.fields_of(found)})


def _diff(parsed: Parsed, operands: list[str]) -> int:
    limit = _limit(parsed)
    with workspace_snapshots.opened(parsed) as opened:
        store = opened.snapshots
        # Before another is taken: `latest` would be that one.
        base = store.get(operands[0]).id
        target = operands[1] if len(operands) > 1 else opened.take(None, PROGRAM).id
        path = parsed.one(PATH.name)
        if path is not None:
            try:
                text = store.text_diff(base, target, os.fsencode(path.strip("/")))
            except FileNotFoundError:
                raise options.FailedError(f"neither has a file {shown(path)}") from None
            return _answer(parsed, readable(text.text.encode()).rstrip("\n"), asdict(text))
        found = store.diff(base, target, limit=limit)
    lines = [changes.of_change(change) for change in found.changes] or ["no difference"]
    lines += ["and more: see --limit"] if found.cut else []
    return _answer(parsed, "\n".join(lines), workspace_snapshots.fields_of(found))


def _delete(parsed: Parsed, operands: list[str]) -> int:
    with workspace_snapshots.opened(parsed) as opened:
        gone = opened.snapshots.get(operands[0])
        with workspace_snapshots.recorded(opened, PROGRAM) as log:
            log.append("snapshot", {"id": gone.id, "root": gone.root, "reason": "deleted"})
        upkeep.delete(opened.state_dir, gone.id)
    return _answer(parsed, f"deleted: {changes.of_snapshot(gone)}", {"deleted": gone.id})


def _verify(parsed: Parsed, _: list[str]) -> int:
    with showing() as hear:
        found = upkeep.verify(places.state_dir(os.environ), progress=hear)
    lines = [f"{found.objects_count} objects, {found.snapshots_count} snapshots"]
    lines += [f"damaged: {one.object} {one.why} {' '.join(one.paths)}" for one in found.damage]
    lines.append("whole" if found.whole else "NOT whole")
    fields = workspace_snapshots.fields_of(found)
    return _answer(parsed, readable("\n".join(lines).encode()), fields, ok=found.whole)


def _prune(parsed: Parsed, _: list[str]) -> int:
    from nono_mcp.policy.bounds import size
    from nono_mcp.policy.errors import PolicyError

    retention = Retention()
    text = parsed.one(QUOTA.name)
    if text is not None:
        try:
            retention = Retention(quota_bytes=size(text))
        except PolicyError as error:
            raise UsageError(f"{QUOTA.name}: {error.message}", error.hint) from None
    with showing() as hear:
        gone = upkeep.prune(places.state_dir(os.environ), retention, progress=hear)
    over = "; still over the quota: only named ones are left" if gone.over_quota else ""
    told = f"{len(gone.removed)} snapshots gone, {amount(gone.freed_bytes)} freed, "
    told += f"{amount(gone.store_bytes)} in use{over}"
    return _answer(parsed, told, workspace_snapshots.fields_of(gone), ok=not gone.over_quota)


def _usage(parsed: Parsed, _: list[str]) -> int:
    found = upkeep.usage(places.state_dir(os.environ))
    counts = f"{found.snapshots_count} snapshots, {found.objects_count} objects"
    lines = [f"{amount(found.store_bytes)}: {counts}"]
    lines += [
        f"{one.snapshots_count:>6}  {changes.name(os.fsencode(one.path))}"
        for one in found.workspaces
    ]
    return _answer(parsed, "\n".join(lines), workspace_snapshots.fields_of(found))


_ACTS: dict[str, tuple[Callable[[Parsed, list[str]], int], int, int]] = {
    "create": (_create, 0, 1),
    "list": (_list, 0, 0),
    "show": (_show, 1, 1),
    "diff": (_diff, 1, 2),
    "delete": (_delete, 1, 1),
    "verify": (_verify, 0, 0),
    "prune": (_prune, 0, 0),
    "usage": (_usage, 0, 0),
}
