"""Which requests open a protocol session, told by their beginnings, and when one is over."""

import json
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from nono_mcp.server.addressing import Who
from nono_mcp.server.protocol_sessions import OPENING_BYTES_MAX, Opening, ask
from nono_mcp.server.tenant import Tenant

pytestmark = pytest.mark.anyio

LEAVES: Message = {"type": "http.disconnect"}
BEGINS = json.dumps({"method": "initialize"}).encode()


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def opening(*messages: Message) -> Opening:
    coming = iter(messages)

    async def receive() -> Message:
        return next(coming)

    return Opening(receive)


async def test_what_was_read_to_tell_is_read_again() -> None:
    sent = part(BEGINS[:3], more=True), part(BEGINS[3:], more=False)
    one = opening(*sent, LEAVES)
    assert await one.begins()
    assert [await one(), await one(), await one()] == [*sent, LEAVES]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"method": "ping"}', b"[" * 50_000, b" " * (OPENING_BYTES_MAX + 1)]
)
async def test_nothing_else_opens_one(body: bytes) -> None:
    assert not await opening(part(body, more=False)).begins()


@pytest.mark.parametrize("body", [b"", BEGINS[:3], BEGINS])
async def test_nobody_is_there_for_whom_one_would_be_opened(body: bytes) -> None:
    with pytest.raises(ClientDisconnect):
        await opening(part(body, more=True), LEAVES).begins()


async def test_no_more_is_read_to_tell_than_one_may_be_long() -> None:
    long = part(b" " * (OPENING_BYTES_MAX + 1), more=True)
    assert not await opening(long, LEAVES).begins()


ID = [(b"mcp-session-id", b"given")]


@pytest.mark.parametrize(
    ("method", "answer", "left"),
    [
        ("POST", (200, ID), False),
        ("POST", (200, []), True),
        ("POST", (400, ID), True),
        ("POST", None, True),
        ("DELETE", (200, ID), True),
        ("DELETE", (404, ID), False),
    ],
)
async def test_a_session_that_was_not_opened_or_is_ended_is_not_kept(
    method: str, answer: tuple[int, list[tuple[bytes, bytes]]] | None, *, left: bool
) -> None:
    async def app(scope: object, receive: object, send: Any) -> None:  # noqa: ANN401 - the SDK's
        del scope, receive
        if answer is None:
            raise OSError
        start = {"type": "http.response.start", "status": answer[0], "headers": answer[1]}
        await send(start)

    nothing: Any = None
    tenant = Tenant(Who.anew("alice"), nothing, nothing, app)
    tenant.protocol_id = "given" if method == "DELETE" else None

    async def send(message: Message) -> None:
        assert message["type"] == "http.response.start"

    try:
        await ask(tenant, {"method": method}, opening(), send)
    except OSError:
        assert answer is None
    assert tenant.left.is_set() == left
