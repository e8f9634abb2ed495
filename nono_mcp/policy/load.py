"""The way in: from a request to a confinement.

This is the edge that knows the file system, the profiles and the machine (`wanted`, `shut`); what
it finds, the pure modules judge.
"""

from __future__ import annotations

import os

from nono_mcp.policy import ceiling, effective_grants, planted, resolve
from nono_mcp.policy.compile import Plan, compile_policy
from nono_mcp.policy.denials import Twin
from nono_mcp.policy.paths import as_any_process_names_it
from nono_mcp.policy.request import Prepared, Request
from nono_mcp.policy.rules import SHIPPED, TOOLS
from nono_mcp.policy.shut import shut
from nono_mcp.policy.wanted import absolute, directory, wanted
from nono_sandbox import system
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, SEATBELT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nono_mcp.policy.decide import Allow, Deny
    from nono_mcp.policy.rules import Asked
    from nono_mcp.policy.shut import Shut
    from nono_mcp.policy.wanted import Wanted


def prepare(request: Request) -> Prepared:
    """Return the confinement that *request* asks for, with what explains it.

    Nothing runs and, but for our own directories where a grant would contain them, nothing is
    made; `home.ensure` makes the private home.

    Raises:
        PolicyError: A policy isn't well formed, or names what isn't there.
        RefusedError: It can't be expressed or enforced in this tier.
    """
    if request.tier not in (NAMESPACES, LANDLOCK, SEATBELT):
        raise ValueError(f"no such tier: {request.tier!r}")
    asked = wanted(request)
    closed = shut(request, asked)
    compiled = compile_policy(_plan(request, asked, closed))
    notices = (*asked.notices, *closed.notices)
    if system.is_wsl():
        from nono_mcp.policy import interop

        notices = (*notices, *interop.notices(compiled.confinement))
    return Prepared(
        confinement=compiled.confinement,
        rules=compiled.rules,
        document=asked.document,
        home=asked.home.path,
        askable=ceiling.places(asked.document.ask, asked.look),
        given_up=tuple(closed.given),
        notices=(*notices, *compiled.notices),
        private_home=compiled.private_home,
        awaited=compiled.awaited,
        blocked=compiled.blocked,
        unenforced_absent=compiled.unenforced_absent,
    )


def _plan(request: Request, asked: Wanted, shut: Shut) -> Plan:
    grants, workspace = asked.grants, asked.workspace
    return Plan(
        document=asked.document,
        tier=request.tier,
        workspace=workspace,
        cwd=asked.cwd,
        home=asked.home,
        grants=planted.without(effective_grants.standing(grants, shut.closed, shut.given)),
        closed=shut.closed.all,
        absent=shut.absent,
        private_home=private_home(request.state_dir, workspace.path, request.tier),
        proxy_port=request.proxy_port,
        tmpdir=None if request.tmpdir is None else directory("TMPDIR", request.tmpdir),
        environ=request.environ,
        children=resolve.children,
        twins=lambda closed: _twins(closed, grants, workspace.path),
        blocked=shut.blocked,
    )


def _twins(closed: Mapping[str, int], grants: Sequence[Asked], workspace: str) -> list[Twin]:
    """Return other names of what is *closed*, in what the person grants.

    Not in the system's directories: nobody but root could have made one there.
    """
    if not closed:
        return []
    # Only who closes something pays for the import.
    from nono_mcp.policy import hard_links

    own = {
        asked.place.path: None
        for asked in grants
        if asked.layer.kind not in (SHIPPED, TOOLS) or asked.place.path == workspace
    }
    return [Twin(*found) for found in hard_links.find(tuple(closed.items()), tuple(own))]


def private_home(state_dir: str, workspace: str, tier: str) -> str:
    """Return where the sandbox's own home for *workspace* in *tier* is kept.

    What leads from it to a grant is a mount point in one tier and a symlink in the other: of either
    the other's programs would see a directory with nothing in it, or be led nowhere.
    """
    from nono_mcp.policy.digest import sha256

    whose = b"\0".join((os.fsencode(workspace), tier.encode()))
    return f"{state_dir}/homes/{sha256(whose)[:16]}"


def explain(prepared: Prepared, text: str, operation: str) -> tuple[str, Allow | Deny]:
    """Return where the absolute path *text* leads, and whether a worker may do *operation* there.

    Symlinks are followed as they stand now; each on the way has to be within reach as well.
    """
    from nono_mcp.policy.decide import judge

    place = resolve.resolve(absolute("the path", text))
    path = as_any_process_names_it(os.path.normpath(text), place.path, f"/proc/{os.getpid()}")
    if path != place.path:
        place = place.replace(path=path, links=())
    return path, judge(prepared, place, operation)
