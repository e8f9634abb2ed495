"""A client's descriptors as streams: whole messages in order, however slowly they are taken."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest

from nono_mcp.server import stdio, streams
from nono_mcp.server.streams import Receiving, Sending

LONG_ENOUGH_S = 60
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    for fd in (read_fd, write_fd):
        try:
            os.close(fd)
        except OSError:
            continue  # the test's doing


def message(number: int, size: int = 0) -> SessionMessage:
    params = {"number": number, "text": "x" * size}
    return SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="n", params=params))


async def refuse(_: SessionMessage) -> None:
    raise AssertionError("nothing was to be refused")


def test_whole_messages_are_written_in_order_though_nobody_reads_at_first(
    pipe: tuple[int, int],
) -> None:
    read_fd, write_fd = pipe
    sizes = [10, 300_000, 10, 70_000, 10]
    received = bytearray()

    async def act() -> None:
        sending = Sending(write_fd)
        with anyio.fail_after(LONG_ENOUGH_S):
            async with anyio.create_task_group() as group:
                for number, size in enumerate(sizes):
                    group.start_soon(sending.send, message(number, size))
                await anyio.wait_all_tasks_blocked()
                while received.count(b"\n") < len(sizes):
                    received.extend(await anyio.to_thread.run_sync(os.read, read_fd, 5000))
                await sending.written()

    anyio.run(act)
    found = [json.loads(line)["params"] for line in received.splitlines()]
    assert [one["number"] for one in found] == [0, 1, 2, 3, 4]
    assert [len(one["text"]) for one in found] == sizes


def test_what_waited_for_its_turn_and_is_cancelled_is_not_written(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    received = bytearray()

    async def act() -> None:
        sending = Sending(write_fd)
        with anyio.fail_after(LONG_ENOUGH_S):
            await sending.send(message(0, 300_000))
            with anyio.move_on_after(0.01):
                await sending.send(message(1))
            while received[-1:] != b"\n":
                received.extend(await anyio.to_thread.run_sync(os.read, read_fd, 5000))
            await sending.send(message(2))
        received.extend(os.read(read_fd, 5000))

    anyio.run(act)
    numbers = [json.loads(line)["params"]["number"] for line in received.splitlines()]
    assert numbers == [0, 2]


def test_who_sends_to_nobody_is_told(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    told = []

    async def act() -> None:
        sending = Sending(write_fd)
        sending.on_broken = lambda: told.append(True)
        with anyio.fail_after(LONG_ENOUGH_S):
            await sending.send(message(0, 300_000))
            os.close(read_fd)
            with pytest.raises(anyio.BrokenResourceError):
                await sending.send(message(1))
            await sending.written()

    anyio.run(act)
    assert told == [True]


def test_no_more_is_read_than_is_wanted_and_what_comes_in_pieces_is_one_message(
    pipe: tuple[int, int],
) -> None:
    read_fd, write_fd = pipe

    async def act() -> None:
        receiving = Receiving(read_fd, refuse)
        with anyio.fail_after(LONG_ENOUGH_S):
            async with anyio.create_task_group() as group:
                group.start_soon(_expect, receiving)
                await anyio.wait_all_tasks_blocked()
                os.write(write_fd, PING[:10])
                await anyio.lowlevel.checkpoint()
                os.write(write_fd, PING[10:])
            os.write(write_fd, PING)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert not receiving._is_watched  # noqa: SLF001 - or the loop would be busy with it
            await _expect(receiving)
            os.close(write_fd)
            with pytest.raises(anyio.EndOfStream):
                await receiving.receive()
        receiving.end()

    anyio.run(act)


async def _expect(receiving: Receiving) -> None:
    found = await receiving.receive()
    assert isinstance(found, SessionMessage)
    assert isinstance(found.message, JSONRPCRequest)


def test_who_waits_for_a_message_is_told_of_the_end(pipe: tuple[int, int]) -> None:
    read_fd, _ = pipe
    ended = []

    async def act() -> None:
        receiving = Receiving(read_fd, refuse)

        async def wait() -> None:
            async for _ in receiving:
                raise AssertionError("nothing was sent")
            ended.append(True)

        with anyio.fail_after(LONG_ENOUGH_S):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                receiving.end()

    anyio.run(act)
    assert ended == [True]


def test_what_can_not_be_read_is_at_its_end(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "written", os.O_WRONLY | os.O_CREAT)

    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S), pytest.raises(anyio.EndOfStream):
            await Receiving(fd, refuse).receive()

    try:
        anyio.run(act)
    finally:
        os.close(fd)


def test_no_more_is_written_in_one_turn_however_fast_it_is_taken(tmp_path: Path) -> None:
    """Others have theirs in between."""
    fd = os.open(tmp_path / "written", os.O_WRONLY | os.O_CREAT)
    sizes = []

    async def act() -> None:
        sending = Sending(fd)
        with anyio.fail_after(LONG_ENOUGH_S):
            await sending.send(message(0, 1_000_000))
            while sending._rest:  # noqa: SLF001 - what waits
                sizes.append(os.fstat(fd).st_size)
                await anyio.lowlevel.checkpoint()
            sizes.append(os.fstat(fd).st_size)

    try:
        anyio.run(act)
    finally:
        os.close(fd)
    most = streams._WRITES_MAX * streams._WRITE_BYTES  # noqa: SLF001
    assert sizes[-1] > 1_000_000
    assert all(after - before <= most for before, after in zip([0, *sizes], sizes, strict=False))


def test_what_was_sent_is_written_after_the_end_and_nothing_more(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    received = bytearray()

    async def act() -> None:
        sending = Sending(write_fd)
        with anyio.fail_after(LONG_ENOUGH_S):
            async with sending:
                await sending.send(message(0, 300_000))
            async with anyio.create_task_group() as group:
                group.start_soon(sending.written)
                while received[-1:] != b"\n":
                    received.extend(await anyio.to_thread.run_sync(os.read, read_fd, 5000))
            with pytest.raises(anyio.ClosedResourceError):
                await sending.send(message(1))
            assert not asyncio.get_running_loop().remove_writer(write_fd)

    anyio.run(act)
    assert json.loads(received)["params"]["number"] == 0


def test_who_was_let_go_of_is_written_nothing(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe

    async def act() -> None:
        sending = Sending(write_fd)
        await sending.send(message(0, 300_000))
        sending.let_go()
        assert not asyncio.get_running_loop().remove_writer(write_fd)
        with anyio.fail_after(LONG_ENOUGH_S):
            await sending.written()
        os.close(write_fd)

    anyio.run(act)
    written = b"".join(iter(lambda: os.read(read_fd, 1 << 20), b""))
    assert len(written) < 300_000


def test_a_client_that_reads_nothing_is_not_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "FLUSH_S_MAX", 0.01)
    read_fd, write_fd = os.pipe()

    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with stdio.streams(pipe[0], write_fd) as (_, sent):
                await sent.send(message(0, 300_000))

    try:
        anyio.run(act)
    finally:
        os.close(read_fd)
        os.close(write_fd)


@pytest.mark.parametrize("lines_count", [1, 2])
def test_after_the_end_nothing_is_received_that_has_come(
    pipe: tuple[int, int], lines_count: int
) -> None:
    read_fd, write_fd = pipe
    os.write(write_fd, lines_count * PING)

    async def act() -> None:
        receiving = Receiving(read_fd, refuse)
        with anyio.fail_after(LONG_ENOUGH_S):
            await _expect(receiving)
            receiving.end()
            with pytest.raises(anyio.EndOfStream):
                await receiving.receive()
        assert not asyncio.get_running_loop().remove_reader(read_fd)

    anyio.run(act)


def test_who_takes_no_answers_is_still_heard(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    os.write(write_fd, b"nonsense\n" + PING)

    async def broken(_: SessionMessage) -> None:
        raise anyio.BrokenResourceError

    async def act() -> None:
        receiving = Receiving(read_fd, broken)
        with anyio.fail_after(LONG_ENOUGH_S):
            await _expect(receiving)
        receiving.end()

    anyio.run(act)


def test_a_connection_that_was_reset_is_at_its_end() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(b"unread")

    told: list[object] = []

    async def act() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
        receiving = Receiving(ours.fileno(), refuse)
        with anyio.fail_after(LONG_ENOUGH_S):
            theirs.close()
            with pytest.raises(anyio.EndOfStream):
                await receiving.receive()
        receiving.end()

    try:
        anyio.run(act)
    finally:
        ours.close()
    assert told == []
