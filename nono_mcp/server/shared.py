"""Serving by HTTP: one person's clients, or those of a team, as the team's file says.

Architecture invariant: no session is granted what tells this server's identity or anybody's token:
the file and the certificate's key are closed to all, and to each of a team the others' workspaces.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from nono_mcp.policy import files, load
from nono_mcp.policy.document import AskSection
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_mcp.policy.keys import LISTED
from nono_mcp.server import http as serving
from nono_mcp.server import listening, team
from nono_mcp.server.addressing import Who
from nono_mcp.server.app import build
from nono_mcp.server.audit_log import open_log
from nono_mcp.server.co_tenants import CoTenants
from nono_mcp.server.errors import ServeError
from nono_mcp.server.fair_queue import Turns
from nono_mcp.server.http_access import HttpAccess, digest_of
from nono_mcp.server.oauth import ResourceServer
from nono_mcp.server.paths import PATH
from nono_mcp.server.tenant import Allowance
from nono_mcp.server.tenants import REQUESTS_MAX, Tenants
from nono_mcp.session import LANES_MAX, Session
from nono_sandbox.confinement import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from starlette.types import ASGIApp

    from nono_mcp.policy.request import Request
    from nono_mcp.server import Http, ServeOptions
    from nono_mcp.server.listening import Site
    from nono_mcp.server.team import Team
    from nono_mcp.server.tenant import Tenant
    from nono_mcp.undo.values import Kept

ALONE = "person"
"""What the one principal of a server for oneself is called."""
SESSIONS_MAX = 65
"""Of theirs: one a client, and one of those that nothing tells apart."""


@dataclass(frozen=True, slots=True)
class Clientele:
    """Who is served, and how much of it."""

    requests: Mapping[str, Request]
    allowances: Mapping[str, Allowance]
    owners: Mapping[str, str]
    """Whose tokens are: names by digests."""
    readers: frozenset[str]
    """Digests of the tokens that may read the metrics."""
    calls_max: int
    sessions_max: int = SESSIONS_MAX
    idle_s: float = serving.SESSION_IDLE_S_MAX
    oauth: ResourceServer | None = None
    is_shared: bool = False
    writing: Mapping[str, list[Kept]] = field(default_factory=lambda: defaultdict(list))
    """Calls of each principal's sessions that run and may write the one workspace they have."""


async def serve(options: ServeOptions, http: Http, site: Site, draining: anyio.Event) -> None:
    """Serve as *options* and *http* say at *site*, until cancelled or drained.

    Raises:
        ServeError: The authorization server isn't to be had like that.
        PolicyError, RefusedError, SandboxError, SnapshotError: The team's file isn't one, or
            there is nothing to serve under somebody's policy.
    """
    if http.team is None:
        clientele = _alone(options, http, site.token)
    else:
        clientele = await anyio.to_thread.run_sync(clientele_of, options, http, http.team)
    address, port = site.address, site.port
    access = HttpAccess.of(address.names, port, clientele.owners, address.scheme)
    tenants = Tenants(
        lambda tenant: _begun(options, clientele, access, tenant),
        clientele.allowances,
        Turns(clientele.calls_max),
        sessions_max=clientele.sessions_max,
        idle_s=clientele.idle_s,
    )
    guard = serving.Guard(tenants, access, readers=clientele.readers, oauth=clientele.oauth)
    async with tenants.open(), contextlib.AsyncExitStack() as stack:
        if http.team is None:
            # There from the start, so that what is refused is told now.
            await stack.enter_async_context(tenants.session(Who(ALONE)))
            told = stack.enter_context(_told(options.request.state_dir, http, port, site.token))
        else:
            told = f"its people are in {quoted(http.team)}"
        named = f"a client that adds a name ({PATH}/NAME) has a session of its own"
        listening.announce(address, port, [f"{named}; {told}"], site.token)
        await serving.listen(guard, http, site.listener, draining)


@contextlib.asynccontextmanager
async def _begun(
    options: ServeOptions, clientele: Clientele, access: HttpAccess, tenant: Tenant
) -> AsyncIterator[ASGIApp]:
    who = tenant.who
    request = clientele.requests[who.principal].replace(owner=who.owner)
    co_tenants = CoTenants.WITHIN if who.is_common else CoTenants.BESIDE
    of = {"principal": who.principal} if clientele.is_shared else {}
    of |= {"session": who.name} if who.name else {}
    async with (
        open_log(request, options.audit_keep_days, of) as log,
        Session.open(
            request,
            tier=options.tier,
            log=log,
            turns=tenant.part,
            writing=clientele.writing[who.principal],
        ) as session,
        contextlib.AsyncExitStack() as stack,
    ):
        # Calls of the newest protocol run in their requests, and take the session for open.
        stack.push_async_callback(tenant.hush)
        app = await stack.enter_async_context(serving.served(build(session, co_tenants), access))
        for notice in session.prepared.notices:
            logging.getLogger("nono").warning("%s", notice)
        yield app


@contextlib.contextmanager
def _told(state_dir: str, http: Http, port: int, token: str) -> Iterator[str]:
    if http.token_file is not None:
        yield f"its token stays in {quoted(http.token_file)}"
        return
    with listening.token_file(state_dir, port, token) as path:
        yield f"its token is in {quoted(path)}"


def _alone(options: ServeOptions, http: Http, token: str) -> Clientele:
    owners = {digest_of(token.encode()): ALONE}
    return Clientele(
        requests={ALONE: _closed(options.request, http)},
        allowances={ALONE: Allowance(LANES_MAX, REQUESTS_MAX, SESSIONS_MAX)},
        owners=owners,
        readers=frozenset(owners),
        calls_max=LANES_MAX,
    )


def clientele_of(options: ServeOptions, http: Http, path: str) -> Clientele:
    """Return whom the team's file *path* names, and what each may; blocks.

    Raises:
        PolicyError, RefusedError: The file isn't one, or somebody's policy isn't.
        ServeError: The authorization server isn't to be asked like that.
    """
    people = read(path)
    # Whatever leads there: links count as what they lead to.
    real = {name: os.path.realpath(one.workspace) for name, one in people.principals.items()}
    for name, other in team.overlapping(real):
        raise PolicyError(f"{name}'s workspace overlaps {other}'s", file=path)
    requests = {}
    for name, one in people.principals.items():
        others = (place for other, place in real.items() if other != name)
        closed = _unasked(_closed(options.request, http, path, *others))
        requests[name] = closed.replace(
            workspace=one.workspace, base=one.workspace, profile=one.profile
        )
    for name, request in requests.items():
        _check(name, request)
    return Clientele(
        requests=requests,
        allowances={
            name: Allowance(one.calls_max, one.requests_max, one.sessions_max)
            for name, one in people.principals.items()
        },
        owners={
            digest: name for name, one in people.principals.items() for digest in one.tokens_sha256
        },
        readers=frozenset(people.metrics_tokens_sha256),
        calls_max=people.calls_max,
        sessions_max=people.sessions_max,
        idle_s=people.idle_s,
        oauth=_oauth(people),
        is_shared=True,
    )


def read(path: str) -> Team:
    """Return what the team's file says.

    Raises:
        PolicyError: It isn't there, isn't one, or others could have written it.
    """
    text = files.read_own(path)
    if text is None:
        raise PolicyError("there is no such file", file=path)
    return team.parse(text, path)


def _closed(request: Request, http: Http, *paths: str) -> Request:
    """Return *request* with what is nobody's closed."""
    own = (*paths, http.key, http.token_file)
    secrets = tuple(os.path.realpath(path) for path in own if path is not None)
    filesystem = request.flags.filesystem
    closed = filesystem.replace(deny=(*filesystem.deny, *secrets))
    return request.replace(flags=request.flags.replace(filesystem=closed))


def _unasked(request: Request) -> Request:
    """Return *request* with nobody asked but for what the profile lists.

    Who answers at the client isn't the one whose machine this is.
    """
    return request.replace(flags=request.flags.replace(ask=AskSection(mode=LISTED)))


def _check(name: str, request: Request) -> None:
    """Look whether the policy of *name* is one: better told now than to them."""
    try:
        load.prepare(request.replace(tier=NAMESPACES))
    except RefusedError as error:
        raise RefusedError(
            f"{name}: {error.message}", code=error.code, path=error.path, remedy=error.remedy
        ) from error
    except PolicyError as error:
        raise PolicyError(
            f"{name}: {error.message}", file=error.file, line=error.line, hint=error.hint
        ) from error


def _oauth(people: Team) -> ResourceServer | None:
    if people.oauth is None:
        return None
    subjects = {
        one.subject: name for name, one in people.principals.items() if one.subject is not None
    }
    if not subjects:
        raise ServeError("oauth: no principal has a subject, so no token would let anybody in")
    return ResourceServer(people.oauth, subjects, os.environ)
