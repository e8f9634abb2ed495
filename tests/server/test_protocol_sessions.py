"""Which requests open a protocol session, told by their beginnings."""

import json

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from nono_mcp.server.protocol_sessions import OPENING_BYTES_MAX, Opening

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
