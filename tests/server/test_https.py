"""The server by HTTPS: whom its certificate names, and that its key stays its own."""

import asyncio
import http.client
import ipaddress
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nono_mcp.server import Http, ServeError, listening
from tests.server.conftest import TIER, Machine, serving
from tests.server.teamwork import people, sharing
from tests.server.test_http import DISCOVER, MODERN

pytestmark = pytest.mark.linux


def certificate(directory: Path, *names: str) -> tuple[Path, Path]:
    """Return a new certificate for *names*, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nono")])
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(one)) if one[0].isdigit() else x509.DNSName(one)
        for one in names
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def call(port: int, trusted: Path, token: str, host: str) -> int:
    """Return the status that a request by HTTPS is answered with."""
    context = ssl.create_default_context(cafile=trusted)
    connection = http.client.HTTPSConnection("localhost", port, timeout=120, context=context)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    headers |= {"Accept": "application/json, text/event-stream", "Host": f"{host}:{port}"}
    headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": "server/discover"}
    connection.request("POST", "/mcp", body=DISCOVER, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_https_is_for_the_certificates_names_and_its_key_is_closed(tmp_path: Path) -> None:
    team = people(tmp_path)
    # Where a person might have put it, though they shouldn't. The second tier closes nothing
    # inside of what it grants: there the session would be refused.
    root = team.root if TIER == "landlock" else team.workspace("alice")
    certs, key = certificate(root / "tls", "localhost", "nono.example")
    with sharing(team, ["--tls-cert", str(certs), "--tls-key", str(key)]) as shared:
        token = team.tokens["alice"]
        assert call(shared.port, certs, token, "localhost") == 200
        assert call(shared.port, certs, token, "nono.example") == 200
        assert call(shared.port, certs, token, "evil.example") == 421
        assert call(shared.port, certs, "other", "localhost") == 401
        told = run(shared.port, certs, token, f"cat {key} {certs}; cp {key} k; cat k")
        assert ("BEGIN CERTIFICATE" in told) == (root != team.root)
        assert "PRIVATE KEY" not in told
        assert not (team.workspace("alice") / "k").exists()
        plain = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=120)
        plain.request("GET", "/healthz")
        with pytest.raises((OSError, http.client.HTTPException)):
            plain.getresponse()
        plain.close()


def run(port: int, trusted: Path, token: str, command: str) -> str:
    """Return what a command printed that a client by HTTPS asked for."""
    import httpx2  # noqa: PLC0415 - the SDK's
    from mcp import Client  # noqa: PLC0415 - likewise
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - likewise

    async def asked() -> str:
        context = ssl.create_default_context(cafile=trusted)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(verify=context, headers=headers, timeout=60) as client:
            url = f"https://localhost:{port}/mcp"
            async with Client(streamable_http_client(url, http_client=client)) as mcp:
                answer = await mcp.call_tool("run_sandboxed", {"command": command})
                return str(answer.content)

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("host", "names", "plain"),
    [
        ("127.0.0.1", {"127.0.0.1", "localhost"}, False),
        ("::1", {"::1", "localhost"}, False),
        ("localhost", {"127.0.0.1", "localhost"}, False),
        ("192.0.2.1", {"192.0.2.1"}, True),
    ],
)
def test_plain_http_is_for_loopback_or_by_an_explicit_word(
    host: str, names: set[str], *, plain: bool
) -> None:
    found = listening.judge(Http(host, 0, plain=plain))
    assert (set(found.names), found.scheme) == (names, "http")


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("192.0.2.1", False),
        ("0.0.0.0", False),  # noqa: S104 - to be refused
        ("0.0.0.0", True),  # noqa: S104 - likewise
        ("::", True),
        ("::ffff:192.0.2.1", False),
        ("example.com", True),
        ("", True),
    ],
)
def test_another_address_is_refused_without_it(host: str, *, plain: bool) -> None:
    with pytest.raises(ServeError, match="isn't a loopback address"):
        listening.judge(Http(host, 0, plain=plain))


def test_with_a_certificate_any_address_is_served(tmp_path: Path) -> None:
    certs, key = certificate(tmp_path, "Nono.example", "*.example", "192.0.2.7")
    found = listening.judge(Http("0.0.0.0", 0, certificate=str(certs), key=str(key)))  # noqa: S104 - nothing listens
    assert found.scheme == "https"
    assert found.names == {"0.0.0.0", "192.0.2.7", "nono.example"}  # noqa: S104 - likewise


def test_what_is_no_certificate_or_not_its_key_serves_nothing(
    machine: Machine, tmp_path: Path
) -> None:
    certs, key = certificate(tmp_path / "one", "localhost")
    _, other = certificate(tmp_path / "two", "localhost")
    for pair in ((certs, other), (key, key), (tmp_path / "missing", key), (certs, certs)):
        with pytest.raises(ServeError, match="certificate"):
            listening.check_keys(Http("::1", 0, certificate=str(pair[0]), key=str(pair[1])))
    options = ["--http", "0", "--tls-cert", str(certs), "--tls-key", str(other)]
    ended = subprocess.run(
        serving(machine, *options),
        capture_output=True,
        check=False,
        env=machine.environ,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
