"""A server's life: start, serve, end by whatever comes first.

The SDK takes most of a second to import. That comes last, so that what refuses a start is told
before it, and in a thread, so that signals are heard meanwhile.

Architecture invariant: workers end with this process, however it ends. What is done about
signals here makes that orderly, not true.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from nono_mcp.server.audit_log import open_log
from nono_mcp.server.errors import ServeError
from nono_mcp.session import Session
from nono_sandbox import open_files_limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from nono_mcp.server import Http, ServeOptions

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STDERR = 2
GRACE_S = 0.08
"""How long ending in order may take after a signal: clients kill us after 100 ms."""
SHARED_GRACE_S = 5.0
"""The same where no client started us: service managers wait for 10 s and more."""


def run(options: ServeOptions) -> int:
    """Serve as *options* say and return the exit status; see `nono_mcp.server.main`."""
    _fill_standard_descriptors(options)
    for number in SIGNALS:
        # Until there is a loop to answer them there is nothing to end in order.
        signal.signal(number, signal.SIG_DFL)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="nono: %(message)s")
    return anyio.run(_serve, _with_open_files(options))


def _with_open_files(options: ServeOptions) -> ServeOptions:
    """Let this server open as many files as it may, and what its sessions run as many as before."""
    usual = open_files_limit.raise_own()
    return replace(options, request=options.request.replace(open_files_usual=usual))


def _fill_standard_descriptors(options: ServeOptions) -> None:
    """Put /dev/null where one of the first three descriptors is missing.

    Whatever is opened next would get its number, and what is meant for it.
    """
    missing = []
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        missing.append(fd)
    os.close(fd)
    if options.http is None and {0, 1} & set(missing):
        raise ServeError(
            "MCP needs standard input and output, and one of them isn't open: have an MCP client "
            "start this, or serve by --http"
        )


async def _serve(options: ServeOptions) -> int:
    http = options.http
    ending = Ending() if http is None else Ending(SHARED_GRACE_S, http.drain_s)
    with ending.by_signals():
        if http is not None:
            await _serve_by_http(options, http, ending.draining)
        else:
            await _serve_one(options)
    return ending.status


async def _serve_by_http(options: ServeOptions, http: Http, draining: anyio.Event) -> None:
    # Of what it needs, standard input and output need nothing.
    from nono_mcp.server import listening  # noqa: PLC0415 - see above

    with listening.reached(http) as site:
        shared = await _imported("nono_mcp.server.shared")
        await shared.serve(options, http, site, draining)


async def _serve_one(options: ServeOptions) -> None:
    async with (
        open_log(options.request, options.audit_keep_days) as log,
        Session.open(options.request, tier=options.tier, log=log) as session,
    ):
        for notice in session.prepared.notices:
            logging.getLogger("nono").warning("%s", notice)
        stdio = await _imported("nono_mcp.server.stdio")
        await stdio.serve(session)


async def _imported(name: str) -> ModuleType:
    """Return the module *name*, which imports the SDK."""
    importing = threading.Thread(target=_import, args=(name,), daemon=True)
    importing.start()
    await anyio.to_thread.run_sync(importing.join, abandon_on_cancel=True)
    return importlib.import_module(name)


def _import(name: str) -> None:
    # Hundreds of thousands of objects are made here, and none of them is garbage.
    gc.disable()
    try:
        importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


class Ending:
    """How the server's life ends: by itself, or by a signal."""

    def __init__(self, grace_s: float = GRACE_S, drain_s: float = 0.0) -> None:
        self.status = 0
        self.draining = anyio.Event()
        """A signal came, and what is being done may be done to its end."""
        self._grace_s = grace_s
        self._drain_s = drain_s
        self._scope = anyio.CancelScope()

    @contextmanager
    def by_signals(self) -> Iterator[None]:
        """Run the body, until a signal comes; a second one ends a drain."""
        loop = asyncio.get_running_loop()
        with self._scope:
            for number in SIGNALS:
                loop.add_signal_handler(number, self._on_signal, loop, number)
            yield

    def _on_signal(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self.status = 128 + number
        if self._drain_s and not self.draining.is_set():
            self.draining.set()
            loop.call_later(self._drain_s, self._end)
        else:
            self._end()

    def _end(self) -> None:
        deadline = threading.Timer(self._grace_s, os._exit, (self.status,))
        deadline.daemon = True
        deadline.start()
        self._scope.cancel()
