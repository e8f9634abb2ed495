"""Whether a call left files open: told by the Unix sockets that are there when it has ended."""

import os
import socket
import subprocess

import pytest

from nono_mcp.undo.in_flight import InFlight

pytestmark = pytest.mark.linux


def test_each_socket_more_is_told_of() -> None:
    in_flight = InFlight()
    network = os.getpid()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert in_flight.left(network)
        more, than = socket.socketpair()
        with more, than:
            assert in_flight.left(network)


def test_a_process_that_is_gone_is_not_taken_for_another() -> None:
    in_flight = InFlight()
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert in_flight.left(process.pid)
        assert comes_to_rest(in_flight, process.pid)
        process.communicate()
        assert in_flight.left(process.pid), "nobody tells"
    assert comes_to_rest(in_flight, os.getpid())
    in_flight.close()


def comes_to_rest(in_flight: InFlight, network: int) -> bool:
    """Tell whether at some time there was nothing new: others open sockets in this network too."""
    return any(not in_flight.left(network) for _ in range(1000))


def test_what_cannot_be_read_counts_and_no_network_is_not_asked() -> None:
    in_flight = InFlight()
    assert in_flight.left((1 << 22) + 1)
    assert not in_flight.left(0)
