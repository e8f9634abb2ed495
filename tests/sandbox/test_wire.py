"""Messages between our processes: what is sent arrives, with its descriptors, or an error does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_sandbox import wire
from nono_sandbox.confinement import (
    Call,
    Confinement,
    Denial,
    Grant,
    Limits,
    Link,
    Narrowing,
    Network,
)

if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator

texts = st.text(alphabet=st.characters(), max_size=20) | st.sampled_from(["T", "V", "Grant", ""])
plain_things = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)
grants = st.builds(
    Grant,
    texts,
    st.integers(1, 3),
    st.booleans(),
    st.none() | st.tuples(st.integers(), st.integers()),
    st.none() | texts,
)
confinements = st.builds(
    Confinement,
    texts,
    st.lists(grants, max_size=3).map(tuple),
    st.lists(st.builds(Denial, texts), max_size=2).map(tuple),
    st.lists(st.builds(Link, texts, texts), max_size=2).map(tuple),
    st.builds(Network, texts, st.lists(st.integers(1, 65535), max_size=3).map(tuple)),
    st.builds(Limits, st.none() | st.floats(allow_nan=False)),
)
calls = st.builds(
    Call,
    st.lists(texts, max_size=3).map(tuple),
    st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    texts,
    st.builds(Limits),
    st.builds(Narrowing, st.none() | st.lists(texts).map(tuple), st.booleans()),
    st.booleans(),
)


@pytest.fixture
def ends() -> Iterator[tuple[_socket.socket, _socket.socket]]:
    one, other = wire.socket_pair()
    yield one, other
    one.close()
    other.close()


@given(plain_things | confinements | calls | st.tuples(plain_things, grants, st.tuples(calls)))
def test_what_is_made_plain_becomes_whole_again(thing: object) -> None:
    assert wire.whole(wire.plain(thing)) == thing


@given(st.lists(plain_things | confinements | calls, max_size=3))
def test_a_message_arrives_as_it_was_sent(parts: list[object]) -> None:
    one, other = wire.socket_pair()
    wire.send(one, "kind", *parts)
    message, fds = wire.receive(other)
    one.close()
    other.close()
    assert (message, fds) == (("kind", *parts), [])


def test_a_message_of_any_size_arrives_with_its_descriptors(
    ends: tuple[_socket.socket, _socket.socket],
) -> None:
    read_end, write_end = os.pipe()
    for size in (0, 1, 1 << 16, (1 << 16) + 1, 1 << 22):
        wire.send(ends[0], "large", "x" * size, fds=[write_end, write_end])
        message, fds = wire.receive(ends[1])
        assert message == ("large", "x" * size)
        assert [os.fstat(fd) for fd in fds] == [os.fstat(write_end)] * 2
        assert not any(os.get_inheritable(fd) for fd in fds)
        for fd in fds:
            os.close(fd)
    os.close(read_end)
    os.close(write_end)


def test_an_end_that_is_gone_is_an_error_and_not_a_message(
    ends: tuple[_socket.socket, _socket.socket],
) -> None:
    ends[0].close()
    with pytest.raises(wire.ClosedError):
        wire.receive(ends[1])
    with pytest.raises(wire.ClosedError):
        wire.send(ends[1], "kind")


def test_an_end_without_a_message_blocks_nobody_who_wont_wait(
    ends: tuple[_socket.socket, _socket.socket],
) -> None:
    ends[1].setblocking(False)  # noqa: FBT003  # the socket's own signature
    with pytest.raises(BlockingIOError):
        wire.receive(ends[1])


def test_a_channel_isnt_inherited(ends: tuple[_socket.socket, _socket.socket]) -> None:
    assert not any(os.get_inheritable(end.fileno()) for end in ends)
    assert min(end.fileno() for end in ends) > 2


def test_what_an_end_said_is_heard_though_it_went_without_listening() -> None:
    ours, theirs = wire.socket_pair()
    wire.send(ours, "unread")
    wire.send(theirs, "last words")
    theirs.close()
    assert wire.receive(ours)[0] == ("last words",)
    with pytest.raises(wire.ClosedError):
        wire.receive(ours)
    ours.close()
