"""A proxy that runs by itself, from its first listener to its last record.

Architecture invariant: it's in the audit log before anybody may use it, and so is each decision
before it's acted on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
import threading
import time
from dataclasses import replace

from nono_mcp import gateway
from nono_mcp.audit.errors import AuditError
from nono_mcp.cli import audited, say, signals
from nono_mcp.cli.options import FailedError, shown
from nono_mcp.cli.run_proxy import Notes
from nono_mcp.held_scratch import HeldScratch
from nono_mcp.policy import trust_roots
from nono_mcp.policy.errors import RefusedError
from nono_mcp.recording import network, policy_digest
from nono_sandbox import open_files_limit, private
from nono_sandbox.confinement import LANDLOCK
from nono_sandbox.readable import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.credentials.vault import Use
    from nono_mcp.gateway import Gateway
    from nono_mcp.policy.request import Prepared, Request
    from nono_proxy.config import Config
    from nono_proxy.records import Record

GRACE_S = 8.0
"""How long what is under way has to end, once a signal has come."""
TIMED_OUT = 124
NEVER_S = 400 * 86400.0
_LOOK_S = 0.1
_ID_BYTES = 8
_BACKLOG = 1024
_CERTIFICATES, _VARIABLES = "ca.pem", "proxy.env"


class Place:
    """The directory with what programs need: certificates to trust, and their variables.

    One that somebody named is one proxy's at a time: what it writes it takes away at its end.
    """

    def __init__(self, directory: str | None, told_path: str | None, state_dir: str) -> None:
        self._directory = directory
        self._state_dir = state_dir
        self._scratch: HeldScratch | None = None
        self._held: int | None = None
        self._told_path = told_path
        self._written: list[str] = []
        self.path = ""
        """Where programs find the certificates."""

    def open(self) -> None:
        """Make it, and hold it.

        Raises:
            OSError: It can't be made.
            FailedError: Another proxy holds it.
        """
        if self._directory is None:
            parent = os.path.realpath(tempfile.gettempdir())
            self._scratch = HeldScratch(self._state_dir, parent)
        else:
            private.ensure_directories(self._directory)
            self._hold(self._directory)
        self.path = self._told_path or f"{self._where}/{_CERTIFICATES}"

    def _hold(self, directory: str) -> None:
        self._held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedError(f"another nono proxy has its files in {shown(directory)}") from None

    @property
    def _where(self) -> str:
        if self._directory is not None:
            return self._directory
        if self._scratch is None:
            raise RuntimeError("the directory isn't there yet")
        return self._scratch.path

    def fill(self, pem: str) -> None:
        """Write the certificates, for whoever programs run as."""
        self._write(_CERTIFICATES, pem, 0o644)

    def keep(self, variables: Mapping[str, str]) -> None:
        """Write the variables, one a line, if somebody named the directory."""
        if self._directory is not None:
            lines = (f"{name}={value}\n" for name, value in variables.items())
            self._write(_VARIABLES, "".join(lines), 0o600)

    def _write(self, name: str, text: str, mode: int) -> None:
        path = f"{self._where}/{name}"
        fresh = f"{path}.{os.getpid()}"
        with os.fdopen(private.open_file(fresh, private.NEW), "w", encoding="ascii") as file:
            # Whatever the umask says.
            os.fchmod(file.fileno(), mode)
            file.write(text)
        os.replace(fresh, path)
        self._written.append(path)

    def close(self) -> None:
        """Take away what was written."""
        if self._scratch is not None:
            self._scratch.remove()
            return
        for path in self._written:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        if self._held is not None:
            os.close(self._held)


class StandaloneProxy:
    """A proxy without a session: it runs until a signal comes, or the time for it."""

    def __init__(self, request: Request, prepared: Prepared, place: Place, *, quiet: bool) -> None:
        self._request = request
        self._prepared = prepared
        self._place = place
        self._quiet = quiet
        self._notes = Notes()
        self._id = os.urandom(_ID_BYTES).hex()
        # The proxy's thread records too.
        self._recording = threading.Lock()
        self._log: Log | None = None

    def status(
        self,
        where: tuple[str, int],
        known_as: tuple[str, int] | None,
        tell: Callable[[Mapping[str, str]], None],
    ) -> int:
        """Answer at *where* until a signal or the time comes; return the exit status.

        Once it answers, *tell* is given the variables by which programs use it.

        Raises:
            FailedError, RefusedError: Nothing was started.
        """
        arrived = signals.Signals(signals.HUP, signals.INT, signals.TERM)
        try:
            family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
            listener = socket.create_server(where, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise FailedError(f"can't listen at {where[0]}:{where[1]}: {error.strerror}") from None
        with listener, contextlib.ExitStack() as stack:
            self._open_log(stack)
            stack.callback(self._place.close)
            self._place.open()
            running = self._start(listener, known_as)
            stack.callback(running.stop)
            lease = running.mint(self._id)
            variables = dict(running.environment(lease, ()))
            self._place.keep(variables)
            tell(variables)
            return self._attend(running, arrived)

    def _open_log(self, stack: contextlib.ExitStack) -> None:
        """Record that the proxy is about to run, and see to it that its end is."""
        try:
            opened, session = audited.open_session(self._request, "proxy")
            digest = policy_digest(self._prepared)
            session.append("policy", {"sha256": digest})
            call = {"call": self._id, "tool": "proxy", "decision": "allow"}
            session.append("call.start", {**call, "policy_sha256": digest})
        except (AuditError, OSError) as error:
            raise RefusedError(
                f"the proxy can't be recorded: {error}", code="audit.unwritable"
            ) from error
        self._log = session

        def close() -> None:
            try:
                session.append("call.end", {"call": self._id, "outcome": "exit"})
                session.close()
                opened.close()
            except (AuditError, OSError) as error:
                say.note(f"the audit log has no end of this proxy: {error}")

        stack.callback(close)

    def _start(self, listener: socket.socket, known_as: tuple[str, int] | None) -> Gateway:
        gateway.keep_memory_shut()
        open_files_limit.raise_own()
        rules = self._prepared.document.network
        host, port = listener.getsockname()[:2]
        name, named_port = known_as or (f"[{host}]" if ":" in host else host, port)
        return gateway.Gateway.start(
            listener,
            self._config(),
            gateway.vault_for(rules),
            self._place,
            self._heard,
            known_as=(name, named_port or port),
        )

    def _config(self) -> Config:
        # Any program may come to the port, as in the second tier; tokens live as long as this.
        found = trust_roots.config_for(self._prepared, LANDLOCK)
        return replace(found, limits=replace(found.limits, token_s=NEVER_S))

    def _heard(self, record: Record, use: Use | None) -> None:
        with self._recording:
            network(self._log, record, use)
        if not self._quiet:
            self._notes.tell(record)

    def _attend(self, running: Gateway, arrived: signals.Signals) -> int:
        """Wait for a signal or the time; let what is under way end, unless another signal comes."""
        longest_s = self._request.flags.limits.timeout_s
        until = time.monotonic() + (NEVER_S if longest_s is None else longest_s)
        number = 0
        while not number and (left_s := until - time.monotonic()) > 0:
            is_readable(arrived.fileno(), min(left_s, 3600.0))
            number = max(arrived.take(), default=0)
        ending = running.drain(GRACE_S)
        while not ending.done() and not is_readable(arrived.fileno(), _LOOK_S):
            pass
        return 128 + number if number else TIMED_OUT
