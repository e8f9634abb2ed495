"""Retention: whole segments leave from the old end, and the log says so (FORMAT.md section 7)."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nono_mcp.audit import canonical, files
from nono_mcp.audit import record as rec
from nono_mcp.audit.chain import BrokenRecordError, Replay
from nono_mcp.audit.create import line_at, stamp
from nono_mcp.audit.end import AuditTamperedError
from nono_mcp.audit.keys import Checker
from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.session import Session

KEEP_DAYS: Final = 183
"""Six months."""

_DAY_NS: Final = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed."""

    records: int
    size_bytes: int
    segments: tuple[str, ...]


NOTHING: Final = Pruned(0, 0, ())


def prune(
    log: AuditLog,
    session: Session,
    *,
    keep_days: int = KEEP_DAYS,
    stop: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Remove the segments whose last record is older than *keep_days*.

    They are verified first, signatures included: what doesn't verify is evidence, and stays.
    Once *stop* says so, no further segment is looked at.

    Raises:
        AuditTamperedError: They don't verify. Nothing was removed.
        AuditWriteError: The log can't be written. What was announced as pruned may still be there;
            the next prune removes it.
    """
    cutoff = stamp(log.clock() - keep_days * _DAY_NS)
    replay, kept = Replay(Checker()), list[bytes]()
    try:
        names, times, size_bytes, records = _follow_old(
            log.dir_fd, replay, kept, lambda last: last >= cutoff or stop()
        )
    except (BrokenRecordError, rec.RecordError) as error:
        raise AuditTamperedError(f"what is to be pruned doesn't verify: {error}") from error
    if not names:
        return NOTHING
    live = sorted(name for name, known in replay.sessions.items() if known.live)
    data: dict[str, object] = {
        "boundary": {"hash": replay.head, "seq": replay.size, "state": replay.state.to_data()},
        "bytes": size_bytes,
        "from": times[0],
        "keep_days": keep_days,
        "records": records,
        "sessions": live,
        "to": times[1],
    }
    with log.writing():
        receipt = log.put(session, rec.PRUNE, canonical.encode(data))
        log.make_durable()
        line = line_at(log.dir_fd, receipt.seq)
        if line is None:
            raise AuditTamperedError("the prune record vanished")
        files.replace_file(log.dir_fd, files.PRUNED, b"".join([*kept, line]))
    # What is remembered must be of a record that stays, or there's nothing to compare with.
    log.heads.push()
    with log.writing():
        remove(log.dir_fd, replay.size)
    _forget_salts(log.dir_fd, set(replay.sessions) - set(live))
    return Pruned(records, size_bytes, tuple(names))


def remove(dir_fd: int, boundary: int) -> None:
    """Remove the segments before *boundary*, which `pruned.jsonl` vouches for already."""
    for name in files.segments(dir_fd):
        if files.first_seq(name) < boundary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=dir_fd)
    files.durable(dir_fd)


def _follow_old(
    dir_fd: int, replay: Replay, kept: list[bytes], stays: Callable[[str], bool]
) -> tuple[list[str], tuple[str, str], int, int]:
    """Replay the segments that go; *kept* gets the lines that `pruned.jsonl` needs.

    The first stays, and all after it, of whose last record's time *stays* says so.
    """
    with contextlib.suppress(FileNotFoundError):
        pruned = files.read_pruned(dir_fd)
        lines = [line + b"\n" for line in pruned.split(b"\n")[:-1]]
        replay.feed_pruned(lines)
        kept += lines[:-1]
    start, first_time, gone, size_bytes = replay.size, "", list[str](), 0
    names = [name for name in files.segments(dir_fd) if files.first_seq(name) >= start]
    for name in names[:-1]:
        fd = files.open_file(dir_fd, name)
        try:
            end = os.fstat(fd).st_size
            _, last = next(files.lines_backward(fd, end))
            if stays(rec.glimpse(last).time):
                break
            if not replay.open_segment(name):
                raise rec.RecordError(f"{name} doesn't follow")
            for line in files.lines_forward(fd, 0, end):
                record = replay.feed(line)
                first_time = first_time or record.time
                if record.kind in {rec.CREATE, rec.START}:
                    kept.append(line)
        finally:
            os.close(fd)
        gone.append(name)
        size_bytes += end
    return gone, (first_time, replay.last_time), size_bytes, replay.size - start


def _forget_salts(dir_fd: int, sessions: set[str]) -> None:
    # What those sessions' commitments hide can't be shown any more, nor guessed.
    salts_fd = files.open_directory(files.SALTS, create=True, dir_fd=dir_fd)
    try:
        for name in sessions:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=salts_fd)
    finally:
        os.close(salts_fd)
