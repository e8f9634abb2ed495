"""A port to serve at, for whoever has to say which one before it's bound."""

import secrets
import socket
from pathlib import Path

LOWEST = 10_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_LOWEST_USUAL = 32_768
"""Of macOS, which has no such file, it's higher."""


def unused_port() -> int:
    """Return a port of the loopback at which nobody listens.

    It's none that the kernel gives to whoever asks for any, as the tests beside this one do.
    """
    try:
        highest = int(EPHEMERAL.read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        highest = EPHEMERAL_LOWEST_USUAL
    while True:
        port = LOWEST + secrets.randbelow(highest - LOWEST)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
