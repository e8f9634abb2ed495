"""Tokens of an authorization server, which stands beside on loopback."""

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from nono_mcp.server import ServeError
from nono_mcp.server.oauth import ResourceServer
from nono_mcp.server.team import OAuth
from tests.server.teamwork import People, Shared, people, sharing
from tests.server.test_http import DISCOVER, MODERN, Website

pytestmark = pytest.mark.linux

CLIENT_SECRET = "s:cret/of the server's"  # noqa: S105 - the test's own
RESOURCE = "https://nono.example/mcp"


class Issuer(ThreadingHTTPServer):
    """An authorization server that says of tokens what it's told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.known: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.status = 200
        self.redirect = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def good(self, **changes: object) -> dict[str, Any]:
        claims = {
            "active": True,
            "iss": self.url,
            "aud": [RESOURCE],
            "sub": "bob@example",
            "scope": "other nono",
            "exp": time.time() + 600,
        }
        merged = {**claims, **changes}
        return {name: value for name, value in merged.items() if value is not None}


class Answering(BaseHTTPRequestHandler):
    server: Issuer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        (token,) = form["token"]
        self.server.asked.append((self.headers["authorization"], token))
        body = json.dumps(self.server.known.get(token, {"active": False})).encode()
        # 307, by which the form would be sent again.
        self.send_response(307 if self.server.redirect else self.server.status)
        if self.server.redirect:
            self.send_header("location", self.server.redirect)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def shared(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    team = people(tmp_path_factory.mktemp("oauth"))
    write(team, issuer)
    with sharing(team, NONO_OAUTH_SECRET=CLIENT_SECRET) as found:
        yield found


def write(team: People, issuer: Issuer) -> None:
    settings = {
        "issuer": issuer.url,
        "resource": RESOURCE,
        "introspection": f"{issuer.url}/introspect",
        "client_id": "nono server",
        "secret": "env://NONO_OAUTH_SECRET",
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    team.write(more="\n".join(['subject = "bob@example"', "[oauth]", *lines, 'scopes = ["nono"]']))


def status(website: Website) -> int:
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": "server/discover"}
    return website.post(DISCOVER, **headers)[0]


def test_a_token_that_was_issued_for_us_opens_its_owners_session(
    shared: Shared, issuer: Issuer
) -> None:
    issuer.known["good"] = issuer.good()
    assert status(shared.of("good")) == 200
    header, token = issuer.asked[-1]
    scheme, _, pair = header.partition(" ")
    assert (scheme, token) == ("Basic", "good")
    assert base64.b64decode(pair) == b"nono+server:s%3Acret%2Fof+the+server%27s"
    asked_count = len(issuer.asked)
    assert status(shared.of("good")) == 200
    assert len(issuer.asked) == asked_count
    # Tokens of the file still do, and nobody is asked about them.
    assert status(shared.of("alice")) == 200
    assert len(issuer.asked) == asked_count


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"active": "true"},
        {"active": None},
        {"iss": "https://other.example"},
        {"aud": None},
        {"aud": []},
        {"aud": "https://other.example/mcp"},
        {"aud": "https://nono.example/mcp/more"},
        {"aud": {"https://nono.example/mcp": 1}},
        {"sub": "mallory@example"},
        {"sub": None},
        {"sub": ["bob@example"]},
        {"scope": "nonono"},
        {"scope": None},
        {"exp": 1},
        {"exp": "soon"},
        {"nbf": 9e12},
        {"nbf": True},
    ],
)
def test_a_token_that_wasnt_opens_nothing(
    shared: Shared, issuer: Issuer, changes: dict[str, object]
) -> None:
    token = f"bad {json.dumps(changes)}".replace(" ", "-").replace('"', "'")
    issuer.known[token] = issuer.good(**changes)
    assert status(shared.of(token)) == 401
    assert issuer.asked[-1][1] == token


def test_who_has_none_is_told_where_there_are_some(shared: Shared, issuer: Issuer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=120)
    connection.request("POST", "/mcp", body=b"{}")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 401
    told = answer.headers["WWW-Authenticate"]
    where = "https://nono.example/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{where}"' in told
    connection.request("GET", "/.well-known/oauth-protected-resource/mcp")
    metadata = json.loads(connection.getresponse().read())
    connection.close()
    assert metadata["resource"] == RESOURCE
    assert metadata["authorization_servers"] == [issuer.url]
    assert metadata["scopes_supported"] == ["nono"]


def test_an_issuer_that_fails_or_sends_elsewhere_lets_nobody_in(
    shared: Shared, issuer: Issuer
) -> None:
    issuer.known["later"] = issuer.good()
    issuer.status = 500
    assert status(shared.of("later")) == 502
    issuer.status = 200
    issuer.redirect = f"{issuer.url}/elsewhere"
    before = len(issuer.asked)
    assert status(shared.of("later")) == 502
    assert len(issuer.asked) == before + 1
    issuer.redirect = ""
    assert status(shared.of("later")) == 200


@pytest.mark.anyio
async def test_no_call_holds_the_servers_secret(shared: Shared, issuer: Issuer) -> None:
    issuer.known["worker"] = issuer.good()
    async with shared.of("worker").client(MODERN) as agent:
        told = await agent.run("env; cat /proc/[0-9]*/environ; pwd")
    assert str(shared.people.workspace("bob")) in told
    assert "cret/of the" not in told


@pytest.mark.parametrize(
    "changes",
    [
        {"introspection": "http://id.example/introspect"},
        {"issuer": "ftp://id.example"},
        {"introspection": "https://user@id.example/introspect"},
        {"resource": "https:///mcp"},
        {"secret": "env://NO_SUCH_SECRET"},
        {"secret": "nonsense"},
    ],
)
def test_settings_that_cant_be_kept_are_refused(
    changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os  # noqa: PLC0415 - its environment is the argument

    monkeypatch.setenv("NONO_OAUTH_SECRET", CLIENT_SECRET)
    settings = {
        "issuer": "https://id.example",
        "resource": RESOURCE,
        "introspection": "https://id.example/introspect",
        "client_id": "nono",
        "secret": "env://NONO_OAUTH_SECRET",
    }
    with pytest.raises(ServeError, match="oauth"):
        ResourceServer(OAuth.model_validate({**settings, **changes}), {}, os.environ)


def test_an_own_file_is_needed_for_the_secret(tmp_path: Path, issuer: Issuer) -> None:
    team = people(tmp_path)
    write(team, issuer)
    with pytest.raises(AssertionError, match="NONO_OAUTH_SECRET"), sharing(team):
        pass
