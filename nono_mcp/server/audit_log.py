"""The audit log of a server: opened before anything runs, closed after all has ended.

Architecture invariant: without a log that can be written there is no server.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread

from nono_mcp import __version__
from nono_mcp.audit.errors import AuditError
from nono_mcp.server.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nono_mcp.audit.log import AuditLog
    from nono_mcp.audit.session import Session as Log
    from nono_mcp.policy.request import Request

PRUNE_EVERY_S = 86_400.0


@asynccontextmanager
async def open_log(
    request: Request, keep_days: int | None = None, of: Mapping[str, str] | None = None
) -> AsyncIterator[Log]:
    """Open the log for the session of *request*; what is older than *keep_days* leaves it.

    Of who shares a server it says whose the session is, as *of* has it.

    Raises:
        ServeError: It can't be written, or isn't what it was; the text says what to do.
        AuditError: The same, found at its end: all has ended, and the log doesn't say so.
    """
    log, session = await anyio.to_thread.run_sync(_open, request, of or {})
    retention = Retention(log, session, keep_days)
    try:
        retention.start()
        yield session
    finally:
        retention.stop()
        _close(log, session)


def _open(request: Request, of: Mapping[str, str]) -> tuple[AuditLog, Log]:
    # The keychain's client and the signatures take a quarter of a second to import.
    from nono_mcp.audit import keystore, log, reading  # noqa: PLC0415 - see above
    from nono_mcp.server.telemetry import observe  # noqa: PLC0415 - likewise

    info = {
        "pid": os.getpid(),
        "program": f"nono serve {__version__}",
        "workspace": request.workspace,
        "profile": request.profile or "default",
        **of,
    }
    try:
        keychain = keystore.find_keychain(reading.directory_of(request.state_dir))
        opened = log.AuditLog.open(request.state_dir, keychain)
        observe(opened)
        return opened, opened.session(info)
    except (AuditError, OSError) as error:
        raise ServeError(f"the audit log can't be written, so nothing may run: {error}") from error


def _close(log: AuditLog, session: Log) -> None:
    from nono_mcp.audit.create import HINT  # noqa: PLC0415 - imported with the log

    try:
        try:
            session.close()
        finally:
            log.close()
    except AuditError as error:
        raise AuditError(f"the audit log has no end of this session: {error}; {HINT}") from error


class Retention:
    """Prunes a log when its server starts, and every day; in a thread, since it verifies first."""

    def __init__(self, log: AuditLog, session: Log, keep_days: int | None) -> None:
        self._log = log
        self._session = session
        self._keep_days = keep_days
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nono-retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End before the next segment is looked at: nothing may use the log after its close."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        from nono_mcp.audit import prune  # noqa: PLC0415 - a session begins without it

        days = prune.KEEP_DAYS if self._keep_days is None else self._keep_days
        while not self._stop.is_set():
            try:
                prune.prune(self._log, self._session, keep_days=days, stop=self._stop.is_set)
            except (AuditError, OSError) as error:
                # What doesn't verify is evidence and stays; calls are recorded all the same.
                logging.getLogger("nono").warning("the audit log wasn't pruned: %s", error)
            self._stop.wait(PRUNE_EVERY_S)
