"""`nono audit`: read, check and keep the log.

Whatever a record says is escaped before it reaches a terminal; `--json` is ASCII. Exit statuses:
0 all that was asked is so, 1 it isn't or can't be done, 2 wrong usage, 3 it couldn't be checked.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from nono_mcp.audit import export, prune, reading, redact, verify
from nono_mcp.audit.create import restart
from nono_mcp.audit.display import escape, escape_all, one_line
from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.notes import NoteError
from nono_mcp.audit.reading import Filters
from nono_mcp.audit.record import Record, RecordError
from nono_mcp.audit.walk import FAILED, OK, report_lines
from nono_mcp.cli import audit_proofs, say
from nono_mcp.cli.audit_options import keychain, parser

OK_STATUS: Final = 0
FAILED_STATUS: Final = 1
UNCHECKED_STATUS: Final = 3

_FOLLOW_S: Final = 0.2
_VALUE_CHARS_MAX: Final = 20_000


def main(argv: list[str]) -> int:
    """Do what `nono audit ARGV` asks; return the exit status."""
    args = parser().parse_args(argv)
    act = _ACTS[args.command]
    try:
        return act(args)
    except FileNotFoundError:
        return _fail(args, f"no log in {args.state_dir}: nothing has been recorded there yet")
    except BrokenPipeError:
        # Whoever read us has had enough; don't complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK_STATUS
    except (AuditError, RecordError, NoteError, LookupError, ValueError, OSError) as error:
        return _fail(args, str(error))
    except KeyboardInterrupt:
        return 130


def _filters(args: argparse.Namespace) -> Filters:
    return Filters(
        session=args.session,
        tool=args.tool,
        decision=args.decision,
        kind=args.kind,
        call=args.call,
        grep=args.grep,
        since=args.since,
    )


def _line(text: str) -> None:
    say.out(text + "\n")


def _fail(args: argparse.Namespace, reason: str) -> int:
    if args.json:
        say.document({"ok": False, "error": reason})
    say.err(f"error: {escape(reason, 2000)}\n")
    return FAILED_STATUS


def _as_json(record: Record) -> dict[str, object]:
    return {
        "data": record.data,
        "kind": record.kind,
        "seq": record.seq,
        "session": record.session,
        "time": record.time,
    }


def _tail(args: argparse.Namespace) -> int:
    page = reading.tail(args.state_dir, _filters(args), args.n)
    if args.follow:
        for record in _follow(args, page):
            _line(json.dumps(_as_json(record), sort_keys=True) if args.json else one_line(record))
    if args.json:
        say.document(
            {
                "ok": page.broken is None,
                "records": [_as_json(record) for record in page.records],
                "cursor": page.cursor,
                "chained": page.chained,
                "broken": page.broken,
            }
        )
    else:
        for record in page.records:
            _line(one_line(record))
    if page.broken is not None:
        say.err(f"warning: record {page.broken} doesn't follow; run nono audit verify\n")
        return FAILED_STATUS
    return OK_STATUS


def _follow(args: argparse.Namespace, page: reading.Page) -> Iterator[Record]:
    """Yield the page's records, then those that come; with --json that's one a line."""
    yield from page.records
    filters = _filters(args)
    last = page.chained[1] if page.chained else -1
    while True:
        time.sleep(_FOLLOW_S)
        news = reading.since(args.state_dir, filters, last)
        yield from news.records
        last = news.chained[1] if news.chained else last


def _show(args: argparse.Namespace) -> int:
    record = reading.show(args.state_dir, args.seq)
    if record is None:
        return _fail(args, f"record {args.seq} isn't there")
    opened: list[str] | None = None
    if args.check_value is not None:
        salt = reading.salt(args.state_dir, record.session)
        opened = redact.opened_by(record.data, salt, Path(args.check_value).read_bytes())
    if args.json:
        say.document({"ok": opened != [], "record": _as_json(record), "opened": opened})
    else:
        _line(one_line(record))
        shown = escape_all(record.data, _VALUE_CHARS_MAX)
        _line(json.dumps(shown, indent=2, sort_keys=True, ensure_ascii=False))
        if opened is not None:
            found = ", ".join(map(escape, opened)) or "no commitment of this record"
            _line(f"{escape(args.check_value)} is {found}")
    return OK_STATUS if opened != [] else FAILED_STATUS


def _stamps(args: argparse.Namespace, anchors: list[bytes]) -> list[str]:
    """Return a sentence for each anchor's time stamp, all of which hold.

    Raises:
        TimestampError: One doesn't.
    """
    if args.tsa_ca is None:
        return []
    from nono_mcp.audit import timestamp  # the extra's

    found = []
    for name, checkpoint in zip(args.anchor, anchors, strict=True):
        stamp = Path(f"{name}.tsr").read_bytes()
        held = timestamp.check(stamp, checkpoint, Path(args.tsa_ca))
        found.append(f"{name} was there at {held.time.isoformat()}")
    if not found:
        raise timestamp.TimestampError("--tsa-ca goes with --anchor")
    return found


def _verify(args: argparse.Namespace) -> int:
    anchors = [Path(name).read_bytes() for name in args.anchor]
    stamps = _stamps(args, anchors)
    signatures = not args.no_signatures
    if args.directory is not None:
        # A copy: what this machine remembers is of another directory.
        report = verify.verify_files(
            args.directory, root=args.root, anchors=anchors, signatures=signatures
        )
    else:
        report = verify.verify(
            args.state_dir,
            keychain(args),
            root=args.root,
            anchors=anchors,
            signatures=signatures,
        )
    asked = [report.integrity, report.completeness]
    if not args.no_signatures:
        asked.append(report.trust)
    ok = all(verdict.status == OK for verdict in asked)
    if args.json:
        say.document(dict(ok=ok, time_stamps=stamps, **asdict(report)))
    else:
        for line in report_lines(report) + [f"time stamp:   {escape(stamp)}" for stamp in stamps]:
            _line(line)
    # A failure counts whether it was asked about or not.
    if FAILED in {v.status for v in (report.integrity, report.completeness, report.trust)}:
        return FAILED_STATUS
    return OK_STATUS if all(v.status == OK for v in asked) else UNCHECKED_STATUS


def _export(args: argparse.Namespace) -> int:
    records = reading.read_all(args.state_dir, _filters(args))
    for line in export.export(records, args.format):
        _line(line)
    return OK_STATUS


def _prune(args: argparse.Namespace) -> int:
    with (
        AuditLog.open(args.state_dir, keychain(args), create=False) as log,
        log.session({"argv": ["nono", "audit", "prune"], "pid": os.getpid()}) as session,
    ):
        gone = prune.prune(log, session, keep_days=args.keep_days)
    if args.json:
        say.document(dict(ok=True, **asdict(gone)))
    else:
        _line(f"removed {gone.records} records, {gone.size_bytes} bytes")
    return OK_STATUS


def _stats(args: argparse.Namespace) -> int:
    found = reading.stats(args.state_dir)
    if args.json:
        say.document(dict(ok=True, **asdict(found)))
        return OK_STATUS
    _line(f"{found.records} records, {found.size_bytes} bytes in {found.segments} segments")
    _line(f"from record {found.first_seq}, {found.first_time} to {found.last_time}")
    for kind, count in found.kinds.items():
        _line(f"{count:>10}  {kind}")
    return OK_STATUS


def _restart(args: argparse.Namespace) -> int:
    aside = restart(args.state_dir, keychain(args), args.reason)
    if args.json:
        say.document({"ok": True, "set_aside": aside})
    else:
        _line(f"the log that was here is in {escape(aside)}")
    return OK_STATUS


_ACTS: Final = {
    "anchor": audit_proofs.anchor,
    "check": audit_proofs.check,
    "export": _export,
    "prove": audit_proofs.prove,
    "prune": _prune,
    "restart": _restart,
    "show": _show,
    "stats": _stats,
    "tail": _tail,
    "verify": _verify,
}
