"""Completions of ids and paths, for prompts and resource templates.

A path is completed by a confined worker, as everything that is looked up in the workspace is: what
it doesn't see isn't offered.

Architecture invariant: a completion changes nothing, and whatever goes wrong it offers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from mcp_types import Completion, PromptReference

from nono_mcp.audit import reading
from nono_mcp.audit.errors import AuditError
from nono_mcp.server import file_answers as answers
from nono_mcp.server import file_calls, hints
from nono_mcp.server.attending import REFUSALS
from nono_mcp.server.audit_resources import CALL_URI
from nono_mcp.server.co_tenants import CoTenants
from nono_mcp.server.outputs import OUTPUT_URI, PAGE_URI
from nono_mcp.server.snapshot_resources import SNAPSHOT_URI
from nono_mcp.snapshots.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_types import CompletionArgument, CompletionContext, ResourceTemplateReference

    from nono_mcp.server.app import App
    from nono_mcp.server.jobs import Jobs
    from nono_mcp.session import Session

VALUES_MAX = 100
"""What the protocol allows."""
LISTED_MAX = 1000
SECONDS_MAX = 5.0
ANSWER_BYTES_MAX = 1024 * 1024
CALLS_LOOKED_AT = 2000


class Completions:
    """The completions of one session."""

    def __init__(
        self, session: Session, jobs: Jobs, co_tenants: CoTenants = CoTenants.NOBODY
    ) -> None:
        self._tells_all = co_tenants is not CoTenants.WITHIN
        self._session = session
        self._jobs = jobs
        self._turn = anyio.Semaphore(1)

    def offer(self, app: App) -> None:
        """Have *app* complete."""
        app.completion()(self.complete)  # type: ignore[no-untyped-call] # the SDK's has no types

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        """Return what *argument* may go on as; None where there's nothing to complete."""
        del context
        name = ref.name if isinstance(ref, PromptReference) else ref.uri
        source = self._source(name, argument.name)
        if source is None:
            return None
        found = [one for one in await source(argument.value) if one.startswith(argument.value)]
        values = list(dict.fromkeys(found))
        return Completion(
            values=values[:VALUES_MAX], total=len(values), has_more=len(values) > VALUES_MAX
        )

    def _source(self, where: str, what: str) -> Callable[[str], Awaitable[list[str]]] | None:
        paths = {("rollback", "path"): self._paths, ("why-denied", "what"): self._paths}
        if not self._tells_all:
            return paths.get((where, what))
        return {
            **paths,
            ("rollback", "snapshot"): self._snapshots,
            ("what-changed", "since"): self._snapshots,
            (SNAPSHOT_URI, "id"): self._snapshots,
            (CALL_URI, "call"): self._calls,
            (OUTPUT_URI, "job"): self._outputs,
            (PAGE_URI, "job"): self._outputs,
        }.get((where, what))

    async def _snapshots(self, _: str) -> list[str]:
        if self._session.undo is None:
            return []
        try:
            found = await self._session.undo.look(lambda store: store.list(limit=LISTED_MAX))
        except SnapshotError:
            return []
        named = [one.name for one in found if one.name is not None and one.name.isprintable()]
        return [*named, *(one.id for one in found)]

    async def _calls(self, _: str) -> list[str]:
        log = self._session.log
        if log is None:
            return []
        filters = reading.Filters(session=log.name, kind="call.start")
        try:
            page = await anyio.to_thread.run_sync(
                reading.tail, self._session.state_dir, filters, VALUES_MAX, None, CALLS_LOOKED_AT
            )
        except (AuditError, OSError, ValueError):
            return []
        return [str(one.data["call"]) for one in reversed(page.records)]

    async def _outputs(self, _: str) -> list[str]:
        return [job.id for job in reversed(self._jobs.all())]

    async def _paths(self, begun: str) -> list[str]:
        """Return what a worker finds in the directory that *begun* is in."""
        if "\0" in begun or not begun.isprintable():
            return []
        directory = begun[: begun.rfind("/") + 1]
        prepared = self._session.prepared
        home = dict(prepared.confinement.environment).get("HOME", prepared.home)
        path = hints.absolute(directory, prepared.confinement.cwd, home)
        request = {"path": path, "depth": 1, "limit": LISTED_MAX}
        command = file_calls.asking("list_directory", request, SECONDS_MAX)
        answer = file_calls.Answer(ANSWER_BYTES_MAX)
        async with self._turn:
            try:
                await self._session.run(command, tool="completion", on_output=answer.keep)
                listing, _ = answers.parse(answers.Listing, bytes(answer.data))
            except (*REFUSALS, ValueError):
                return []
        if not isinstance(listing, answers.Listing):
            return []
        names = ((name, "/" if kind == "/" else "") for name, kind, *_ in listing.entries)
        return [f"{directory}{name}{slash}" for name, slash in names if name.isprintable()]
