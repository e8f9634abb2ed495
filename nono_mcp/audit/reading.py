"""Reading the log: its end, one record, all of them, and figures about it.

A page is read from the end backwards, so its cost depends on what is shown and not on how long
the log is. What is read this way is chained (each line to the next); signatures are `verify`'s.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nono_mcp.audit import display, files
from nono_mcp.audit import record as rec
from nono_mcp.audit.create import DIRECTORY
from nono_mcp.audit.merkle import leaf_hash
from nono_mcp.audit.record import Record
from nono_mcp.audit.snapshot import LogFiles

SCAN_RECORDS_MAX: Final = 20_000
"""How many records one page looks at; a cursor goes on from there."""
PAGE_RECORDS_MAX: Final = 200
PAGE_CHARS_MAX: Final = 10_000


def directory_of(state_dir: str) -> str:
    """Return where the log of a state directory lies."""
    return str(Path(state_dir) / DIRECTORY)


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show; None shows all."""

    session: str | None = None
    """A session's identifier, or how it begins."""
    tool: str | None = None
    """The tool of a call: its start."""
    decision: str | None = None
    """allow or deny; a denial counts as deny."""
    kind: str | None = None
    """A kind, or how it begins: `call`, `session`."""
    call: str | None = None
    grep: str | None = None
    """Text that occurs in the record as stored, whatever the case."""
    since: str | None = None
    """A time as records have it, or how one begins."""

    def wants(self, line: bytes, seen: rec.Glimpse) -> bool:
        """Tell whether a record is one of those, without decoding it if that can be told."""
        if self.session is not None and not seen.session.startswith(self.session):
            return False
        if self.kind is not None and not seen.kind.startswith(self.kind):
            return False
        if self.grep is not None and self.grep.encode().lower() not in line.lower():
            return False
        if self.tool is None and self.decision is None and self.call is None:
            return True
        data = rec.parse(line).data
        decision = "deny" if seen.kind == "denial" else data.get("decision")
        return (
            (self.tool is None or data.get("tool") == self.tool)
            and (self.call is None or data.get("call") == self.call)
            and (self.decision is None or decision == self.decision)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, oldest first, and where to go on."""

    records: tuple[Record, ...]
    cursor: int | None
    """Show records before this seq next; None at the beginning of the log."""
    chained: tuple[int, int] | None
    """From and to which record each was seen to follow from the one before."""
    broken: int | None = None
    """The record that doesn't follow from the one before it: run `verify`."""


def tail(
    state_dir: str,
    filters: Filters,
    limit: int,
    before: int | None = None,
    scan_max: int | None = None,
) -> Page:
    """Return the last *limit* records that *filters* wants, of those before *before*.

    At most *scan_max* records are looked at; the page's cursor goes on from there.

    Raises:
        FileNotFoundError: There is no log.
    """
    found: list[Record] = []
    first = last = broken = None
    following: rec.Glimpse | None = None
    scanned = 0
    with LogFiles.open(directory_of(state_dir)) as log:
        for line in log.backward(before):
            try:
                seen = rec.glimpse(line)
                follows = following is None or following.prev == leaf_hash(line).hex()
            except rec.RecordError:
                broken = first - 1 if first is not None else 0
                break
            if not follows or (following is not None and seen.seq != following.seq - 1):
                broken = following.seq if following is not None else seen.seq
                break
            following = seen
            if before is not None and seen.seq >= before:
                continue
            if filters.since is not None and seen.time < filters.since:
                return Page(tuple(reversed(found)), None, _range(first, last))
            scanned += 1
            first, last = seen.seq, seen.seq if last is None else last
            if filters.wants(line, seen):
                found.append(rec.parse(line))
            if len(found) >= limit or scanned == scan_max:
                break
    cursor = first if first and broken is None else None
    return Page(tuple(reversed(found)), cursor, _range(first, last), broken)


def since(state_dir: str, filters: Filters, seq: int) -> Page:
    """Return the records after *seq* that *filters* wants.

    Raises:
        FileNotFoundError: There is no log.
    """
    found: list[Record] = []
    first = last = None
    with LogFiles.open(directory_of(state_dir)) as log:
        for line in log.backward():
            seen = rec.glimpse(line)
            if seen.seq <= seq:
                break
            first, last = seen.seq, seen.seq if last is None else last
            if filters.wants(line, seen):
                found.append(rec.parse(line))
    return Page(tuple(reversed(found)), None, _range(first, last))


def salt(state_dir: str, session: str) -> bytes:
    """Return the salt of a session's commitments.

    Raises:
        FileNotFoundError: It was erased, so the session's commitments can't be shown any more.
    """
    dir_fd = files.open_directory(directory_of(state_dir), create=False)
    try:
        salts_fd = files.open_directory(files.SALTS, create=False, dir_fd=dir_fd)
    finally:
        os.close(dir_fd)
    try:
        return files.read_file(salts_fd, session, 32)
    finally:
        os.close(salts_fd)


def _range(first: int | None, last: int | None) -> tuple[int, int] | None:
    return None if first is None or last is None else (first, last)


@dataclass(frozen=True, slots=True)
class TextPage:
    """A page as a model reads it."""

    text: str
    cursor: str | None


def tail_text(
    state_dir: str, filters: Filters, cursor: str | None = None, limit: int = 50
) -> TextPage:
    """Return a page as bounded text, every hostile string escaped, newest last.

    Raises:
        ValueError: The cursor or limit is none.
        FileNotFoundError: There is no log.
    """
    if not 1 <= limit <= PAGE_RECORDS_MAX:
        raise ValueError(f"limit must be from 1 to {PAGE_RECORDS_MAX}")
    before = None
    if cursor is not None:
        if not re.fullmatch(r"[0-9]{1,15}", cursor, re.ASCII):
            raise ValueError("cursor isn't one that was returned")
        before = int(cursor)
    page = tail(state_dir, filters, limit, before, SCAN_RECORDS_MAX)
    lines: list[str] = []
    chars = 0
    following = page.cursor
    for record in reversed(page.records):
        line = display.one_line(record)
        if chars + len(line) > PAGE_CHARS_MAX:
            following = record.seq + 1
            break
        lines.append(line)
        chars += len(line) + 1
    lines.reverse()
    lines.append(_status(page))
    if following is not None:
        lines.append(f"older records: cursor {following}")
    return TextPage("\n".join(lines), None if following is None else str(following))


def _status(page: Page) -> str:
    if page.broken is not None:
        return f"WARNING: record {page.broken} doesn't follow; the log was damaged or changed"
    if page.chained is None:
        return "no records"
    first, last = page.chained
    return f"chain checked from record {first} to {last}; signatures not checked: audit_verify"


def show(state_dir: str, seq: int) -> Record | None:
    """Return record *seq*, or None if it isn't there.

    Raises:
        RecordError: What stands there is no record.
        FileNotFoundError: There is no log.
    """
    line = raw_line(state_dir, seq)
    return None if line is None else rec.parse(line)


def raw_line(state_dir: str, seq: int) -> bytes | None:
    """Return the line of record *seq* as stored, or None if it isn't there."""
    with LogFiles.open(directory_of(state_dir)) as log:
        held = [s for s in log.segments if files.first_seq(s.name) <= seq]
        if seq < 0 or not held:
            return None
        segment = held[-1]
        skip = seq - files.first_seq(segment.name)
        for number, line in enumerate(files.lines_forward(segment.fd, 0, segment.size_bytes)):
            if number == skip:
                return line if line.endswith(b"\n") else None
    return None


def read_all(state_dir: str, filters: Filters) -> Iterator[Record]:
    """Yield the records that *filters* wants, oldest first.

    Raises:
        RecordError: A line is no record.
        FileNotFoundError: There is no log.
    """
    with LogFiles.open(directory_of(state_dir)) as log:
        for line in log.forward():
            seen = rec.glimpse(line)
            if filters.since is not None and seen.time < filters.since:
                continue
            if filters.wants(line, seen):
                yield rec.parse(line)


@dataclass(slots=True)
class Stats:
    """Figures about a log."""

    records: int = 0
    size_bytes: int = 0
    segments: int = 0
    first_seq: int = 0
    first_time: str = ""
    last_time: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    sessions: int = 0


def stats(state_dir: str) -> Stats:
    """Count what is in the log, without checking it.

    Raises:
        RecordError: A line is no record.
        FileNotFoundError: There is no log.
    """
    found = Stats()
    kinds: Counter[str] = Counter()
    with LogFiles.open(directory_of(state_dir)) as log:
        found.segments = len(log.segments)
        found.size_bytes = sum(segment.size_bytes for segment in log.segments)
        for line in log.forward():
            seen = rec.glimpse(line)
            if not found.records:
                found.first_seq, found.first_time = seen.seq, seen.time
            found.records += 1
            kinds[seen.kind] += 1
            found.last_time = seen.time
    found.kinds = dict(kinds.most_common())
    found.sessions = kinds[rec.START]
    return found
