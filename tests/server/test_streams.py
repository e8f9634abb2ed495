"""What goes to a client, on whatever descriptor it is."""

import os
from pathlib import Path

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse

from nono_mcp.server.messages import encode
from nono_mcp.server.streams import Receiving, Sending


def test_a_long_message_goes_whole_into_a_file(tmp_path: Path) -> None:
    long, short = response(1, "x" * 1_000_000), response(2, "y")
    target = tmp_path / "out"

    async def main() -> None:
        with target.open("wb") as out:
            sent = Sending(out.fileno())
            with anyio.fail_after(60):
                await sent.send(long)
                await sent.send(short)
                await sent.written()

    anyio.run(main)
    assert target.read_bytes() == encode(long.message) + encode(short.message)


@pytest.mark.linux
def test_where_nothing_can_be_written_nothing_more_is_received() -> None:
    """As where a terminal has gone, or a disk is full."""

    async def main() -> None:
        ours, theirs = os.pipe()
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            sent = Sending(full)
            received = Receiving(ours, sent.send)
            sent.on_broken = received.end
            with anyio.fail_after(60):
                await sent.send(response(1, "x" * 1_000_000))
                await sent.written()
                with pytest.raises(anyio.BrokenResourceError):
                    await sent.send(response(2, "y"))
                with pytest.raises(anyio.EndOfStream):
                    await received.receive()
        finally:
            for fd in (ours, theirs, full):
                os.close(fd)

    anyio.run(main)


def response(id_: int, text: str) -> SessionMessage:
    return SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=id_, result={"text": text}))
