"""Every answer that is a refusal: a row of data, one JSON body.

Architecture invariant: no I/O; nothing a client or an upstream sent is repeated beyond the host
and the path that were judged.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of refusal is answered."""

    status: int
    message: str
    remedy: str = ""
    closes: bool = True


_ALLOW = "a person can allow it: nono run --allow-domain HOST[:PORT]"

TABLE = MappingProxyType(
    {
        "bad-request": Row(400, "the request isn't HTTP/1.1 as this proxy reads it"),
        "bad-authority": Row(400, "the target names no host in canonical form"),
        "bad-path": Row(400, "the path can be read in two ways"),
        "misdirected": Row(421, "Host differs from the host of the connection"),
        "method-refused": Row(405, "this method is never passed on"),
        "head-too-large": Row(431, "the head of the request is too large"),
        "head-timeout": Row(408, "the head of the request took too long"),
        "body-too-large": Row(413, "a body that must be signed is too large"),
        "bodies-held": Row(503, "too much is held at once that must be signed; try again"),
        "length-required": Row(411, "a body that must be signed needs a Content-Length"),
        "signing-unsupported": Row(501, "this way of signing a request can't be redone"),
        "authentication-required": Row(407, "the proxy wants this call's secret", closes=False),
        "authentication-failed": Row(407, "that isn't a secret of a running call", closes=False),
        "no-call": Row(403, "no call is running"),
        "host-denied": Row(403, "a rule denies this host", closes=False),
        "host-not-allowed": Row(403, "no rule allows this host", _ALLOW, closes=False),
        "endpoint-not-allowed": Row(
            403,
            "no rule allows this method and path",
            "a person can allow it: nono run --allow-endpoint NAME:METHOD:PATH",
            closes=False,
        ),
        "route-unknown": Row(404, "there is no route of that name", closes=False),
        "route-not-allowed": Row(403, "this call may not use that route", closes=False),
        "address-refused": Row(
            403, "the host has no address that may be dialled", "a person can grant the address"
        ),
        "sni-mismatch": Row(403, "the TLS handshake names another host, or none"),
        "not-tls": Row(403, "the tunnel doesn't carry TLS", "a person can allow it raw"),
        "interception-failed": Row(502, "the TLS connection couldn't be opened for reading"),
        "token-missing": Row(401, "this route wants the call's phantom token", closes=False),
        "token-unknown": Row(401, "that isn't a token of a running call", closes=False),
        "token-elsewhere": Row(403, "the token belongs to another host or route"),
        "token-misplaced": Row(403, "the token stands where it has no business"),
        "credential-unavailable": Row(503, "the credential can't be had now", closes=False),
        "rate-limited": Row(429, "the route's requests a minute are used up", closes=False),
        "bytes-exceeded": Row(403, "the call's bytes are used up"),
        "too-many-connections": Row(503, "the session has too many connections"),
        "log-unavailable": Row(503, "the audit log can't be written"),
        "resolution-failed": Row(502, "the name can't be resolved"),
        "connect-failed": Row(502, "the host can't be reached"),
        "connect-timeout": Row(504, "the host didn't answer in time"),
        "upstream-tls": Row(502, "the host's certificate isn't valid"),
        "upstream-closed": Row(502, "the host closed the connection"),
        "upstream-grammar": Row(502, "the host's answer isn't HTTP/1.1 as this proxy reads it"),
        "upstream-encoded": Row(502, "the host's answer is compressed and can't be looked through"),
        "upstream-timeout": Row(504, "the host took too long"),
        "upstream-proxy": Row(502, "the proxy beyond this one refused"),
        "client-trust": Row(400, "the client doesn't trust the session's certificate authority"),
        "call-ended": Row(403, "the call has ended"),
    }
)


def answer(
    code: str, detail: str, *, host: str | None = None, keep_alive: bool = False, body: bool = True
) -> bytes:
    """Return the whole response for one refusal."""
    row = TABLE[code]
    error = {"code": code, "message": row.message, "detail": detail, "host": host or ""}
    text = json.dumps({"error": {**error, "remedy": row.remedy}}).encode() + b"\n"
    lines = [
        f"HTTP/1.1 {row.status} {HTTPStatus(row.status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(text)}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    if row.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        lines.append('Proxy-Authenticate: Basic realm="nono"')
    if row.status == HTTPStatus.UNAUTHORIZED:
        lines.append('WWW-Authenticate: Bearer realm="nono"')
    if row.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (text if body else b"")
