"""Spans: the same events, for whoever configured an exporter."""

from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from nono_mcp.audit.spans import SpanReporter, configured_tracer
from tests.audit.adversary import Home


def test_calls_are_spans_in_their_session_and_denials_events_in_their_call(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    home = Home(tmp_path / "state")
    with home.open() as log:
        log.observers.append(SpanReporter(provider.get_tracer("test")))
        with log.session({"client": "x"}) as session:
            start = {"call": "c1", "tool": "run_sandboxed", "decision": "allow"}
            session.append("call.start", {**start, "command": "PASSWORD=hunter22 make"})
            session.append("denial", {"call": "c1", "code": "N1", "target": "/etc/shadow"})
            session.append("call.end", {"call": "c1", "outcome": "timeout"})
    call, whole = exporter.get_finished_spans()
    assert call.name == "execute_tool run_sandboxed"
    assert call.parent is not None
    assert call.parent.span_id == whole.context.span_id
    assert call.attributes is not None
    assert call.attributes["gen_ai.tool.name"] == "run_sandboxed"
    assert call.attributes["gen_ai.operation.name"] == "execute_tool"
    assert "hunter22" not in str(call.attributes)
    assert [event.name for event in call.events] == ["nono.denial"]
    assert not call.status.is_ok
    assert whole.name == "nono session"


def test_inside_a_traced_request_the_request_is_the_parent(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    home = Home(tmp_path / "state")
    with home.open() as log, log.session({}) as session:
        log.observers.append(SpanReporter(tracer))
        with tracer.start_as_current_span("tools/call") as request:
            session.append("call.start", {"call": "c", "tool": "run", "decision": "allow"})
            session.append("call.end", {"call": "c", "outcome": "exit"})
    call = exporter.get_finished_spans()[0]
    assert call.parent is not None
    assert call.parent.span_id == request.get_span_context().span_id
    assert call.status.status_code is not trace.StatusCode.ERROR


def test_without_a_provider_there_is_no_tracer() -> None:
    assert configured_tracer() is None
