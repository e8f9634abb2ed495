"""One verification: follows a log to its end, or as far as it goes, and judges what it saw."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nono_mcp.audit import files, notes
from nono_mcp.audit.chain import BrokenRecordError, Replay, segment_name
from nono_mcp.audit.display import escape
from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.keystore import KEYRING
from nono_mcp.audit.snapshot import LogFiles, Segment

OK: Final = "ok"
FAILED: Final = "failed"
UNCHECKED: Final = "unchecked"
_REASON_CHARS_MAX: Final = 1000

Check = Callable[[bytes, bytes, bytes], bool]


class VerificationError(AuditError):
    """Not all that was asked holds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about one question."""

    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What somebody outside the log remembers of it: its last hash or its root at some size."""

    by: str
    size: int
    hash: str | None = None
    tree_root: bytes | None = None


@dataclass(frozen=True, slots=True)
class Bad:
    """The first record that is wrong."""

    seq: int
    segment: str
    line: int
    reason: str


@dataclass(slots=True)
class Report:
    """All that a verification found."""

    integrity: Verdict
    completeness: Verdict
    trust: Verdict
    log: str
    root: str
    size: int
    head: str
    """The leaf hash of the last good record, which has the seq `size` - 1."""
    first: int
    """The first record that is there; those before it were pruned."""
    bad: Bad | None = None
    warnings: list[str] = field(default_factory=list)

    def require(self, *, trust: bool = True) -> None:
        """Raise unless every verdict asked for is *ok*.

        Raises:
            VerificationError: One isn't.
        """
        asked = ("integrity", "completeness", "trust") if trust else ("integrity", "completeness")
        for name in asked:
            verdict: Verdict = getattr(self, name)
            if verdict.status != OK:
                raise VerificationError(f"{name}: {verdict.status}: {verdict.reason}")


def report_lines(report: Report) -> list[str]:
    """Return a report as lines for a person or a model; nothing in them acts on a reader."""
    named = (
        ("integrity:", report.integrity),
        ("completeness:", report.completeness),
        ("trust:", report.trust),
    )
    lines = [f"{name:14}{v.status}: {escape(v.reason, _REASON_CHARS_MAX)}" for name, v in named]
    which = f"{report.first} to {report.size - 1}" if report.size else "none"
    lines.append(f"{'records:':14}{which}" + (f", root {report.root}" if report.root else ""))
    bad = report.bad
    if bad is not None:
        lines.append(f"{'first bad:':14}record {bad.seq}, {bad.segment}:{bad.line}")
        lines.append(f"{'last good:':14}record {report.size - 1}, {report.head}")
    lines += [f"warning: {escape(warning, _REASON_CHARS_MAX)}" for warning in report.warnings]
    return lines


class Walk:
    """Follows one log; `judge` says what that showed."""

    def __init__(
        self,
        check: Check,
        references: Sequence[Reference],
        anchors: Sequence[bytes],
        *,
        signatures: bool,
    ) -> None:
        self.missing: str | None = None
        """What isn't there, if the walk had to stop for it."""
        self._check = check
        self._signatures = signatures
        self._replay = Replay(check if signatures else None)
        self._anchors = [notes.parse_checkpoint(anchor) for anchor in anchors]
        self._references = [
            *references,
            *(Reference("anchor", a.size, tree_root=a.root) for a in self._anchors),
        ]
        self._sizes = {reference.size for reference in self._references}
        self._seen: dict[int, tuple[str, bytes]] = {}
        self._first = 0
        self._bad: Bad | None = None
        self._warnings: list[str] = []

    def follow(self, found: LogFiles) -> None:
        """Replay the log until its end, or until something is wrong or missing."""
        replay = self._replay
        if not found.segments and not found.pruned:
            self.missing = "the log has no records"
            return
        segments = found.segments
        if found.pruned:
            try:
                replay.feed_pruned(found.pruned)
            except BrokenRecordError as error:
                self._bad = Bad(error.seq, files.PRUNED, 0, error.reason)
                return
            self._first = replay.size
            segments = [s for s in segments if files.first_seq(s.name) >= replay.size]
            if len(segments) < len(found.segments):
                self._warnings.append("pruned segments are still there: removal was cut short")
        self._note_size()
        for segment in segments:
            last = segment is segments[-1]
            if self._bad is None and self.missing is None:
                self._follow_segment(segment, last=last)

    def _follow_segment(self, segment: Segment, *, last: bool) -> None:
        replay = self._replay
        if not replay.open_segment(segment.name):
            expected = replay.ended_by or segment_name(replay.size)
            self.missing = f"{expected} should follow record {replay.size - 1}; {segment.name} does"
            return
        lines = files.lines_forward(segment.fd, 0, segment.size_bytes)
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") and last:
                self._warnings.append(
                    f"a torn write of {len(line)} bytes after record {replay.size - 1}: "
                    "no record; the next writer sets it aside"
                )
                return
            try:
                replay.feed(line)
            except BrokenRecordError as error:
                self._bad = Bad(error.seq, segment.name, number, error.reason)
                return
            if replay.size in self._sizes:
                self._note_size()

    def _note_size(self) -> None:
        self._seen[self._replay.size] = (self._replay.head, self._replay.state.frontier.root())

    def judge(self, root: str | None, unreachable: Sequence[str], *, root_is_weak: bool) -> Report:
        """Return the report; *root* is the fingerprint that is known from elsewhere."""
        replay = self._replay
        self._warn()
        if KEYRING not in replay.state.ratchets:
            unreachable = ()
        elif unreachable and root_is_weak and root == replay.root:
            root = None
        return Report(
            integrity=self._integrity(),
            completeness=self._completeness(unreachable),
            trust=self._trust(root),
            log=replay.log_id,
            root=replay.root,
            size=replay.size,
            head=replay.head,
            first=self._first,
            bad=self._bad,
            warnings=[*unreachable, *self._warnings],
        )

    def _warn(self) -> None:
        replay, warnings = self._replay, self._warnings
        if replay.clock_set_back:
            first, count = replay.clock_set_back[0], len(replay.clock_set_back)
            warnings.append(f"the clock was set back before record {first} ({count} times in all)")
        by_file = [s for s in replay.sessions.values() if s.ratchet != KEYRING and s.fallback]
        if by_file:
            reasons = ", ".join(sorted({str(session.fallback) for session in by_file}))
            warnings.append(
                f"{len(by_file)} sessions were introduced by the key file instead of the "
                f"keychain: {reasons}"
            )
        unended = sum(session.live for session in replay.sessions.values())
        if unended:
            warnings.append(f"{unended} sessions have no end: they run, or were killed")

    def _integrity(self) -> Verdict:
        replay, bad = self._replay, self._bad
        if bad is not None:
            return Verdict(FAILED, f"record {bad.seq} ({bad.segment}:{bad.line}): {bad.reason}")
        if replay.size == 0:
            return Verdict(UNCHECKED, self.missing or "no record")
        if self.missing is not None:
            return Verdict(UNCHECKED, f"ok to record {replay.size - 1}, where the log breaks off")
        checked = "signatures and chain" if self._signatures else "the chain alone"
        return Verdict(OK, f"{checked} of records {self._first} to {replay.size - 1}")

    def _completeness(self, unreachable: Sequence[str]) -> Verdict:
        replay = self._replay
        if self.missing is not None:
            known = self._references or replay.size
            return Verdict(FAILED if known else UNCHECKED, self.missing)
        compared = [self._compare(reference) for reference in self._references]
        failures = [reason for status, reason in compared if status == FAILED]
        reached = [reason for status, reason in compared if status == OK]
        failure = self._anchor_failure() or self._prune_failure() or next(iter(failures), None)
        if failure is not None:
            return Verdict(FAILED, failure)
        doubt = None
        if self._bad is not None:
            doubt = f"stopped at record {self._bad.seq}"
        elif not reached:
            doubt = "nothing remembers how long the log was"
        elif unreachable and not self._anchors:
            doubt = "the keychain, which remembers the log, can't be asked"
        return Verdict(UNCHECKED, doubt) if doubt else Verdict(OK, "; ".join(reached))

    def _prune_failure(self) -> str | None:
        boundary = self._replay.boundary
        if boundary is None or self._bad is not None or self._replay.size > boundary.prune_seq:
            return None
        return f"the prune record {boundary.prune_seq} is missing"

    def _anchor_failure(self) -> str | None:
        replay = self._replay
        if not self._anchors or not replay.log_id:
            return None
        if replay.note_key is None:
            return "the log has no checkpoint key, so the anchor isn't its"
        for anchor in self._anchors:
            try:
                notes.require_signed(anchor, replay.log_id, replay.note_key, self._check)
            except notes.NoteError as error:
                return f"anchor: {error}"
        return None

    def _compare(self, reference: Reference) -> tuple[str, str]:
        """Return whether the log reaches *reference*, and a sentence about it."""
        if reference.size in self._seen:
            last, tree_root = self._seen[reference.size]
            same = reference.hash in {None, last} and reference.tree_root in {None, tree_root}
            if same:
                return OK, f"{reference.by} remembers {reference.size} records: so they are"
            return FAILED, f"{reference.by} remembers other records: up to {reference.size}"
        if reference.size < self._first:
            self._warnings.append(f"{reference.by}: what it remembers was pruned")
            return UNCHECKED, "pruned"
        if self._bad is not None:
            return UNCHECKED, "not reached"
        return FAILED, (
            f"{reference.by} remembers {reference.size} records, "
            f"{reference.size - self._replay.size} more than there are"
        )

    def _trust(self, root: str | None) -> Verdict:
        if not self._replay.root:
            return Verdict(UNCHECKED, "record 0 wasn't read")
        if root is None:
            return Verdict(UNCHECKED, "no root fingerprint is known; give one with --root")
        if root != self._replay.root:
            return Verdict(FAILED, f"its root is {self._replay.root}, not the known {root}")
        if not self._signatures:
            return Verdict(UNCHECKED, "signatures weren't checked")
        if self._bad is not None or self.missing is not None:
            return Verdict(UNCHECKED, "not every record was checked")
        return Verdict(OK, "every key leads back to the known root")
