"""Programs as people write them, through `nono run`, unchanged: each reads its usual variables."""

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from websockets.sync.server import Server, ServerConnection, serve

from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from tests.corporate import corporate
from tests.proxy.world import Roots
from tests.upstream import Upstream

from .conftest import NONO, Person

pytestmark = pytest.mark.linux
KEY = "REALKEY-" + os.urandom(12).hex()
STARS = "*" * len(KEY)
PYTHON = Path(sys.base_prefix).resolve()
LONG_ENOUGH_S = 120
# Each of these is dear to start: one tier has to do, and both are somebody's.
first_tier = pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)


def run(
    person: Person, tier: str, words: list[str], command: list[str], **environment: str
) -> tuple[str, str]:
    """Run a command confined; return what it wrote."""
    reads = [word for path in {str(PYTHON), sys.prefix} for word in ("--read", path)]
    if str(PYTHON).startswith(("/root/", "/home/")):
        reads += ["--bypass", str(PYTHON)]
    done = subprocess.run(
        [NONO, "run", "--tier", tier, *reads, *words, "--", *command],
        cwd=person.workspace,
        env=person.environment(REAL_ONE=KEY, **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_ENOUGH_S,
    )
    assert KEY not in done.stdout + done.stderr
    return done.stdout, done.stderr


def profile(person: Person, text: str) -> list[str]:
    """Make a profile of theirs; return the option that names it."""
    path = person.home / ".config" / "nono" / "profiles" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'extends = "default"\n[network]\nallow_addresses = ["127.0.0.0/8"]\n{text}')
    path.chmod(0o600)
    return ["--profile", "mine"]


def route(name: str, port: int, more: str = "") -> str:
    upstream = f'upstreams = ["127.0.0.1:{port}"]\ntls = false\n'
    return f"[network.routes.{name}]\n{upstream}{more}"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream.running() as server:
        yield server


OPENAI = """
import openai
asked = openai.OpenAI().chat.completions.create(
    model="m", messages=[{"role": "user", "content": "hello"}], stream=True
)
for chunk in asked:
    print(chunk.choices[0].delta.content or "", end="")
"""
ANTHROPIC = """
import anthropic
hello = [{"role": "user", "content": "hello"}]
with anthropic.Anthropic().messages.stream(model="m", max_tokens=9, messages=hello) as asked:
    for text in asked.text_stream:
        print(text, end="")
"""


@pytest.mark.slow
@pytest.mark.claim("credential.never-held")
@pytest.mark.parametrize(
    ("name", "program", "tier"),
    [("openai", OPENAI, NAMESPACES), ("anthropic", ANTHROPIC, LANDLOCK)],
    indirect=["tier"],
    ids=["openai", "anthropic"],
)
def test_an_sdk_streams_with_a_key_that_it_never_holds(
    person: Person, upstream: Upstream, tier: str, name: str, program: str
) -> None:
    words = profile(person, route(name, upstream.server_port))
    words += ["--credential", f"{name}=env://REAL_ONE"]
    said, told = run(person, tier, words, [sys.executable, "-I", "-c", program])
    assert said == f"Hello Bearer {STARS}", told
    ((method, path, headers),) = upstream.heard
    assert (method, headers["authorization"]) == ("POST", f"Bearer {KEY}")
    assert path in ("/v1/chat/completions", "/v1/messages")
    assert "nono" not in json.dumps(headers)


AWS = ("AKIDREAL0123456789", "the/real+secret0123456789abcdefghijklmno", "a-session-token-0123")
SQS_AND_S3 = """
import botocore.session, sys
from urllib.error import HTTPError
from urllib.request import urlopen
def client(service):
    return botocore.session.get_session().create_client(service, region_name="eu-west-1")
sqs, s3 = client("sqs"), client("s3")
print(sqs.send_message(QueueUrl="https://sqs.test/1/q", MessageBody="a b")["MessageId"])
s3.put_object(Bucket="bucket", Key="a b/\\u00fc+c~'(1)", Body=b"content")
print(s3.get_object(Bucket="bucket", Key="a  b", Range="bytes=0-9")["Body"].read().decode())
print(len(s3.list_objects_v2(Bucket="bucket", Prefix="x/y z&=", MaxKeys=3).get("Contents", [])))
url = s3.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "k"})
try:
    urlopen(url)
except HTTPError as error:
    print(error.code, "token-missing" in error.read().decode())
"""


class Aws(ThreadingHTTPServer):
    """AWS as far as signatures go: each is verified by botocore itself, with the real secret."""

    daemon_threads = True

    def __init__(self, keys: Credentials) -> None:
        super().__init__(("127.0.0.1", 0), _AwsHandler)
        self.keys = keys
        self.verified: list[str] = []


class _AwsHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Aws

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        word, _, rest = self.headers.get("authorization", "").partition(" ")
        parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        identity, _, region, service, _ = parts["Credential"].split("/")
        given = {name: self.headers[name] for name in parts["SignedHeaders"].split(";")}
        request = AWSRequest(self.command, f"http://{self.headers['host']}{self.path}", given, body)
        request.context["timestamp"] = self.headers["x-amz-date"]
        signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(self.server.keys, service, region)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        right = signer.signature(text, request) == parts["Signature"]
        right = right and (word, identity) == ("AWS4-HMAC-SHA256", AWS[0])
        right = right and self.headers["x-amz-security-token"] == AWS[2]
        if right:
            self.server.verified.append(f"{service} {self.command} {urlsplit(self.path).path}")
        answer = b'{"MessageId": "sent", "MD5OfMessageBody": ""}' if service == "sqs" else b""
        answer = b"<a/>" if "list-type" in self.path else answer
        answer = b"got" if self.command == "GET" and not answer else answer
        self.send_response(200 if right else 403)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = handle_any  # noqa: N815 - the library's own

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: Any) -> Iterator[None]:  # noqa: ANN401 - what has serve_forever and shutdown
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.slow
@first_tier
def test_an_aws_client_signs_with_a_key_that_isnt_its(person: Person, tier: str) -> None:
    with Aws(Credentials(*AWS)) as aws, serving(aws):
        more = 'base_urls = ["AWS_ENDPOINT_URL"]\n'
        words = profile(person, route("aws", aws.server_port, more))
        words += ["--credential", "aws=env://AWS_REAL"]
        said, told = run(
            *(person, tier, words, [sys.executable, "-I", "-c", SQS_AND_S3]),
            AWS_REAL=":".join(AWS),
        )
    # What's signed in a URL, which is handed on, isn't signed anew.
    assert said.splitlines() == ["sent", "got", "0", "401 True"], told
    assert aws.verified == [
        "sqs POST /",
        "s3 PUT /bucket/a%20b/%C3%BC%2Bc~%27%281%29",
        "s3 GET /bucket/a%20%20b",
        "s3 GET /bucket",
    ]
    assert AWS[1] not in said + told


WEBSOCKET = """
import os, sys
from websockets.sync.client import connect
url, *fields = sys.argv[1:]
url = os.path.expandvars(url).replace("http:", "ws:")
headers = {"Authorization": os.path.expandvars(fields[0])} if fields else {}
with connect(url, additional_headers=headers, open_timeout=60) as one:
    for text in ("yes", "key", "k" * 70000):
        one.send(text)
        print(one.recv()[:60])
"""


def echo(heard: list[str]) -> Any:  # noqa: ANN401 - what serve() takes
    def speak(connection: ServerConnection) -> None:
        assert connection.request is not None
        sent = connection.request.headers.get("Authorization", "none")
        heard.append(sent)
        for message in connection:
            # To the question for the key it's told, in one message of many frames.
            connection.send(iter([*sent]) if message == "key" else message)

    return speak


@contextmanager
def websocket(context: ssl.SSLContext | None) -> Iterator[tuple[int, list[str]]]:
    heard: list[str] = []
    server: Server = serve(echo(heard), "127.0.0.1", 0, ssl=context)
    with server, serving(server):
        yield server.socket.getsockname()[1], heard


def test_a_websocket_by_a_base_url(person: Person, tier: str) -> None:
    with websocket(None) as (port, heard):
        words = profile(person, route("openai", port))
        words += ["--credential", "openai=env://REAL_ONE"]
        url, bearer = "$OPENAI_BASE_URL/realtime", "Bearer $OPENAI_API_KEY"
        said, told = run(person, tier, words, [sys.executable, "-Ic", WEBSOCKET, url, bearer])
    assert said.splitlines() == ["yes", f"Bearer {STARS}"[:60], "k" * 60], told
    assert heard == [f"Bearer {KEY}"]


@pytest.mark.parametrize("how", ["tunnelled", "intercepted"])
@first_tier
def test_a_websocket_over_tls(person: Person, tier: str, how: str, tmp_path: Path) -> None:
    roots = Roots()
    (tmp_path / "company.pem").write_text(roots.pem)
    with websocket(roots.context("localhost")) as (port, heard):
        text = f'[network.routes.mine]\nupstreams = ["localhost:{port}"]\n'
        text += 'placements = ["bearer"]\nkey_variables = ["MINE"]\n'
        words = profile(person, text if how == "intercepted" else "")
        command = [sys.executable, "-Ic", WEBSOCKET, f"wss://localhost:{port}/x"]
        if how == "intercepted":
            words += ["--credential", "mine=env://REAL_ONE"]
            command.append("Bearer $MINE")
        else:
            words += ["--allow-domain", f"localhost:{port}"]
        # The company's authority is trusted by whoever the person's own variable tells.
        company = str(tmp_path / "company.pem")
        said, told = run(person, tier, words, command, SSL_CERT_FILE=company)
    second = "none" if how == "tunnelled" else f"Bearer {STARS}"[:60]
    assert said.splitlines() == ["yes", second, "k" * 60], told
    assert heard == ["none" if how == "tunnelled" else f"Bearer {KEY}"]


BEHIND_A_COMPANYS_PROXY = """
curl -sS https://plain.test/page
curl -sS https://other.test/ || echo refused
curl -sS -H "Authorization: Bearer $OPENAI_API_KEY" https://api.openai.com/v1/models
env
"""


@pytest.mark.parametrize("password", [KEY, "wrong-one"], ids=["right", "wrong"])
def test_by_way_of_a_companys_proxy(
    person: Person, upstream: Upstream, tier: str, password: str, tmp_path: Path
) -> None:
    roots = Roots()
    (tmp_path / "company.pem").write_text(roots.pem)
    context = roots.context("plain.test", "other.test", "api.openai.com")
    upstream.socket = context.wrap_socket(upstream.socket, server_side=True)
    with ExitStack() as stack:
        company = stack.enter_context(corporate(upstream.server_port, f"me:{KEY}"))
        words = [
            *("--allow-domain", "plain.test", "--credential", "openai=env://REAL_ONE"),
            *("--upstream-proxy", f"http://127.0.0.1:{company.port}"),
            *("--upstream-proxy-credential", "env://CORP"),
        ]
        said, told = run(
            *(person, tier, words, ["sh", "-c", BEHIND_A_COMPANYS_PROXY]),
            SSL_CERT_FILE=str(tmp_path / "company.pem"),
            CORP=f"me:{password}",
        )
    assert "CORP=" not in said
    assert "refused" in said
    assert company.asked == ["plain.test:443", "api.openai.com:443"]
    if password != KEY:
        assert upstream.heard == []
        assert "answered 407" in told
        return
    assert [path for _, path, _ in upstream.heard] == ["/page", "/v1/models"], told
    assert [headers.get("authorization") for _, _, headers in upstream.heard] == [
        None,
        f"Bearer {KEY}",
    ]
    assert not any("proxy-authorization" in headers for _, _, headers in upstream.heard)


@pytest.mark.parametrize("where", ["home", "work"])
def test_a_companys_certificates_by_an_option_that_who_is_confined_cant_change(
    person: Person, upstream: Upstream, tier: str, where: str
) -> None:
    roots = Roots()
    context = roots.context("localhost")
    upstream.socket = context.wrap_socket(upstream.socket, server_side=True)
    here = f"localhost:{upstream.server_port}"
    company = (person.home if where == "home" else person.workspace) / "company.pem"
    company.write_text(roots.pem)
    words = [*profile(person, ""), "--allow-domain", here, "--upstream-ca", str(company)]
    said, told = run(person, tier, words, ["curl", "-sS", f"https://{here}/page"])
    if where == "work":
        assert "a program could change it" in told
        assert upstream.heard == []
        return
    assert "localhost" in said, told
    company.write_text("no certificate")
    assert "holds no certificates" in run(person, tier, words, ["true"])[1]


def test_a_password_for_no_proxy_says_nothing(person: Person) -> None:
    done = person.nono("run", "--upstream-proxy-credential", "env://CORP", "--", "true")
    assert done.returncode == 2
