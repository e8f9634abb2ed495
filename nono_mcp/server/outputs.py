"""What calls printed, as resources: whole, page by page.

`nono://output/ID` is the first page of what the call or job of that id printed,
`nono://output/ID/OFFSET` a later one. What is kept is what `read_output` has.

Architecture invariant: reading here moves no reader of `read_output` on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError

from nono_mcp.server.text import readable, whole_characters

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from nono_mcp.server.jobs import Jobs
    from nono_mcp.server.notifications import Notifications

OUTPUT_URI = "nono://output/{job}"
PAGE_URI = "nono://output/{job}/{offset}"
PAGE_BYTES_MAX = 64 * 1024

_known = re.compile(r"nono://output/[0-9a-f]{16}")
_offset = re.compile(r"[0-9]{1,15}")


class Outputs:
    """The outputs of one session."""

    def __init__(self, jobs: Jobs, notifications: Notifications) -> None:
        self._jobs = jobs
        self._notifications = notifications

    def offer(self, app: MCPServer[None]) -> None:
        """Add the resources to *app*, and have their changes told."""
        self._notifications.known.append(_known)
        self._jobs.listeners.append(self._hear)
        app.resource(
            OUTPUT_URI,
            name="output",
            title="Output of a call",
            description="What a job, or a call whose output was long, printed; changes are told.",
            mime_type="text/plain",
        )(self.first)
        app.resource(
            PAGE_URI,
            name="output-page",
            title="Output of a call, further on",
            description="From a byte offset on, which the page before names.",
            mime_type="text/plain",
        )(self.page)

    def first(self, job: str) -> str:
        """Return the first page of what is kept."""
        return self.page(job, "0")

    def page(self, job: str, offset: str) -> str:
        """Return what is kept from *offset* on."""
        if not _offset.fullmatch(offset):
            raise ResourceNotFoundError("no such resource: an offset is a number of bytes")
        try:
            found = self._jobs.find(job)
        except ToolError as error:
            raise ResourceNotFoundError(str(error)) from error
        start, chunk = found.output.read(int(offset), PAGE_BYTES_MAX)
        if not found.ended or start + len(chunk) < found.output.end:
            chunk = whole_characters(chunk)
        end = start + len(chunk)
        parts = [readable(chunk).removesuffix("\n")]
        if start > int(offset):
            parts.insert(0, f"[nono] bytes {offset} to {start} aren't kept any more")
        if end < found.output.end:
            parts.append(f"[nono] more of {found.output.end} bytes: nono://output/{job}/{end}")
        elif not found.ended:
            parts.append(f"[nono] it goes on: nono://output/{job}/{end}")
        return "\n".join(parts)

    def _hear(self, job: str) -> None:
        self._notifications.hear(OUTPUT_URI.format(job=job))
