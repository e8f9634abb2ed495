"""What happened as OpenTelemetry spans, for who has an exporter configured.

A session is a span, a call is a span in it (or in the MCP request that the SDK traces), all else
is an event. Spans tell the same as the log, after it is in the log; they prove nothing.
"""

from datetime import datetime
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer

import nono_mcp
from nono_mcp.audit.export import attributes
from nono_mcp.audit.record import END, START, Record

OPEN_SPANS_MAX: Final = 4096
_GOOD: Final = frozenset({"exit"})


def configured_tracer() -> Tracer | None:
    """Return a tracer if somebody configured where spans go, else None."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer("nono_mcp.audit", nono_mcp.__version__)


class SpanReporter:
    """An observer of a log: `log.observers.append(SpanReporter(tracer))`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[tuple[str, str], Span] = {}

    def __call__(self, record: Record) -> None:
        """Report one record."""
        call = str(record.data.get("call", ""))
        now = _nanoseconds(record)
        if record.kind in {START, "call.start"}:
            self._start(record, call, now)
        elif record.kind in {END, "call.end"}:
            self._end(record, call, now)
        else:
            span = self._open.get((record.session, call)) or self._open.get((record.session, ""))
            if span is not None:
                span.add_event(f"nono.{record.kind}", attributes(record), now)

    def _start(self, record: Record, call: str, now: int) -> None:
        tool = str(record.data.get("tool", ""))
        name = f"execute_tool {tool}" if record.kind == "call.start" else "nono session"
        parent = self._open.get((record.session, ""))
        # Inside an MCP request the SDK's span is the parent; outside, the session's.
        inside = trace.get_current_span().get_span_context().is_valid
        context = None if inside or parent is None else trace.set_span_in_context(parent)
        if len(self._open) < OPEN_SPANS_MAX:
            self._open[record.session, call] = self._tracer.start_span(
                name, context, attributes=attributes(record), start_time=now
            )

    def _end(self, record: Record, call: str, now: int) -> None:
        span = self._open.pop((record.session, call), None)
        if span is None:
            return
        span.set_attributes(attributes(record))
        outcome = record.data.get("outcome")
        if outcome is not None and outcome not in _GOOD:
            span.set_status(Status(StatusCode.ERROR, str(outcome)))
        span.end(now)


def _nanoseconds(record: Record) -> int:
    moment = datetime.fromisoformat(record.time)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
