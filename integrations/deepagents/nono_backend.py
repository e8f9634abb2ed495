"""A deepagents sandbox back end: every command and file of the agent's goes through nono.

    with NonoBackend("~/src/project") as backend:
        agent = create_deep_agent(model=..., backend=backend)

Its file tools (ls, read, write, edit, grep, glob) are deepagents' own and run as commands in the
sandbox; so does what they are given to read and write.
"""

import uuid
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import anyio.from_thread
from deepagents.backends.protocol import (
    ExecuteResponse,
    FileDownloadResponse,
    FileUploadResponse,
)
from deepagents.backends.sandbox import BaseSandbox

import nono_mcp


class NonoBackend(BaseSandbox):
    """One nono session, for deepagents' threads: takes what `nono_mcp.Session` does."""

    def __init__(self, workspace: str, **policy: object) -> None:
        self._session = nono_mcp.Session(workspace, **policy)
        self._stack = ExitStack()
        self._id = f"nono-{uuid.uuid4()}"

    def __enter__(self) -> Self:
        """Start the session, in a thread of its own."""
        with ExitStack() as stack:
            portal = stack.enter_context(anyio.from_thread.start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._session))
            self._portal = portal
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all that still runs."""
        self._stack.__exit__(kind, error, trace)

    @property
    def id(self) -> str:
        """Return what tells this sandbox from others."""
        return self._id

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a shell command in the sandbox."""

        async def run() -> nono_mcp.Outcome:
            # To deepagents 0 is no limit; the policy's is there all the same.
            return await self._session.run(command, timeout_s=timeout or None)

        done = self._portal.call(run)
        output = done.text
        if done.limit:
            output += f"\n[ended by its limit: {done.limit}]"
        return ExecuteResponse(output, done.status, truncated=done.omitted_bytes > 0)

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files, as a command in the sandbox could."""
        return [FileUploadResponse(path, self._written(path, content)) for path, content in files]

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files, as a command in the sandbox could."""
        return [self._read(path) for path in paths]

    def _written(self, path: str, content: bytes) -> str | None:
        try:
            self._portal.call(self._session.write_file, path, content)
        except nono_mcp.FileError as error:
            return _known(error)
        return None

    def _read(self, path: str) -> FileDownloadResponse:
        try:
            return FileDownloadResponse(path, self._portal.call(self._session.read_file, path))
        except nono_mcp.FileError as error:
            return FileDownloadResponse(path, error=_known(error))


def _known(error: nono_mcp.FileError) -> str:
    """Return the word that deepagents has for *error*, or its text."""
    words = {
        "No such file": "file_not_found",
        "Permission denied": "permission_denied",
        "Read-only file system": "permission_denied",
        "Is a directory": "is_directory",
    }
    return next((word for said, word in words.items() if said in str(error)), str(error))
