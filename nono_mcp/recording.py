"""A session's calls, told to the audit log: the intent before the act, the outcome after it.

Architecture invariant: what can't be recorded isn't done. Nothing here decides anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.policy.digest import sha256
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.toml import emit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.credentials.vault import Use
    from nono_mcp.guard.action import Action
    from nono_mcp.policy.request import Prepared
    from nono_mcp.snapshots.values import Snapshot
    from nono_proxy.records import Record
    from nono_sandbox.call_end import CallEnd
    from nono_sandbox.client import ForkServer
    from nono_sandbox.confinement import Call
    from nono_sandbox.single_run.launching import Launch

_TIMED_OUT = "wall"
_CANCELLED = "cancelled"


def policy_digest(prepared: Prepared) -> str:
    """Return the SHA-256 of the policy in force, as `nono policy show` prints it."""
    try:
        text = emit(prepared.document)
    except PolicyError:
        # A path that isn't UTF-8, which TOML can't write.
        text = repr(prepared.document)
    return sha256(text.encode(errors="surrogateescape"))


def policy_in_force(log: Log | None, prepared: Prepared, server: ForkServer | Launch) -> str:
    """Record under which policy the calls from here on run, and how it's enforced.

    Return the policy's digest.

    Raises:
        AuditWriteError: It isn't in the log. Run nothing.
    """
    digest = policy_digest(prepared)
    enforcement = prepared.document.enforcement
    fields: dict[str, object] = {
        "sha256": digest,
        "tier": server.tier,
        "require": list(enforcement.require),
        "best_effort": bool(enforcement.best_effort),
    }
    if server.reason:
        fields["reason"] = server.reason
    if log is not None:
        log.append("policy", fields)
    return digest


def network(log: Log | None, record: Record, use: Use | None) -> None:
    """Record what the proxy decided of a request, and which credential went out with it.

    Raises:
        AuditWriteError: It isn't in the log. Let nothing more leave.
    """
    if log is None:
        return
    told: dict[str, object] = {
        name: value for name, value in record._asdict().items() if value not in (None, "")
    }
    told.pop("duration_s", None)
    told["duration_us"] = int(record.duration_s * 1e6)
    if record.host is None or record.port is None:
        log.append("denial", told | {"target": record.path or record.entrance or "proxy"})
    else:
        decision = "allow" if record.code == "allowed" else "deny"
        log.append("network", told | {"decision": decision})
    if use is not None:
        used = {"name": record.route or "", "action": "use", "source": use.source}
        log.append(
            "credential", {**used, "fingerprint": use.fingerprint, "call": record.call or ""}
        )


class Recording:
    """One call's records; without a log, none."""

    def __init__(
        self, log: Log | None, call_id: str, tool: str, asked: Mapping[str, object]
    ) -> None:
        self._log = log
        self._call = {"call": call_id}
        self._asked = {"tool": tool, **asked}
        self._began = False
        self._after: dict[str, object] = {}

    def start(
        self,
        call: Call,
        stdin: bytes,
        tier: str,
        policy_sha256: str,
        before: Snapshot | None = None,
    ) -> None:
        """Record what is about to be run, and *before* if that has no record of its own.

        Raises:
            AuditWriteError: It isn't in the log. Don't run it.
        """
        if self._log is None:
            return
        fields: dict[str, object] = {
            **self._asked,
            "decision": "allow",
            "argv": list(call.argv),
            "cwd": call.cwd,
            "policy_sha256": policy_sha256,
            "tier": tier,
            "network": "none" if call.narrowing.network_closed else "session",
        }
        if call.limits.wall_s is not None:
            fields["timeout_ms"] = int(call.limits.wall_s * 1000)
        if call.narrowing.writes is not None:
            fields["writes"] = list(call.narrowing.writes)
        if stdin:
            fields["stdin"] = self._log.commit(stdin)
        if before is not None:
            fields["snapshot"] = _named(before)
        self._log.append("call.start", self._call | fields)
        self._began = True

    def kept(self, after: Snapshot) -> None:
        """Have the record of the call's end tell of a snapshot, which has none of its own."""
        self._after = {"snapshot": _named(after)}

    def refused(self, reason: str) -> None:
        """Record that a call was asked for and will not be run.

        Raises:
            AuditWriteError: It isn't in the log.
        """
        if self._log is not None:
            start = {**self._asked, "decision": "deny", "rule": reason}
            self._log.append("call.start", self._call | start)
            self._log.append("call.end", self._call | {"outcome": "refused"})

    def guarded(self, actions: Iterable[Action]) -> None:
        """Record what was put right after the call, of what it did to what is guarded.

        Raises:
            AuditWriteError: It isn't in the log; it has been put right all the same.
        """
        if self._log is None:
            return
        for action in actions:
            fields = {"action": action.action, "path": action.path, "what": action.what}
            fields |= {"kept_in": action.kept_in} if action.kept_in else {}
            fields |= {"reason": action.why} if action.why else {}
            self._log.append("guard", {**self._call, **fields})

    def acted(self, job: str, what: Mapping[str, object]) -> None:
        """Record what is done to the running call *job*; bytes in *what* are committed to.

        Raises:
            AuditWriteError: It isn't in the log.
        """
        if self._log is None:
            return
        fields = {
            name: self._log.commit(value) if isinstance(value, bytes) else value
            for name, value in what.items()
        }
        start = {**self._asked, "decision": "allow", "job": job, **fields}
        self._log.append("call.start", self._call | start)
        self._log.append("call.end", self._call | {"outcome": "exit"})

    def end(self, ended: CallEnd, duration_s: float, output_bytes: int | None = None) -> None:
        """Record how the call ended; *output_bytes* is None where its output isn't ours to see.

        Raises:
            AuditWriteError: It isn't in the log; the call has ended all the same.
        """
        measured = {"duration_us": int(duration_s * 1e6)}
        if output_bytes is not None:
            measured["output_bytes"] = output_bytes
        self._end(_outcome(ended) | measured)

    def failed(self, error: BaseException, *, cancelled: bool) -> None:
        """Record that nothing of the call is left, and why there is no result.

        Raises:
            AuditWriteError: It isn't in the log; the call has ended all the same.
        """
        if not self._began:
            return  # it waited for its turn, and nothing says that it didn't
        outcome = "cancelled" if cancelled else "error"
        self._end({"outcome": outcome, "reason": f"{type(error).__name__}: {error}"})

    def _end(self, fields: Mapping[str, object]) -> None:
        if self._log is not None:
            self._log.append("call.end", {**self._call, **fields, **self._after})


def _named(snapshot: Snapshot) -> dict[str, object]:
    return {"id": snapshot.id, "root": snapshot.root}


def _outcome(ended: CallEnd) -> dict[str, object]:
    if ended.failure is not None:
        return {"outcome": "refused", "reason": ended.failure[1], "exit_status": ended.status}
    if ended.limit in (_TIMED_OUT, _CANCELLED):
        return {"outcome": "timeout" if ended.limit == _TIMED_OUT else "cancelled"}
    if ended.limit:
        return {"outcome": "limit", "limit": ended.limit}
    if ended.status > 128:  # noqa: PLR2004 - how a shell spells a signal
        return {"outcome": "signal", "signal": ended.status - 128}
    return {"outcome": "exit", "exit_status": ended.status}
