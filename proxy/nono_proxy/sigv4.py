"""AWS Signature Version 4, made anew with the real key.

The worker signed with a phantom key id and a secret that isn't one; what it signed is signed again
for the host it is sent to (AWS: "Create a signed AWS API request").

Architecture invariant: no I/O and no clock: the request's own date is signed.
"""

import hmac
import re
from hashlib import sha256
from typing import NamedTuple, Self
from urllib.parse import quote

from nono_proxy.errors import CredentialUnavailableError, Refusal
from nono_proxy.grammar import Field, value_of
from nono_proxy.placements import Parts

_HEADER = re.compile(
    rb"AWS4-HMAC-SHA256 Credential=[^/,\s]+/([0-9]{8})/([a-z0-9-]{1,40})/([a-z0-9-]{1,40})"
    rb"/aws4_request,\s*SignedHeaders=([a-z0-9;-]+),\s*Signature=[0-9a-f]{64}"
)
_STREAMED = b"STREAMING-AWS4-"


class Key(NamedTuple):
    """An AWS key, from a credential's ``ACCESS_KEY_ID:SECRET[:SESSION_TOKEN]``."""

    identity: bytes
    secret: bytes
    session: bytes

    @classmethod
    def parse(cls, credential: bytes) -> Self:
        """Read a credential.

        Raises:
            CredentialUnavailableError: It isn't an AWS key.
        """
        identity, colon, rest = credential.partition(b":")
        secret, _, session = rest.partition(b":")
        if not identity or not colon or not secret:
            raise CredentialUnavailableError("the credential isn't ACCESS_KEY_ID:SECRET")
        return cls(identity, secret, session)


class Scope(NamedTuple):
    """What a signature holds for."""

    date: bytes
    region: bytes
    service: bytes
    signed: list[bytes]


class Unsigned(NamedTuple):
    """What is signed: *host* as it's sent, the payload's hash, the length if one is sent."""

    method: bytes
    parts: Parts
    host: bytes
    payload_hash: bytes
    length: int | None


def read_scope(value: bytes) -> Scope:
    """Read an Authorization value.

    Raises:
        Refusal: It isn't a Signature Version 4.
    """
    match = _HEADER.fullmatch(value)
    if match is None:
        raise Refusal("bad-request", "not an AWS4-HMAC-SHA256 signature")
    return Scope(match[1], match[2], match[3], match[4].split(b";"))


def body_hash(fields: list[Field]) -> bytes | None:
    """Return the hash of the body that a request states, or None if it must be made.

    Raises:
        Refusal: Each chunk is signed; that can't be redone without holding the body.
    """
    for name, line in fields:
        if name == b"x-amz-content-sha256":
            stated = value_of(line)
            if stated.startswith(_STREAMED):
                raise Refusal("signing-unsupported", "every chunk is signed")
            return stated
    return None


def _canonical(unsigned: Unsigned, scope: Scope) -> bytes:
    """Return the canonical request; a path is encoded once more except for S3."""
    method, parts, host, payload, _ = unsigned
    path = parts.path
    if scope.service not in (b"s3", b"s3express"):
        path = quote(path, safe="/~").encode()
    pairs = sorted(
        (name, value)
        for name, _, value in (pair.partition(b"=") for pair in (parts.query or b"").split(b"&"))
        if name
    )
    query = b"&".join(name + b"=" + value for name, value in pairs)
    lines: list[bytes] = []
    for signed in scope.signed:
        values = [
            b" ".join(value_of(line).split()) for name, line in parts.fields if name == signed
        ]
        lines.append(signed + b":" + (host if signed == b"host" else b",".join(values)) + b"\n")
    names = b";".join(scope.signed)
    return b"\n".join((method, path, query, b"".join(lines), names, payload))


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def resign(unsigned: Unsigned, key: Key) -> list[Field]:
    """Return the fields with a signature by *key*.

    Raises:
        Refusal: The request's own signature can't be read, or has no date.
    """
    kept = [field for field in unsigned.parts.fields if field[0] != b"x-amz-security-token"]
    values = {name: value_of(line) for name, line in kept}
    scope = read_scope(values.get(b"authorization", b""))
    when = values.get(b"x-amz-date", b"")
    if not when.startswith(scope.date) or b"host" not in scope.signed:
        raise Refusal("bad-request", "a signature has an x-amz-date and signs the host")
    signed = [name for name in scope.signed if name != b"x-amz-security-token"]
    if key.session:
        kept.append((b"x-amz-security-token", b"X-Amz-Security-Token: " + key.session))
        signed.append(b"x-amz-security-token")
    # The length is framing, which this proxy writes; it can be signed all the same.
    shown = [*kept]
    if unsigned.length is not None:
        shown.append((b"content-length", b"Content-Length: %d" % unsigned.length))
    scope = scope._replace(signed=sorted(signed))
    canonical = _canonical(unsigned._replace(parts=unsigned.parts._replace(fields=shown)), scope)
    span = b"/".join((scope.date, scope.region, scope.service, b"aws4_request"))
    digest = sha256(canonical).hexdigest().encode()
    text = b"\n".join((b"AWS4-HMAC-SHA256", when, span, digest))
    secret = b"AWS4" + key.secret
    for word in (scope.date, scope.region, scope.service, b"aws4_request"):
        secret = _mac(secret, word)
    line = b"Authorization: AWS4-HMAC-SHA256 Credential=%b/%b, SignedHeaders=%b, Signature=%b" % (
        key.identity,
        span,
        b";".join(scope.signed),
        _mac(secret, text).hex().encode(),
    )
    return [(name, line if name == b"authorization" else old) for name, old in kept]
