"""What every connection of the proxy is: a transport that is written to, held and ended.

Architecture invariant: nothing is decided here.
"""

import asyncio
from typing import TYPE_CHECKING

from nono_proxy.wires import Wire

if TYPE_CHECKING:
    from nono_proxy.passing import Passage

_WRITE_HIGH = 262144


class Stream(asyncio.Protocol):
    """A connection; what it does with what it hears is its subclass's."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.diverted = False
        """Whether what comes has a way of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream has a transport that reads and writes")
        self.transport = transport
        transport.set_write_buffer_limits(_WRITE_HIGH)

    def write(self, data: bytes) -> None:
        """Send on."""
        if self.transport is not None:
            self.transport.write(data)

    def hold(self) -> None:
        """Read no more for now."""
        if self.transport is not None:
            self.transport.pause_reading()

    def release(self) -> None:
        """Read on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def divert(self, passage: "Passage | None") -> None:
        """Let what comes take that way as far as it leads."""
        if isinstance(self.transport, Wire):
            self.diverted = passage is not None
            self.transport.divert(passage)

    def end(self) -> None:
        """Close when all is written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abort()
