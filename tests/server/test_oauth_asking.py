"""What an authorization server is asked, how often, and by which way: in one process with it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.server import oauth
from nono_mcp.server.http_access import Refused
from nono_mcp.server.oauth import ResourceServer, Unreachable
from nono_mcp.server.team import OAuth
from tests.server.test_oauth import CLIENT_SECRET, RESOURCE, Issuer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

pytestmark = [pytest.mark.linux, pytest.mark.anyio]


@contextmanager
def answering() -> Iterator[Issuer]:
    issuer = Issuer()
    thread = threading.Thread(target=issuer.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.shutdown()
        issuer.server_close()
        thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with answering() as found:
        yield found


@pytest.fixture
def server(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> ResourceServer:
    return resource_server(issuer, monkeypatch)


def resource_server(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> ResourceServer:
    monkeypatch.setenv("NONO_OAUTH_SECRET", CLIENT_SECRET)
    settings = OAuth(
        issuer=issuer.url,
        resource=RESOURCE,
        introspection=f"{issuer.url}/introspect",
        client_id="nono",
        secret="env://NONO_OAUTH_SECRET",  # noqa: S106 - where it is
        scopes=["nono"],
    )
    return ResourceServer(settings, {"bob@example": "bob"}, os.environ)


async def test_a_token_goes_to_nobody_but_the_one_that_was_named(
    server: ResourceServer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.known["t"] = issuer.good()
    with answering() as other:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await server.owner(b"t") == "bob"
        issuer.redirect = f"{other.url}/introspect"
        other.known["u"] = issuer.good()
        with pytest.raises(Unreachable):
            await server.owner(b"u")
        assert other.asked == []


async def test_nobody_is_asked_about_what_is_too_long_to_be_a_token(
    server: ResourceServer, issuer: Issuer
) -> None:
    token = b"t" * oauth.TOKEN_BYTES_MAX
    issuer.known[token.decode()] = issuer.known[f"{token.decode()}t"] = issuer.good()
    assert await server.owner(token) == "bob"
    assert isinstance(await server.owner(token + b"t"), Refused)
    assert len(issuer.asked) == 1


async def test_an_answer_that_is_too_long_is_none(server: ResourceServer, issuer: Issuer) -> None:
    issuer.known["t"] = issuer.good(more="x" * oauth.ANSWER_BYTES_MAX)
    with pytest.raises(Unreachable, match="too long"):
        await server.owner(b"t")


async def test_a_token_counts_no_longer_than_it_says(
    server: ResourceServer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.known["t"] = issuer.good(exp=time.time() + oauth.KEPT_S / 2)
    assert await server.owner(b"t") == "bob"
    issuer.known["t"] = {"active": False}
    assert await server.owner(b"t") == "bob"
    steady = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: steady() + oauth.KEPT_S / 2)
    assert isinstance(await server.owner(b"t"), Refused)


async def test_no_more_answers_are_kept_than_there_is_room_for(
    server: ResourceServer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "KEPT_MAX", 2)
    for token in (b"a", b"b", b"c"):
        issuer.known[token.decode()] = issuer.good()
        assert await server.owner(token) == "bob"
    for token in (b"c", b"b", b"a"):
        assert await server.owner(token) == "bob"
    assert [token for _, token in issuer.asked] == ["a", "b", "c", "a"]


async def test_no_more_are_asked_about_at_once_than_there_may_be(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "ASKED_MAX", 2)
    server = resource_server(issuer, monkeypatch)
    asked: list[str] = []
    go_on = anyio.Event()

    async def ask(_: ResourceServer, token: str) -> Mapping[str, Any]:
        asked.append(token)
        await go_on.wait()
        return issuer.good()

    monkeypatch.setattr(ResourceServer, "_ask", ask)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for token in (b"a", b"b", b"c", b"d"):
                group.start_soon(server.owner, token)
            await anyio.wait_all_tasks_blocked()
            assert len(asked) == 2
            go_on.set()
    assert sorted(asked) == ["a", "b", "c", "d"]
