"""The same for a Python program: one session, and what is run in it.

    async with nono_mcp.Session("~/src/project", hosts=["pypi.org"]) as session:
        tested = await session.run("make test", timeout_s=60)
        if tested.status:
            await session.rollback(tested.before)

The policy is what `nono serve` would have for that workspace, and the arguments add to it what the
command line's options of the same names do. Every call is recorded in the same log, and the
workspace kept around it.

Architecture invariant: nothing that is named here is opened or executed by this process: files are
read and written by confined workers too.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nono_mcp import places, session
from nono_mcp.commands import Command
from nono_mcp.policy.document import (
    Document,
    EnvironmentSection,
    FilesystemSection,
    LimitsSection,
    NetworkSection,
)
from nono_mcp.policy.home import astray
from nono_mcp.policy.request import Request
from nono_mcp.server.audit_log import open_log
from nono_mcp.undo.values import Wanted
from nono_sandbox.confinement import GRANT_MOVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

__all__ = ["FileError", "Outcome", "RolledBack", "Session"]

FILE_BYTES_MAX = 64 * 1024 * 1024
"""How large a file `read_file` returns may be; `commands.STDIN_BYTES_MAX` bounds the other way."""
_SHELL = "/bin/sh"
# A pipe would have them wait for whoever is at its other end, and some devices have no end.
_ONLY_FILES = """\
if [ -e "$1" ] && [ ! -f "$1" ] && [ ! -d "$1" ]; then
  echo "$1: it is no regular file" >&2; exit 1
fi
"""
_WRITE = f'{_ONLY_FILES}mkdir -p -- "$(dirname -- "$1")" && exec cat >"$1"'
_READ = f'{_ONLY_FILES}exec head -c {FILE_BYTES_MAX + 1} <"$1"'


class FileError(Exception):
    """A confined worker couldn't read or write a file; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. All its processes are gone."""

    id: str
    """By which the audit log knows it."""
    status: int
    """As a shell reports it: 126 not run, 127 not found, 128+n signal n."""
    output: bytes
    """Both streams as they were written: the first and the last 48 KiB."""
    omitted_bytes: int
    """How many are missing between them."""
    limit: str
    """The limit that ended it (wall, cpu, memory, ...), or nothing."""
    failure: str
    """Why it wasn't run, or nothing."""
    duration_s: float
    before: str
    """The snapshot to roll back to; nothing if it may not write, or none is kept."""
    put_right: tuple[str, ...]
    """What it did to protected files that was undone: an action and a path each."""

    @property
    def text(self) -> str:
        """Return the output as text."""
        return self.output.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did."""

    restored_count: int
    removed_count: int
    verified: bool
    """The workspace was read again, and is what it was."""
    before: str
    """The snapshot to roll back to, to undo this."""


class Session:
    """One policy, one workspace, and the confined calls made in it.

    *allow* and *read* are directories, *deny* any paths; they may begin with `~`. *hosts* are
    HOST, HOST:PORT or *.ZONE; *credentials* are names that `nono credential` knows; *environment*
    adds variables; *timeout_s* bounds every call. *tier* insists on "namespaces" or "landlock".
    """

    def __init__(  # noqa: PLR0913 - the command line's options
        self,
        workspace: str | os.PathLike[str] = ".",
        *,
        profile: str | None = None,
        allow: Iterable[str] = (),
        read: Iterable[str] = (),
        deny: Iterable[str] = (),
        hosts: Iterable[str] = (),
        credentials: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        tier: str | None = None,
    ) -> None:
        given = EnvironmentSection(set=tuple((environment or {}).items()))
        flags = Document(
            filesystem=FilesystemSection(allow=tuple(allow), read=tuple(read), deny=tuple(deny)),
            network=NetworkSection(allow_domains=tuple(hosts), credentials=tuple(credentials)),
            limits=LimitsSection(timeout_s=timeout_s),
            environment=given,
        )
        here = os.getcwd()  # noqa: PTH109 - a text, as everything about paths here
        environ = os.environ
        self._request = Request(
            workspace=os.path.join(here, os.path.expanduser(workspace)),  # noqa: PTH111, PTH118 - likewise
            tier="",
            environ=environ,
            home=places.home(environ),
            state_dir=places.state_dir(environ),
            config_dir=places.config_dir(environ),
            base=here,
            profile=profile,
            flags=flags,
        )
        self._tier = tier
        self._stack = AsyncExitStack()
        self._session: session.Session | None = None

    async def __aenter__(self) -> Self:
        """Open the log, and start the fork server.

        Raises:
            ServeError, PolicyError, RefusedError, SandboxError, SnapshotError: Nothing runs.
        """
        async with AsyncExitStack() as stack:
            log = await stack.enter_async_context(open_log(self._request))
            opened = session.Session.open(self._request, tier=self._tier, log=log)
            self._session = await stack.enter_async_context(opened)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all that still runs."""
        self._session = None
        await self._stack.__aexit__(kind, error, trace)

    @property
    def tier(self) -> str:
        """Return how it is enforced: by "namespaces" or by "landlock"."""
        return self._open.tier

    async def run(  # noqa: PLR0913 - what a call is made of
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        stdin: bytes | str = b"",
        timeout_s: float | None = None,
        environment: Mapping[str, str] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Run *command* to its end: a shell's command line, or a program and its arguments.

        *cwd* is absolute or relative to the workspace, and within it. *on_output* is told every
        byte as it arrives. Cancelled, it leaves nothing running.

        Raises:
            CommandError: It can't be run as given.
            AuditWriteError, SnapshotError, SandboxError: It wasn't run, or nothing of it is left.
        """
        wanted = Command(
            argv=(_SHELL, "-c", command) if isinstance(command, str) else tuple(command),
            cwd=cwd,
            stdin=stdin.encode() if isinstance(stdin, str) else stdin,
            timeout_s=timeout_s,
            environment=environment or {},
        )
        return _outcome(await self._open.run(wanted, on_output=on_output))

    async def read_file(self, path: str) -> bytes:
        """Return the content of a file; *path* is absolute or relative to the workspace.

        Raises:
            FileError: It can't be read, or has over `FILE_BYTES_MAX`.
        """
        content = bytearray()

        # Its complaints would look like content: they are asked for once there are some.
        argv = (_SHELL, "-c", f"exec 2>/dev/null\n{_READ}", _SHELL, path)
        done = _outcome(
            await self._open.run(_apart(argv), on_output=content.extend, tool="read_file")
        )
        if done.status and not (done.limit or done.failure):
            argv = (_SHELL, "-c", f"exec >/dev/null\n{_READ}", _SHELL, path)
            done = _outcome(await self._open.run(_apart(argv), tool="read_file"))
            raise FileError(_why(done, path) if done.status else f"{path}: changed meanwhile")
        if done.status:
            raise FileError(_why(done, path))
        if len(content) > FILE_BYTES_MAX:
            raise FileError(f"{path}: over {FILE_BYTES_MAX} bytes")
        return bytes(content)

    async def write_file(self, path: str, content: bytes | str) -> None:
        """Write a file, and make its directories; *path* as `read_file` has it.

        Raises:
            FileError: It can't be written; a part of it may be.
        """
        if path.rpartition("/")[2] in ("", ".", ".."):
            raise FileError(f"{path}: its end names a directory: name a file")
        data = content.encode() if isinstance(content, str) else content
        argv = (_SHELL, "-c", _WRITE, _SHELL, path)
        command = Command(argv=argv, stdin=data, network_closed=True)
        done = _outcome(await self._open.run(command, tool="write_file"))
        if done.limit == GRANT_MOVED:
            raise FileError(f"{path}: {astray(self._open.prepared)}")
        if done.status:
            raise FileError(_why(done, path))

    async def rollback(self, snapshot: str) -> RolledBack:
        """Put the workspace back as it was at *snapshot*, an `Outcome`'s `before`.

        What is guarded stays as it is now, and so does what is closed to commands: the snapshot
        may hold what another command planted, that ran beside.

        Raises:
            SnapshotError: The error says in what state the workspace is.
        """
        undo = self._open.undo
        if undo is None:
            raise RuntimeError("this policy keeps no snapshots")
        wanted = Wanted(snapshot, leave=undo.rules.closed(self._open.prepared))
        done, _ = await self._open.roll_back(wanted)
        return RolledBack(done.restored_count, done.removed_count, done.verified, done.safety.id)

    @property
    def _open(self) -> session.Session:
        if self._session is None:
            raise RuntimeError("the session isn't open: use `async with`")
        return self._session


def _apart(argv: tuple[str, ...]) -> Command:
    return Command(argv=argv, writes=(), network_closed=True)


def _why(done: Outcome, path: str) -> str:
    """Return why *done*, which failed, didn't read or write *path*."""
    if done.limit == GRANT_MOVED:
        return f"{path}: a grant was moved away while it was read; read it again"
    if done.limit:
        return f"{path}: ended by the limit {done.limit!r}"
    return done.failure or done.text[-1000:].strip() or f"{path}: status {done.status}"


def _outcome(result: session.Result) -> Outcome:
    failure = result.ended.failure
    return Outcome(
        id=result.id,
        status=result.status,
        output=b"".join(result.output.ends()),
        omitted_bytes=result.output.omitted_bytes,
        limit=result.ended.limit,
        failure="" if failure is None else failure[1],
        duration_s=result.duration_s,
        before="" if result.changed is None else result.changed.before.id,
        put_right=tuple(f"{one.action} {one.path}" for one in result.guarded),
    )
