"""What a server does with its log besides writing: old records leave it, spans leave for whoever
asked for them."""

import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nono_mcp.audit import verify
from nono_mcp.audit.create import HINT
from nono_mcp.cli.failures import FAILED
from nono_mcp.server.audit_log import Retention
from tests.audit.adversary import Home, fill
from tests.server.conftest import Machine, Wire, serving, until

LATER_NS = 4_000_000_000 * 10**9


def names(home: Home) -> list[str]:
    return sorted(path.name for path in home.audit.glob("0*.jsonl"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "state")
    home.write_history()
    return home


def test_what_is_older_than_six_months_leaves_by_itself(home: Home) -> None:
    before = names(home)
    with home.open() as log, log.session({}) as session:
        log.clock = lambda: LATER_NS
        retention = Retention(log, session, None)
        retention.start()
        until(lambda: (home.audit / "pruned.jsonl").exists() and before[0] not in names(home))
        retention.stop()
    report = verify.verify(str(home.path), home.keychain)
    report.require()
    assert report.first > 0


@pytest.mark.parametrize("days", [None, 100_000])
def test_what_is_younger_stays(home: Home, days: int | None) -> None:
    before = names(home)
    with home.open() as log, log.session({}) as session:
        if days is not None:
            log.clock = lambda: LATER_NS
        retention = Retention(log, session, days)
        retention.start()
        retention.stop()
    assert names(home)[: len(before)] == before
    assert not (home.audit / "pruned.jsonl").exists()


def test_what_does_not_verify_stays_and_is_told(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    first = home.audit / names(home)[0]
    first.write_bytes(first.read_bytes().replace(b"make a1", b"fake a1"))
    with home.open() as log, log.session({}) as session:
        log.clock = lambda: LATER_NS
        retention = Retention(log, session, None)
        retention.start()
        until(lambda: "wasn't pruned" in caplog.text)
        retention.stop()
        fill(session, 1, "goes on")
    assert first.exists()


class Collector(http.server.BaseHTTPRequestHandler):
    """An OpenTelemetry collector: takes spans in."""

    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    received: list[ExportTraceServiceRequest] = []
    handler = type("Handler", (Collector,), {"received": received})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.linux
def test_a_server_sends_spans_where_the_environment_says(
    machine: Machine, collector: tuple[str, list[ExportTraceServiceRequest]]
) -> None:
    url, received = collector
    environ = {**machine.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
    environ |= {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    wire = Wire(serving(machine), environ)
    try:
        wire.initialize()
        wire.text(wire.run("env; exit 5"))
        until(lambda: "execute_tool run_sandboxed" in spans(received))
        call = spans(received)["execute_tool run_sandboxed"]
        shown = wire.text(wire.run("env"))
    finally:
        wire.close()
    assert ("gen_ai.tool.name", "run_sandboxed") in call
    assert ("process.exit.code", "5") in call
    # The SDK's own span of the request is there too.
    assert any("tools/call" in name for name in spans(received))
    assert "OTEL" not in shown


def spans(received: list[ExportTraceServiceRequest]) -> dict[str, set[tuple[str, str]]]:
    return {
        span.name: {
            (pair.key, pair.value.string_value or str(pair.value.int_value))
            for pair in span.attributes
        }
        for request in list(received)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def remove(audit: Path) -> None:
    shutil.rmtree(audit)


def cut(audit: Path) -> None:
    os.truncate(max(audit.glob("0*.jsonl")), 100)


@pytest.mark.linux
@pytest.mark.parametrize(
    ("tamper", "told"),
    [(remove, "was removed or replaced"), (cut, "became shorter")],
    ids=["removed", "cut"],
)
def test_a_server_whose_log_isnt_what_it_was_says_so_at_its_end(
    machine: Machine, wire: Wire, tamper: Callable[[Path], None], told: str
) -> None:
    wire.initialize()
    tamper(machine.root / "state" / "nono" / "audit")
    wire.close_input()
    assert wire.wait() == FAILED
    # What is pruned meanwhile may have been at the log too.
    assert wire.errors().splitlines()[-1] == (
        f"nono serve: the audit log has no end of this session: the log's file {told}; {HINT}"
    )
