"""Spans for who asked for them, by OpenTelemetry's own environment variables.

Nothing is sent unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT says
where to, or whoever embeds this configured a provider. The SDK's spans of MCP requests go there
too. Where records go is the person's word: a worker's environment has none of these variables.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from nono_mcp.audit.spans import SpanReporter, configured_tracer

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from nono_mcp.audit.log import AuditLog

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def observe(log: AuditLog) -> None:
    """Have what is recorded in *log* reported as spans, if somebody wants them."""
    tracer = configured_tracer() or _by_environment()
    if tracer is not None:
        log.observers.append(SpanReporter(tracer))


def _by_environment() -> Tracer | None:
    wanted = any(os.environ.get(name) for name in ENDPOINTS)
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        # An extra: most do without it, and it takes a quarter of a second to import.
        from opentelemetry import trace  # noqa: PLC0415 - see above
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - see above
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see above
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - see above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - see above
    except ImportError:
        logging.getLogger("nono").warning(
            "OpenTelemetry is configured and its exporter isn't installed: pip install "
            "'nono-mcp[otel]'; no span is sent"
        )
        return None
    provider = TracerProvider(
        resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "nono-mcp")})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return configured_tracer()
