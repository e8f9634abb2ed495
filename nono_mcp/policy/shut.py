"""What stays closed to a worker, whatever its policy grants: denied, protected, ours, blocked.

Architecture invariant: only what is given up by name, in a policy's own words, isn't closed.
"""

from __future__ import annotations

import os
import sys

from nono_mcp.policy import effective_grants, protection, resolve, rules
from nono_mcp.policy.paths import covers
from nono_mcp.policy.wanted import absolute
from nono_sandbox import private, system, values
from nono_sandbox.confinement import LANDLOCK, READ, SEATBELT, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.policy.blocked import Blocked
    from nono_mcp.policy.effective_grants import Closings
    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.protection import Entry
    from nono_mcp.policy.request import Request
    from nono_mcp.policy.rules import Asked
    from nono_mcp.policy.wanted import Wanted


class Shut(Value):
    """What is closed."""

    closed: Closings
    given: Sequence[str]
    """The protected paths that bypasses open."""
    absent: Sequence[Entry]
    """What is protected, and isn't there now."""
    blocked: Sequence[Blocked]
    notices: Sequence[str]


def shut(request: Request, wanted: Wanted) -> Shut:
    """Return what is closed of what is *wanted*; our own directories are made, if a grant has them.

    Raises:
        PolicyError, RefusedError: What is given up, denied or blocked can't be.
    """
    grants, home = wanted.grants, wanted.home.path
    own = _own(request, grants)
    protected = _protected(request, home, wanted.workspace.path, grants)
    if request.tier != LANDLOCK:
        protected = _with_guarded(protected, grants, home)
    given = effective_grants.given_up(
        rules.bypasses(wanted.layers, wanted.look),
        lambda path: _protected_as(path, protected, grants),
        own,
    )
    denials = rules.denials(wanted.layers, wanted.look)
    blocked, notices = _blocked(request, wanted)
    closed = effective_grants.closings((own, _program()), protected, denials, given, blocked)
    return Shut(closed, given, protected.absent, blocked, notices)


def _blocked(request: Request, wanted: Wanted) -> tuple[Sequence[Blocked], Sequence[str]]:
    """Return the files that are blocked, and what a person should be told of that."""
    if not wanted.document.commands.blocked:
        return (), ()
    # Only who blocks something pays for the import.
    from nono_mcp.policy import commands

    given = [value for name, value in wanted.document.environment.set if name == "PATH"]
    return commands.find(wanted.layers, wanted.look, request.environ, given)


def _program() -> list[Place]:
    """Return where this program is: what changes it there runs unconfined the next time.

    An environment counts as a whole, since what it holds is imported too.
    """
    environment = os.path.dirname(os.path.dirname(sys.executable))
    packages = [os.path.dirname(os.path.dirname(__file__)), os.path.dirname(values.__file__)]
    if os.path.exists(f"{environment}/pyvenv.cfg"):
        packages.append(environment)
    return [resolve.resolve(path) for path in packages]


def _own(request: Request, grants: Sequence[Asked]) -> list[Place]:
    """Return our own directories; one that a grant would contain is made if it isn't there.

    Otherwise a worker could make it, and what we read there later would be its own.
    """
    own = []
    for path in (request.state_dir, request.config_dir):
        place = resolve.resolve(absolute("a directory of the sandbox's own", path))
        if not place.kind and any(covers(asked.place.path, place.path) for asked in grants):
            private.ensure_directories(place.path)
            place = resolve.resolve(path)
        own.append(place)
    return own


def _protected(
    request: Request, home: str, workspace: str, grants: Sequence[Asked]
) -> protection.Protection:
    """Return what is protected here and, of it, what is there."""
    granted: dict[str, int] = {}
    for asked in grants:
        if asked.place.kind:
            granted[asked.place.path] = granted.get(asked.place.path, 0) | asked.access
    scope = protection.Scope(home, granted)
    found = protection.look(
        protection.Catalogue(home, request.environ, workspace, macos=request.tier == SEATBELT),
        scope,
        protection.Names(scope, resolve.names),
        resolve.resolve,
    )
    if system.is_wsl():
        from nono_mcp.policy import interop

        found = found.replace(present=(*found.present, *interop.protected(granted)))
    if os.geteuid() == 0:
        return _with_root_only(found, scope)
    if request.tier == LANDLOCK:
        present = [
            one.replace(is_shut=True) if resolve.is_out_of_reach(one.place) else one
            for one in found.present
        ]
        return found.replace(present=tuple(present))
    return found


def _with_guarded(
    found: protection.Protection, grants: Sequence[Asked], home: str
) -> protection.Protection:
    """Add what the guard keeps in the grants that may be written, to be read-only there too."""
    if not any(asked.access & WRITE for asked in grants):
        return found
    # Only who may write pays for the import.
    from nono_mcp.policy import guarded

    known = {one.place.path for one in found.present}
    more = (one for one in guarded.present(grants, home) if one.place.path not in known)
    return found.replace(present=(*found.present, *more))


def _protected_as(path: str, protected: protection.Protection, grants: Sequence[Asked]) -> str:
    """Return *path* as it's written by what protects it, or nothing if nothing does."""
    if protected.catalogue.match(path) is not None:
        return path
    # As its directory lists it, which may be in another case than the catalogue has it.
    if any(covers(one.place.path, path) for one in protected.present):
        return path
    # Only who gives one up pays for the import.
    from nono_mcp.policy import guarded

    return guarded.as_guarded(path, grants)


def _with_root_only(found: protection.Protection, scope: protection.Scope) -> protection.Protection:
    """Add what only user 0 may read in /etc: as its owner, it needs no capability for that."""
    if not any(covers(path, "/etc") for path in scope.granted):
        return found
    known = {one.place.path for one in found.present}
    private = tuple(
        protection.Protected(place, READ | WRITE, "what root alone may read")
        for place in resolve.private("/etc")
        if place.path not in known
    )
    return found.replace(present=(*found.present, *private))
