"""Tokens of an authorization server: this server as an OAuth 2.0 resource server.

What clients are told is RFC 9728's metadata, by the SDK; what a token is the authorization server
says (RFC 7662). A token counts only if it's active, of that issuer, made for this server (RFC 8707)
and has every scope.

Architecture invariant: a token goes to the one URL that the operator named: no redirect is followed
and no proxy of the environment used.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

import anyio
import anyio.to_thread
import httpx2
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl, ValidationError
from starlette.applications import Starlette

from nono_mcp.credentials import fetch, source
from nono_mcp.credentials.secret import CredentialError
from nono_mcp.policy.errors import PolicyError
from nono_mcp.server.errors import ServeError
from nono_mcp.server.http_access import UNAUTHORIZED, Refused, digest_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from nono_mcp.credentials.secret import Secret
    from nono_mcp.server.team import OAuth

ASK_S_MAX = 10.0
ASKED_MAX = 16
"""Tokens asked about at once; more wait."""
ANSWER_BYTES_MAX = 64 * 1024
TOKEN_BYTES_MAX = 16 * 1024
KEPT_S, REFUSED_KEPT_S = 30.0, 5.0
"""How long an answer counts: a token that is revoked is good for so long."""
KEPT_MAX = 1024
_OK = 200
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Unreachable(Exception):  # noqa: N818 - it's no error of the client's
    """The authorization server couldn't be asked. Nobody was let in."""


class ResourceServer:
    """Judges tokens by asking who issued them."""

    def __init__(
        self, settings: OAuth, subjects: Mapping[str, str], environ: os._Environ[str]
    ) -> None:
        """Take *settings*, and who *subjects* are; the secret leaves *environ*.

        Raises:
            ServeError: They can't be kept: a URL that isn't safe, a secret that isn't there.
        """
        self._settings = settings
        self._subjects = subjects
        self._turns = anyio.Semaphore(ASKED_MAX)
        self._kept: dict[str, tuple[float, str | None]] = {}
        for url in (settings.issuer, settings.resource, settings.introspection):
            _check(url)
        try:
            self._secret = _secret(settings.secret, environ)
            # Which keeps an issuer as it's written: clients compare it so (RFC 8414).
            known = AuthSettings.model_validate(
                {
                    "issuer_url": settings.issuer,
                    "resource_server_url": settings.resource,
                    "required_scopes": settings.scopes or None,
                    "validate_token_resource": True,
                }
            )
        except (CredentialError, PolicyError, ValidationError) as error:
            raise ServeError(f"oauth: {error}") from error
        resource = AnyHttpUrl(settings.resource)
        routes = create_protected_resource_routes(
            resource, [known.issuer_url], known.required_scopes
        )
        self.metadata = Starlette(routes=list(routes))
        """Tells clients where tokens are to be had."""
        self.metadata_url = str(build_resource_metadata_url(resource))

    @property
    def metadata_path(self) -> str:
        """Return where it tells that."""
        return urlsplit(self.metadata_url).path

    async def owner(self, token: bytes) -> str | Refused:
        """Return who holds *token*, or the refusal of who holds none that counts.

        Raises:
            Unreachable: Nobody can tell.
        """
        refused = Refused(UNAUTHORIZED, "the token isn't one for this server")
        if not token or len(token) > TOKEN_BYTES_MAX:
            return refused
        digest = digest_of(token)
        until, owner = self._kept.get(digest, (0.0, None))
        if until <= time.monotonic():
            async with self._turns:
                answer = await self._ask(token.decode("latin-1"))
            owner = self._judged(answer, time.time())
            self._keep(digest, answer, owner)
        return refused if owner is None else owner

    def _keep(self, digest: str, answer: Mapping[str, Any], owner: str | None) -> None:
        kept_s = REFUSED_KEPT_S if owner is None else KEPT_S
        expires = answer.get("exp")
        if owner is not None and isinstance(expires, (int, float)):
            kept_s = min(kept_s, expires - time.time())
        if len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[digest] = (time.monotonic() + kept_s, owner)

    async def _ask(self, token: str) -> Mapping[str, Any]:
        # RFC 6749 section 2.3.1: both are form-encoded before they're joined.
        basic = (quote_plus(self._settings.client_id), quote_plus(self._secret.reveal()))
        form = {"token": token, "token_type_hint": "access_token"}
        url = self._settings.introspection
        data = bytearray()
        try:
            async with (
                httpx2.AsyncClient(
                    timeout=ASK_S_MAX, trust_env=False, follow_redirects=False
                ) as client,
                client.stream("POST", url, data=form, auth=basic) as response,
            ):
                status = response.status_code
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > ANSWER_BYTES_MAX:
                        raise Unreachable("its answer is too long")
        except httpx2.HTTPError as error:
            raise Unreachable(type(error).__name__) from None
        try:
            answer = json.loads(data) if status == _OK else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(f"it answered {status}, and no JSON object")
        return answer

    def _judged(self, answer: Mapping[str, Any], now_s: float) -> str | None:
        """Return whose the token is that *answer* tells of, if it counts."""
        expires, begins = answer.get("exp"), answer.get("nbf")
        audience = answer.get("aud")
        resources = audience if isinstance(audience, list) else [audience]
        ours = self._settings.resource.removesuffix("/")
        if (
            answer.get("active") is not True
            or answer.get("iss", self._settings.issuer) != self._settings.issuer
            or (expires is not None and not (_is_time(expires) and expires > now_s))
            or (begins is not None and not (_is_time(begins) and begins <= now_s))
            or not any(isinstance(one, str) and one.removesuffix("/") == ours for one in resources)
            or not set(self._settings.scopes) <= set(str(answer.get("scope", "")).split(" "))
        ):
            return None
        subject = answer.get("sub", answer.get("client_id"))
        return self._subjects.get(subject) if isinstance(subject, str) else None


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        scheme = parts.scheme if parts.hostname else ""
        safe = scheme == "https" or (scheme == "http" and parts.hostname in _LOOPBACK)
        safe = safe and parts.username is None and not parts.fragment
    except ValueError:
        safe = False
    if not safe:
        raise ServeError(f"oauth: {url!r} isn't an https URL (http is for loopback alone)")


def _secret(text: str, environ: os._Environ[str]) -> Secret:
    where = source.parse(text)
    return fetch.fetch(where, fetch.Sources(fetch.take({"oauth": where}, environ))).value
