"""What is sent to an upstream in place of what the client sent.

Architecture invariant: no I/O; this is the one place where a credential enters a request.
"""

from nono_proxy import placements, rewrite, sigv4
from nono_proxy.credential import Credential
from nono_proxy.errors import CredentialUnavailableError, Refusal
from nono_proxy.grammar import Request
from nono_proxy.placements import Parts
from nono_proxy.plan import Plan


def head(
    request: Request, plan: Plan, credential: Credential | None, payload_hash: bytes | None
) -> bytes:
    """Return the head that goes upstream, with the credential where the tokens stood.

    Raises:
        Refusal: The credential can't be used.
    """
    if plan.target is None:
        raise AssertionError("what was judged has a target")
    parts = Parts(request.fields, plan.path, plan.query)
    host = rewrite.host_of(plan.target, tls=plan.tls)
    if credential is not None:
        parts = placements.swap(parts, plan.found, credential.value)
        if payload_hash is not None:
            parts = _signed(request, parts, host, (credential, payload_hash))
    target = parts.path if parts.query is None else parts.path + b"?" + parts.query
    return rewrite.request_head(request, target, host, parts.fields, lent=credential is not None)


def _signed(request: Request, parts: Parts, host: bytes, by: tuple[Credential, bytes]) -> Parts:
    credential, payload_hash = by
    try:
        key = sigv4.Key.parse(credential.value)
    except CredentialUnavailableError as error:
        raise Refusal("credential-unavailable", str(error)) from error
    length = None if request.chunked else request.length
    unsigned = sigv4.Unsigned(request.method, parts, host, payload_hash, length)
    return parts._replace(fields=sigv4.resign(unsigned, key))
