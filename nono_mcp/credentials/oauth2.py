"""OAuth 2.0 client credentials (RFC 6749 section 4.4): a secret exchanged for a token.

Architecture invariant: a redirect is never followed and no proxy of the environment is used, so
that the secret goes to the host that the person named and to no other.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

import httpx2

from nono_mcp.credentials.secret import CredentialError, Secret, secret

if TYPE_CHECKING:
    from nono_mcp.credentials.source import OAuth2

EXCHANGE_S_MAX: Final = 15.0
ANSWER_BYTES_MAX: Final = 64 * 1024
LIFETIME_S_MAX: Final = 24 * 3600.0
_OK: Final = 200


def exchange(source: OAuth2, own: Secret) -> tuple[Secret, float | None]:
    """Return a token for the client of *source*, whose secret is *own*, and its lifetime.

    Raises:
        CredentialError: The server gave none; the message says its status and nothing it wrote.
    """
    what = str(source)
    form = {"grant_type": "client_credentials"}
    if source.scope:
        form["scope"] = source.scope
    # RFC 6749 section 2.3.1: both are form-encoded before they're joined.
    basic = (quote_plus(source.client), quote_plus(own.reveal()))
    try:
        with (
            httpx2.Client(
                timeout=EXCHANGE_S_MAX, trust_env=False, follow_redirects=False
            ) as client,
            client.stream("POST", source.url, data=form, auth=basic) as response,
        ):
            if response.status_code != _OK:
                raise CredentialError(f"{what}: it answered {response.status_code}")
            answer = _read(response, what)
    except httpx2.HTTPError as error:
        raise CredentialError(f"{what}: {type(error).__name__}") from None
    return _token(answer, what)


def _read(response: httpx2.Response, what: str) -> bytes:
    data = b""
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            raise CredentialError(f"{what}: its answer is over {ANSWER_BYTES_MAX} bytes")
    return data


def _token(answer: bytes, what: str) -> tuple[Secret, float | None]:

    try:
        found = json.loads(answer)
    except ValueError:
        raise CredentialError(f"{what}: its answer isn't JSON") from None
    token = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(token, str) or str(found.get("token_type", "")).lower() != "bearer":
        raise CredentialError(f"{what}: its answer holds no bearer token")
    lifetime = found.get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)):
        return secret(token, what), None
    return secret(token, what), min(max(float(lifetime), 0.0), LIFETIME_S_MAX)
