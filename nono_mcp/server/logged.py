"""The audit log of a server: opened before anything runs, closed after all has ended.

Architecture invariant: without a log that can be written there is no server.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread

from nono_mcp import __version__
from nono_mcp.server.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nono_mcp.audit.log import AuditLog
    from nono_mcp.audit.session import Session as Log
    from nono_mcp.policy.request import Request


@asynccontextmanager
async def open_log(request: Request) -> AsyncIterator[Log]:
    """Open the log for the session of *request*.

    Raises:
        ServeError: It can't be written, or isn't what it was; the text says what to do.
    """
    log, session = await anyio.to_thread.run_sync(_open, request)
    try:
        yield session
    finally:
        session.close()
        log.close()


def _open(request: Request) -> tuple[AuditLog, Log]:
    # The keychain's client and the signatures take a quarter of a second to import.
    from nono_mcp.audit import files, keystore, log, reading  # noqa: PLC0415 - see above

    info = {
        "pid": os.getpid(),
        "program": f"nono serve {__version__}",
        "workspace": request.workspace,
        "profile": request.profile or "default",
    }
    try:
        keychain = keystore.find_keychain(reading.directory_of(request.state_dir))
        opened = log.AuditLog.open(request.state_dir, keychain)
        return opened, opened.session(info)
    except (files.AuditError, OSError) as error:
        raise ServeError(f"the audit log can't be written, so nothing may run: {error}") from error
