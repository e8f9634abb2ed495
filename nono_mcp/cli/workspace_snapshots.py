"""A workspace's snapshots as the command line has them: opened, put back, told of.

Architecture invariant: nothing is put back without a yes, by --yes or by the person, and nothing
while a call of a server, or a `nono run --rollback`, runs in the workspace.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import asdict

from nono_mcp.cli import options, policy_flags, say
from nono_mcp.cli.options import FailedError, Option
from nono_mcp.cli.progress import showing
from nono_mcp.policy import layers
from nono_mcp.policy.document import Document, merge
from nono_mcp.server import changes
from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.snapshots.restore_lock import RestoreLock
from nono_mcp.snapshots.values import Dirty, Unsure
from nono_mcp.undo import rolling
from nono_mcp.undo.opening import open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import DataclassInstance

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.cli.options import Parsed
    from nono_mcp.policy.document import SnapshotsSection
    from nono_mcp.policy.request import Request
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import Outcome, Phase, Plan, Reason, Snapshot
    from nono_mcp.undo.values import Wanted

WORKSPACE = Option("--workspace", "DIR")
PROFILE = Option("--profile", "NAME")
OPTIONS = (WORKSPACE, PROFILE, policy_flags.BROAD, options.JSON, options.HELP)
ABOUT = """\
  --workspace DIR          the workspace (the current directory)
  --profile NAME           the policy whose [snapshots] says what is left out
  --unsafe-broad-workspace
                           a workspace that is / or a home is meant
  --json                   answer in JSON
"""
_CHANGING: tuple[Phase, ...] = ("apply", "verify")
"""Phases of a rollback in which the workspace isn't as it was before any more."""


class WorkspaceSnapshots:
    """The snapshots of one workspace, open."""

    def __init__(self, snapshots: Snapshots, restore_lock: RestoreLock, request: Request) -> None:
        self.snapshots = snapshots
        self.workspace = request.workspace
        self.state_dir = request.state_dir
        self.restore_lock = restore_lock
        self.interrupted: Phase | None = None
        """How far a rollback was that the person interrupted, if one was begun."""

    def take(self, name: str | None, program: str) -> Snapshot:
        """Keep the workspace as it is, and record that.

        Raises:
            FailedError, SnapshotError: It isn't kept, or it isn't in the log.
        """
        with showing() as hear:
            reason: Reason = "auto" if name is None else "named"
            taken = self.snapshots.take(reason, name=name, dirty=self.dirty(), progress=hear)
        with recorded(self, program) as log:
            log.append("snapshot", {"id": taken.id, "root": taken.root, "reason": taken.reason})
        return taken

    def dirty(self) -> Dirty | None:
        """Return what to look at, which is everything, and whether a server's call runs."""
        runs = self.restore_lock.runs_elsewhere()
        return Dirty(rescan=frozenset({b""}), unsure=Unsure()) if runs else None

    def roll_back(self, wanted: Wanted, log: Log, agreed: Plan | None = None) -> Outcome:
        """Put back what is *wanted*; if the person *agreed* to a plan, as that says.

        Raises:
            FailedError, SnapshotError: The error says in what state the workspace is.
        """
        if not self.restore_lock.be_alone():
            raise FailedError(
                "something runs in this workspace, a server's call or nono run --rollback: "
                "nothing was put back"
            )
        with showing() as hear:
            try:
                return rolling.roll_back(
                    self.snapshots, wanted, log, agreed=agreed, on_progress=hear
                )
            except KeyboardInterrupt:
                self.interrupted = hear.phase or "scan"
                raise
            finally:
                self.restore_lock.let_in()


@contextmanager
def opened(parsed: Parsed) -> Iterator[WorkspaceSnapshots]:
    """Open the snapshots of the workspace that *parsed* means, under its policy.

    Raises:
        FailedError, PolicyError, RefusedError: They aren't to be had, or what is done with them
            failed.
    """
    request = policy_flags.request(parsed, os.path.realpath(parsed.one(WORKSPACE.name) or "."))
    document = Document()
    for layer in layers.layers_of(request, request.workspace)[0]:
        document = merge(document, layer.document)
    broad = bool(document.snapshots.broad) or parsed.flag(policy_flags.BROAD)
    with failing(), open_at(request, document.snapshots, broad=broad) as kept:
        yield kept


@contextmanager
def open_at(
    request: Request, section: SnapshotsSection, *, broad: bool
) -> Iterator[WorkspaceSnapshots]:
    """Open the snapshots of the workspace of *request*, and complete what was interrupted there.

    Raises:
        PolicyError, RefusedError, SnapshotError: They aren't to be had.
    """
    remedy = f"add {policy_flags.BROAD.name}, if it is meant"
    where = request.state_dir, request.workspace
    restore_lock = RestoreLock(request.state_dir, request.workspace)
    kept: WorkspaceSnapshots | None = None
    try:
        with open_store(*where, section, broad=broad, remedy=remedy) as snapshots:
            _recover(snapshots, restore_lock)
            kept = WorkspaceSnapshots(snapshots, restore_lock, request)
            yield kept
    except KeyboardInterrupt:
        if kept is not None and kept.interrupted is not None:
            # By a store of its own: what the other was in the middle of isn't known.
            with open_store(*where, section, broad=broad, remedy=remedy) as snapshots:
                _complete(snapshots, restore_lock, kept.interrupted)
        raise
    finally:
        restore_lock.close()


def _complete(snapshots: Snapshots, restore_lock: RestoreLock, phase: Phase) -> None:
    """Leave nothing half put back where a rollback was interrupted, and say how it ended.

    Whoever is too impatient for this too has it done by the next command.
    """
    if phase in _CHANGING:
        say.note("interrupted in the middle: it's completed first; interrupt again to leave it")
    if not _recover(snapshots, restore_lock):
        put_back = "nothing was" if phase != "verify" else "all was"
        say.note(f"interrupted: {put_back} put back")


def _recover(snapshots: Snapshots, restore_lock: RestoreLock) -> bool:
    """Complete what was interrupted, unless something runs; tell whether that was needed."""
    if not restore_lock.be_alone():
        return False
    try:
        outcome = snapshots.recover()
    finally:
        restore_lock.let_in()
    if outcome is not None:
        say.note(f"a rollback that was interrupted is completed; {ending(outcome)}")
    return outcome is not None


@contextmanager
def failing() -> Iterator[None]:
    """Turn what snapshots raise into what a person can do something about."""
    try:
        yield
    except SnapshotError as error:
        raise FailedError(str(error)) from error


@contextmanager
def recorded(request: WorkspaceSnapshots, program: str) -> Iterator[Log]:
    """Open the audit log for what *program* is about to do.

    Raises:
        FailedError: It can't be written. Do nothing.
    """
    from nono_mcp.audit import keystore, log, reading
    from nono_mcp.audit.errors import AuditError

    try:
        keychain = keystore.find_keychain(reading.directory_of(request.state_dir))
        with log.AuditLog.open(request.state_dir, keychain) as opened_log:
            info = {"pid": os.getpid(), "program": program, "workspace": request.workspace}
            with opened_log.session(info) as session:
                yield session
    except AuditError as error:
        raise FailedError(f"the audit log can't be written: {error}") from error


def agreed(question: str) -> bool:
    """Ask the person at the terminal, and tell whether the answer is yes."""
    say.err(f"{question} [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def ending(outcome: Outcome) -> str:
    """Return what came of a rollback, on one line."""
    verified = "verified" if outcome.verified else "NOT verified"
    return (
        f"{outcome.restored_count} restored, {outcome.removed_count} removed, {verified}; "
        f"undo by nono rollback {changes.short(outcome.safety)}"
    )


def fields_of(value: DataclassInstance) -> dict[str, object]:
    """Return *value* as JSON can say it; names are text as a shell would take it."""
    return {key: _plain(one) for key, one in asdict(value).items()}


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return changes.name(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, frozenset):
        return sorted(map(str, value))
    return value
