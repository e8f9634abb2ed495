"""One run, told to the audit log: what `--audit` adds to `nono run` and `nono shell`.

A run with a way out is recorded by itself; any other where it is asked for or the policy has it
(`[audit] runs`), since signatures and the keychain's client take a tenth of a second to import,
several times what the rest of a start takes. A run that can't be recorded isn't made.

Architecture invariant: the intent is in the log before the program runs.
"""

from __future__ import annotations

import os
import time

from nono_mcp._site import enable_site
from nono_mcp.policy.errors import RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.audit.log import AuditLog
    from nono_mcp.audit.session import Session
    from nono_mcp.cli.attend import Outcome
    from nono_mcp.credentials.vault import Use
    from nono_mcp.guard.action import Action
    from nono_mcp.policy.request import Prepared, Request
    from nono_mcp.recording import Recording
    from nono_mcp.snapshots.values import Snapshot
    from nono_proxy.records import Record
    from nono_sandbox.confinement import Call
    from nono_sandbox.single_run.launching import Launch

_ID_BYTES = 8


class Audited:
    """A run that is in the log already, and is to be told how it ends."""

    def __init__(self, log: AuditLog, session: Session, recording: Recording) -> None:
        self._log = log
        self._session = session
        self._recording = recording
        self._began_at = time.monotonic()

    def kept(self, snapshot: Snapshot) -> None:
        """Record that the workspace is kept as *snapshot*, before the run or after it.

        Raises:
            AuditWriteError: It isn't in the log.
        """
        fields = {"id": snapshot.id, "root": snapshot.root, "reason": snapshot.reason}
        self._session.append(
            "snapshot", fields | ({"call": snapshot.call} if snapshot.call else {})
        )

    def ended(
        self, outcome: Outcome, actions: Iterable[Action], after: Snapshot | None = None
    ) -> str:
        """Record how the run ended, after the guard's *actions*, and close the log.

        *after* is the workspace as it was kept then.

        Return why that failed, if it did.
        """
        from nono_sandbox.call_end import CallEnd

        ended = CallEnd(
            outcome.wait_status,
            outcome.limit,
            outcome.failure,
            *outcome.cpu_s,
            outcome.memory_kib_max * 1024,
            outcome.leftovers,
        )
        duration_s = time.monotonic() - self._began_at

        def record() -> None:
            if after is not None:
                self.kept(after)
            self._recording.end(ended, duration_s)

        return self._close(record, actions)

    def lost(self, error: BaseException, actions: Iterable[Action]) -> str:
        """Record that the run was killed, and close the log."""
        return self._close(lambda: self._recording.failed(error, cancelled=False), actions)

    def network(self, record: Record, use: Use | None) -> None:
        """Record what the proxy decided.

        Raises:
            AuditWriteError: It isn't in the log. Let nothing more leave.
        """
        from nono_mcp.recording import network

        network(self._session, record, use)

    def _close(self, record: Callable[[], None], actions: Iterable[Action]) -> str:
        from nono_mcp.audit.errors import AuditError

        try:
            self._recording.guarded(actions)
            record()
            self._session.close()
            self._log.close()
        except (AuditError, OSError) as error:
            return f"the audit log has no end of this run: {error}"
        return ""


def begin(
    request: Request,
    prepared: Prepared,
    launch: Launch,
    call: Call,
    about: tuple[str, Snapshot | None],
) -> Audited:
    """Record that *call* is about to be run.

    *about* is the command's name, and as what the workspace was kept before it, if it was.

    Raises:
        RefusedError: It isn't in the log. Don't run it.
    """
    enable_site()
    from nono_mcp.audit.errors import AuditError
    from nono_mcp.recording import Recording, policy_in_force

    name, before = about
    try:
        opened, session = open_session(request, name)
        digest = policy_in_force(session, prepared, launch)
        call_id = before.call if before is not None else None
        recording = Recording(session, call_id or os.urandom(_ID_BYTES).hex(), name, {})
        recording.start(call, b"", launch.tier, digest)
        run = Audited(opened, session, recording)
        if before is not None:
            run.kept(before)
    except (AuditError, OSError) as error:
        raise RefusedError(
            f"the run can't be recorded: {error}",
            code="audit.unwritable",
            remedy="without --audit, and with runs = false under [audit], it is run unrecorded",
        ) from error
    return run


def open_session(request: Request, name: str) -> tuple[AuditLog, Session]:
    """Return the log, and a session in it for the command *name*.

    Raises:
        AuditError, OSError: It can't be written.
    """
    from nono_mcp.audit import keystore, log, reading

    info = {"pid": os.getpid(), "program": f"nono {name}", "workspace": request.workspace,
            "profile": request.profile or "default"}  # fmt: skip
    keychain = keystore.find_keychain(reading.directory_of(request.state_dir))
    opened = log.AuditLog.open(request.state_dir, keychain)
    return opened, opened.session(info)
