"""`nono proxy`: people's programs use it by what it printed, and others don't."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.upstream import Upstream

from .conftest import LONG_ENOUGH_S, NONO, PATH, Person, eventually, with_many_left_open

pytestmark = pytest.mark.linux
KEY = "REALKEY-" + os.urandom(12).hex()
KEY_OF_OPENAI = "openai=env://REAL_ONE"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream.running() as server:
        yield server


class Proxy:
    """A proxy that runs, and what it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        # It's closed by the proxy, which goes on.
        self.printed = process.stdout.read()

    def ask(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script that knows of it by what it printed alone."""
        return subprocess.run(
            ["sh", "-c", self.printed + script],
            env={"PATH": PATH, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG_ENOUGH_S,
        )

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal; return its status, and what it told."""
        self.process.send_signal(number)
        told = self.process.communicate(timeout=LONG_ENOUGH_S)[1]
        return self.process.returncode, told


Start = Callable[..., Proxy]


@pytest.fixture
def start(person: Person, upstream: Upstream) -> Iterator[Start]:
    """Return what starts a proxy whose openai is on the loopback."""
    profile = person.home / ".config" / "nono" / "profiles" / "llm.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text(
        '[network]\nallow_addresses = ["127.0.0.0/8"]\n'
        f'[network.routes.openai]\nupstreams = ["127.0.0.1:{upstream.server_port}"]\ntls = false\n'
    )
    profile.chmod(0o600)
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, by: Sequence[str] = ()) -> Proxy:
        process = subprocess.Popen(
            [*by, NONO, "proxy", "--profile", "llm", "--credential", KEY_OF_OPENAI, *words],
            cwd=person.workspace,
            env=person.environment(REAL_ONE=KEY, TMPDIR=str(person.home)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Proxy(process)

    yield start
    for process in started:
        with process:
            process.kill()


MODELS = 'curl -sS -w "%{http_code}" $OPENAI_BASE_URL/models -H "Authorization: Bearer '


def test_programs_use_it_and_a_key_that_they_never_hold(
    person: Person, upstream: Upstream, start: Start
) -> None:
    proxy = start("--allow-domain", f"127.0.0.1:{upstream.server_port}")
    here = f"http://127.0.0.1:{upstream.server_port}/page"
    used = proxy.ask(MODELS + f'$OPENAI_API_KEY"; curl -sS {here}; env')
    assert "*" * len(KEY) in used.stdout, used.stderr
    assert KEY not in used.stdout + proxy.printed
    refused = proxy.ask(f'{MODELS}sk-made-up"; curl -s -w "%{{http_code}}" http://other.test/')
    assert "401" in refused.stdout
    assert '"host-not-allowed"' in refused.stdout
    without = proxy.ask(
        f'http_proxy=$(echo $http_proxy | sed "s,nono:.*@,,") curl -s -w "%{{http_code}}" {here}'
    )
    assert without.stdout.endswith("407")
    assert [path for _, path, _ in upstream.heard] == ["/v1/models", "/page"]
    assert [headers.get("authorization") for _, _, headers in upstream.heard] == [
        f"Bearer {KEY}",
        None,
    ]
    status, told = proxy.end()
    assert status == 128 + signal.SIGTERM
    assert "the proxy refused: other.test:80" in told
    assert KEY not in told
    # Nobody answers any more, and nothing is left but the records.
    assert proxy.ask(MODELS + '$OPENAI_API_KEY"').returncode == 7
    assert not [path for path in person.home.iterdir() if path.name.startswith("nono-")]


def test_every_decision_is_in_the_log(person: Person, upstream: Upstream, start: Start) -> None:
    proxy = start()
    proxy.ask(MODELS + '$OPENAI_API_KEY"; curl -s http://other.test/')
    proxy.end(signal.SIGINT)
    exported = person.nono("audit", "export", "--no-keychain")
    records = [json.loads(line) for line in exported.stdout.splitlines()]
    kinds = [record["kind"] for record in records]
    order = ("policy", "call.start", "network", "credential", "call.end", "session.end")
    assert [kind for kind in kinds if kind in order] == [
        *("policy", "call.start", "network", "credential", "network", "call.end", "session.end")
    ], exported.stderr
    assert f'"port":{upstream.server_port}' in exported.stdout
    assert "env://REAL_ONE" in exported.stdout
    assert KEY not in exported.stdout
    assert "sk-nono" not in exported.stdout
    assert person.nono("audit", "verify", "--no-keychain").returncode == 0


def test_what_a_container_needs_is_in_a_directory(person: Person, start: Start) -> None:
    place = person.workspace / "run"
    proxy = start("--into", "run", "--ca-path", "/ca.pem", "--address", "localhost")
    variables = dict(line.split("=", 1) for line in (place / "proxy.env").read_text().splitlines())
    assert variables["SSL_CERT_FILE"] == "/ca.pem"
    assert "BEGIN CERTIFICATE" in (place / "ca.pem").read_text()
    assert (place / "proxy.env").stat().st_mode & 0o777 == 0o600
    assert (place / "ca.pem").stat().st_mode & 0o777 == 0o644
    assert variables["OPENAI_BASE_URL"].startswith("http://localhost:")
    # By its name it is itself too, for who asks for a base URL by way of the proxy.
    asked = subprocess.run(
        ["curl", "-sS", variables["OPENAI_BASE_URL"] + "/models",
         "-H", f"Authorization: Bearer {variables['OPENAI_API_KEY']}"],
        env={"PATH": PATH, **variables},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert "*" * len(KEY) in asked.stdout, asked.stderr
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    second = start("--into", "./run").process
    told = second.communicate(timeout=LONG_ENOUGH_S)[1]
    assert second.returncode == 1
    assert "another nono proxy has its files in" in told
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    proxy.end()
    assert list(place.iterdir()) == []


class Slow(ThreadingHTTPServer):
    """A provider whose answer ends when the test says so."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.begun, self.may_end = threading.Event(), threading.Event()


class _SlowHandler(BaseHTTPRequestHandler):
    server: Slow

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"begun")
        self.wfile.flush()
        self.server.begun.set()
        self.server.may_end.wait(LONG_ENOUGH_S)
        self.wfile.write(b"-end")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def slow() -> Iterator[Slow]:
    with Slow() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.may_end.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("twice", ["once", "twice"])
def test_what_is_under_way_may_end_unless_it_is_told_twice(start: Start, twice: str) -> None:
    with slow() as server:
        here = f"127.0.0.1:{server.server_port}"
        proxy = start("--allow-domain", here)
        address = proxy.printed.partition("export http_proxy=")[2].split()[0].rpartition("@")[2]
        host, _, port = address.partition(":")
        answers: list[str] = []
        script = f"curl -sS http://{here}/"
        asking = threading.Thread(target=lambda: answers.append(proxy.ask(script).stdout))
        asking.start()
        assert server.begun.wait(LONG_ENOUGH_S)
        proxy.process.send_signal(signal.SIGTERM)
        # Nobody new is let in.
        assert eventually(lambda: closed(host, int(port)))
        if twice == "twice":
            proxy.process.send_signal(signal.SIGTERM)
        else:
            server.may_end.set()
        status = proxy.process.wait(LONG_ENOUGH_S)
        asking.join()
    assert answers == ["begun" if twice == "twice" else "begun-end"]
    assert status == 128 + signal.SIGTERM


def closed(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_it_ends_by_itself_whatever_its_parent_left_open(start: Start) -> None:
    proxy = start("--timeout", "0.2", "--json", by=with_many_left_open())
    assert json.loads(proxy.printed)["environment"]["NO_PROXY"] == ""
    assert proxy.process.wait(LONG_ENOUGH_S) == 124


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], 2),
        (["--allow-domain", "a.test", "--listen", "0.0.0.0:0"], 2),
        (["--allow-domain", "a.test", "--address", "a b"], 2),
        (["--allow-domain", "a.test", "--listen", "x"], 2),
        (["--allow-domain", "a.test", "--listen", "192.0.2.1:9999"], 1),
        (["--credential", "nobody"], 126),
    ],
)
def test_what_it_cant_do_is_refused(person: Person, words: list[str], status: int) -> None:
    done = person.nono("proxy", *words)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr


def test_what_cant_be_recorded_isnt_served(person: Person) -> None:
    state = Path(person.home, ".local", "state", "nono")
    state.mkdir(parents=True)
    (state / "audit").write_text("in the way")
    done = person.nono("proxy", "--allow-domain", "a.test")
    assert (done.returncode, done.stdout) == (126, "")
    assert "can't be recorded" in done.stderr
