"""The log in other programs' formats, a line a record: JSON Lines, OCSF 1.3, OTLP logs.

Exports are for search and alarms. What proves is the log itself: each exported record names its
seq and leaf hash, so that it can be found there.

Architecture invariant: this module does no I/O and reads no clock.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from typing import Final

import nono_mcp
from nono_mcp.audit.merkle import leaf_hash
from nono_mcp.audit.record import Record, build_line

FORMATS: Final = ("jsonl", "ocsf", "otlp")
_OCSF_VERSION: Final = "1.3.0"

# kind -> (category, class, activity): OCSF's numbers.
_CLASSES: Final = {
    "call.start": (1, 1007, 1),
    "call.end": (1, 1007, 2),
    "guard": (1, 1001, 3),
    "network": (4, 4001, 6),
    "credential": (6, 6003, 2),
    "session.start": (3, 3002, 1),
    "session.end": (3, 3002, 2),
}
_APPLICATION: Final = (6, 6002, 99)
_FAILURES: Final = frozenset({"signal", "timeout", "limit", "cancelled", "refused", "error"})


def export(records: Iterable[Record], form: str) -> Iterator[str]:
    """Yield each record as one line of *form*.

    Raises:
        ValueError: There's no such form.
    """
    if form not in FORMATS:
        raise ValueError(f"no such format: {form!r}; there are {', '.join(FORMATS)}")
    convert = {"jsonl": _jsonl, "ocsf": _ocsf, "otlp": _otlp}[form]
    for record in records:
        # ASCII: nothing in an export acts on the terminal it's shown in.
        yield json.dumps(convert(record), sort_keys=True, separators=(",", ":"))


def _hash_of(record: Record) -> str:
    return leaf_hash(build_line(record.body, record.signature)).hex()


def _jsonl(record: Record) -> dict[str, object]:
    return {
        "data": record.data,
        "hash": _hash_of(record),
        "kind": record.kind,
        "seq": record.seq,
        "session": record.session,
        "time": record.time,
    }


def _microseconds(record: Record) -> int:
    moment = datetime.fromisoformat(record.time)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _denied(record: Record) -> bool:
    return record.kind == "denial" or record.data.get("decision") == "deny"


def _failed(record: Record) -> bool:
    return _denied(record) or record.data.get("outcome") in _FAILURES


def _ocsf(record: Record) -> dict[str, object]:
    category, kind, activity = _CLASSES.get(record.kind, _APPLICATION)
    event: dict[str, object] = {
        "activity_id": activity,
        "category_uid": category,
        "class_uid": kind,
        "disposition_id": 2 if _denied(record) else 1,
        "message": record.kind,
        "metadata": {
            "log_name": "nono-audit",
            "original_time": record.time,
            "product": {"name": "nono-mcp", "version": nono_mcp.__version__},
            "sequence": record.seq,
            "uid": _hash_of(record),
            "version": _OCSF_VERSION,
        },
        "severity_id": 3 if _denied(record) else 1,
        "status_id": 2 if _failed(record) else 1,
        "time": _microseconds(record) // 1000,
        "type_uid": kind * 100 + activity,
        "unmapped": {"data": record.data, "session": record.session},
    }
    argv = record.data.get("argv")
    command = record.data.get("command")
    if isinstance(argv, list):
        event["process"] = {"cmd_line": " ".join(map(str, argv))}
    elif isinstance(command, str):
        event["process"] = {"cmd_line": command}
    if record.kind == "network":
        endpoint = {"hostname": record.data.get("host"), "port": record.data.get("port")}
        event["dst_endpoint"] = endpoint
    return event


def attributes(record: Record) -> dict[str, str | int | bool]:
    """Return a record as OpenTelemetry attributes, by the gen_ai and mcp names where they exist."""
    found: dict[str, str | int | bool] = {
        "mcp.session.id": record.session,
        "nono.audit.hash": _hash_of(record),
        "nono.audit.seq": record.seq,
    }
    names = {"tool": "gen_ai.tool.name", "call": "gen_ai.tool.call.id", "host": "server.address",
             "port": "server.port", "outcome": "nono.outcome", "decision": "nono.decision",
             "rule": "nono.rule", "exit_status": "process.exit.code"}  # fmt: skip
    for name, value in record.data.items():
        if isinstance(value, str | int | bool):
            found[names.get(name, f"nono.{name}")] = value
    if record.kind.startswith("call."):
        found["gen_ai.operation.name"] = "execute_tool"
    return found


def trace_id(record: Record) -> str:
    """Return the trace of a session: 32 hex digits that follow from its identifier."""
    return sha256(record.session.encode()).hexdigest()[:32]


def span_id(record: Record) -> str:
    """Return the span of a call, or of the session for what belongs to no call."""
    call = record.data.get("call", "")
    return sha256(f"{record.session}/{call}".encode()).hexdigest()[:16]


def _otlp(record: Record) -> dict[str, object]:
    nanoseconds = str(_microseconds(record) * 1000)
    entry = {
        "attributes": [_otlp_pair(*pair) for pair in attributes(record).items()],
        "body": {"stringValue": json.dumps(record.data, sort_keys=True, separators=(",", ":"))},
        "eventName": f"nono.{record.kind}",
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": 13 if _denied(record) else 9,
        "severityText": "WARN" if _denied(record) else "INFO",
        "spanId": span_id(record),
        "timeUnixNano": nanoseconds,
        "traceId": trace_id(record),
    }
    scope = {"name": "nono_mcp.audit", "version": nono_mcp.__version__}
    resource = {"attributes": [_otlp_pair("service.name", "nono-mcp")]}
    logs = [{"logRecords": [entry], "scope": scope}]
    return {"resourceLogs": [{"resource": resource, "scopeLogs": logs}]}


def _otlp_pair(name: str, value: str | int | bool) -> dict[str, object]:  # noqa: FBT001 - OTLP's
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, int):
        # int64 is a string in OTLP's JSON.
        return {"key": name, "value": {"intValue": str(value)}}
    return {"key": name, "value": {"stringValue": value}}
