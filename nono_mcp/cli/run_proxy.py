"""The proxy of a single run: started before the program, beside the lane, and stopped after it.

Architecture invariant: no thread is started before the last fork.
"""

from __future__ import annotations

from nono_mcp._site import enable_site
from nono_mcp.cli import say
from nono_mcp.policy.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.credentials.vault import Use
    from nono_mcp.policy.request import Prepared, Request
    from nono_proxy.records import Record
    from nono_sandbox.confinement import Call, Confinement
    from nono_sandbox.single_run.launching import Launch

NOTES_MAX = 20
"""How many refusals are told as they happen."""
_CALL = "run"
_TOLD = ("refused", "client")


class Notes:
    """What is told of a proxy's decisions as it makes them."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, record: Record) -> None:
        """Tell of a refusal, unless the same was told or there were many."""
        if record.event not in _TOLD or len(self._told) >= NOTES_MAX:
            return
        where = "" if record.host is None else f"{quoted(record.host)}:{record.port}: "
        detail = record.detail.removeprefix(f"{record.host}:{record.port}: ")
        text = f"the proxy refused: {where}{quoted(detail or record.code)} [{record.code}]"
        if text not in self._told:
            self._told.add(text)
            say.note(text)


class RunProxy:
    """What a run whose policy names hosts has around it; a context manager."""

    def __init__(self, request: Request, *, quiet: bool) -> None:
        enable_site()
        from nono_mcp import gateway

        self._quiet = quiet
        self._notes = Notes()
        self._session_proxy = gateway.SessionProxy(request.tier, request.state_dir)
        self.port = self._session_proxy.port
        """The loopback port that the program has to be allowed, if any."""
        self.record: Callable[[Record, Use | None], None] | None = None
        """Told of every decision, before what was decided is done."""

    def begin(self, launch: Launch, prepared: Prepared, call: Call) -> tuple[Confinement, Call]:
        """Start the proxy; return what to run instead of *call*, and under what.

        Raises:
            OSError, SandboxError: Nothing was started.
        """
        from nono_mcp import gateway
        from nono_mcp.policy import trust_roots
        from nono_sandbox import open_files_limit

        rules = prepared.document.network
        confinement = self._session_proxy.around(prepared.confinement)
        launch.fit(confinement)
        door = -1 if self.port else launch.door(confinement)
        # The lane, which has been forked, keeps the usual limit for its program.
        open_files_limit.raise_own()
        config = trust_roots.config_for(prepared, launch.tier)
        self._session_proxy.begin(config, gateway.vault_for(rules), self._heard, door)
        loan = self._session_proxy.lend(_CALL, call.environment)
        return confinement, call.replace(environment=loan.environment)

    def end(self) -> None:
        """Stop the proxy, and take away what it had."""
        self._session_proxy.end()

    def _heard(self, record: Record, use: Use | None) -> None:
        if self.record is not None:
            self.record(record, use)
        if not self._quiet:
            self._notes.tell(record)
