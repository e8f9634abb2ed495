"""Whether a provider accepts a credential, by one request that changes nothing.

The credential is put where the proxy would put it.

Architecture invariant: the credential goes to the provider's own host, by https, verified, no
redirect is followed, and of what is answered only the status comes out.
"""

from __future__ import annotations

import datetime as dt
import json
import ssl
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import httpx2

from nono_mcp.credentials.secret import CredentialError
from nono_proxy import catalogue, placements, sigv4
from nono_proxy.config import Header, InBody, Path, Query, SigV4
from nono_proxy.errors import CredentialUnavailableError
from nono_proxy.placements import Found, Parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_mcp.credentials.secret import Secret
    from nono_proxy.config import Placement

PROBE_S_MAX: Final = 15.0
ANSWER_BYTES_MAX: Final = 64 * 1024
_REJECTED: Final = frozenset({400, 401, 403})
_SCHEMES: Final = MappingProxyType({"bearer": b"Bearer ", "token": b"token ", "raw": b""})

Verdict = Literal["accepted", "rejected", "unknown"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of a provider."""

    path: str
    host: str = ""
    """Where that isn't the route's first."""
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    says: str = ""
    """The member of the answer that is true if it's accepted, where the status doesn't say."""


PROBES: Final[Mapping[str, Probe]] = MappingProxyType(
    {
        "openai": Probe("/v1/models"),
        "anthropic": Probe("/v1/models", headers=(("anthropic-version", "2023-06-01"),)),
        "gemini": Probe("/v1beta/models"),
        "aws": Probe(
            "/?Action=GetCallerIdentity&Version=2011-06-15", host="sts.us-east-1.amazonaws.com"
        ),
        "mistral": Probe("/v1/models"),
        "groq": Probe("/openai/v1/models"),
        "together": Probe("/v1/models"),
        "cohere": Probe("/v1/models"),
        "openrouter": Probe("/api/v1/key"),
        "deepseek": Probe("/models"),
        "xai": Probe("/v1/models"),
        "slack": Probe("/api/auth.test", content=b"", says="ok"),
        "stripe": Probe("/v1/balance"),
        "linear": Probe(
            "/graphql",
            headers=(("content-type", "application/json"),),
            content=b'{"query": "{ viewer { id } }"}',
        ),
        "huggingface": Probe("/api/whoami-v2"),
        "github": Probe("/user"),
        "gitlab": Probe("/api/v4/user"),
        "npm": Probe("/-/whoami"),
    }
)
"""By the name of the route; those that aren't here have nothing to ask that changes nothing."""


@dataclass(frozen=True, slots=True)
class Around:
    """The network around: its proxy, that one's ``user:password``, whom to trust besides."""

    url: str | None = None
    secret: Secret | None = None
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said."""

    host: str
    status: int
    verdict: Verdict


def ask(name: str, value: Secret, around: Around) -> Answer | None:
    """Return whether the provider *name* accepts *value*; None if nobody is known to ask.

    Raises:
        CredentialError: It can't be asked; the message says nothing of what it answered.
    """
    probe = PROBES.get(name)
    if probe is None:
        return None
    route = catalogue.route(name)
    host = probe.host or route.upstreams[0]
    url, headers = _request(probe, host, route.placements[0], value)
    try:
        with (
            _client(around) as client,
            client.stream(
                "GET" if probe.content is None else "POST",
                url,
                headers=headers,
                content=probe.content,
            ) as response,
        ):
            return Answer(host, response.status_code, _verdict(probe, response))
    except (httpx2.HTTPError, OSError) as error:
        raise CredentialError(f"{host} can't be asked: {type(error).__name__}") from None


def _client(around: Around) -> httpx2.Client:
    # Neither proxies nor certificates of the environment, but what OpenSSL itself heeds.
    context = ssl.create_default_context()
    proxy = None
    if around.ca is not None:
        context.load_verify_locations(around.ca)
    if around.url is not None:
        user, _, password = (around.secret.reveal() if around.secret else "").partition(":")
        proxy = httpx2.Proxy(around.url, auth=(user, password) if user else None)
    return httpx2.Client(timeout=PROBE_S_MAX, trust_env=False, verify=context, proxy=proxy)


def _verdict(probe: Probe, response: httpx2.Response) -> Verdict:
    if response.status_code in _REJECTED:
        return "rejected"
    if not response.is_success:
        return "unknown"
    if not probe.says:
        return "accepted"
    data = b""
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            return "unknown"
    try:
        found = json.loads(data)
    except ValueError:
        return "unknown"
    said = found.get(probe.says) if isinstance(found, dict) else None
    return "accepted" if said is True else "rejected" if said is False else "unknown"


def _request(
    probe: Probe, host: str, placement: Placement, value: Secret
) -> tuple[str, list[tuple[bytes, bytes]]]:
    """Return the URL and the fields of a request with the credential in its place."""
    path, _, query = probe.path.partition("?")
    fields = [(name.encode(), f"{name}: {text}".encode()) for name, text in probe.headers]
    credential = value.reveal().encode()
    before = b""
    match placement:
        case Header():
            fields.insert(0, (placement.name.lower().encode(), b""))
            before = _SCHEMES.get(placement.scheme, b"")
        case Query():
            before = placement.name.encode() + b"="
        case SigV4():
            fields = _signed(host, query.encode(), credential)
        case Path() | InBody():
            raise AssertionError("no provider that is asked has it there")
    parts = Parts(fields, path.encode(), query.encode() or None)
    parts = placements.swap(parts, [Found(placement, 0, b"", before)], credential)
    tail = f"?{parts.query.decode()}" if parts.query else ""
    headers = [(name, line.partition(b":")[2].strip()) for name, line in parts.fields]
    return f"https://{host}{path}{tail}", headers


def _signed(host: str, query: bytes, credential: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of an AWS request: signed by nobody, and then anew."""
    now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ").encode()
    scope = now[:8] + b"/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature="
    fields = [
        (b"x-amz-date", b"X-Amz-Date: " + now),
        (
            b"authorization",
            b"Authorization: AWS4-HMAC-SHA256 Credential=x/" + scope + b"0" * 64,
        ),
    ]
    empty = sha256(b"").hexdigest().encode()
    parts = Parts(fields, b"/", query)
    try:
        key = sigv4.Key.parse(credential)
    except CredentialUnavailableError as error:
        raise CredentialError(str(error)) from None
    return sigv4.resign(sigv4.Unsigned(b"GET", parts, host.encode(), empty, None), key)
