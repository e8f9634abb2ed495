"""The way in: from a request to a confinement.

This is the edge that knows the file system, the profiles and the machine; what it finds, the
pure modules judge.
"""

from __future__ import annotations

import os
import sys

from nono_mcp.policy import asking, planted, protection, resolve, rules, standing, tools
from nono_mcp.policy.compile import Plan, compile_policy
from nono_mcp.policy.document import Document, FilesystemSection, merge
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_mcp.policy.layers import layers_of
from nono_mcp.policy.paths import ancestors, covers, is_broad
from nono_mcp.policy.request import Prepared, Request
from nono_mcp.policy.rules import SHIPPED, TOOLS, Layer, Look
from nono_sandbox import private, system, values
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, READ, SEATBELT, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nono_mcp.policy.blocked import Blocked
    from nono_mcp.policy.decide import Allow, Deny
    from nono_mcp.policy.denials import Twin
    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.rules import Asked

TMP = "/tmp"  # noqa: S108 - where the person's TMPDIR is if the environment doesn't say


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
    workspace = _directory("the workspace", request.workspace)
    cwd = None if request.cwd is None else _directory("the working directory", request.cwd)
    home = resolve.resolve(_absolute("HOME", request.home))
    if not request.broad_workspace:
        _refuse_broad(workspace.path, home.path)
    layers, notices = layers_of(request, workspace.path)
    if request.tier == SEATBELT:
        from nono_mcp.policy.macos import on_macos

        layers = on_macos(layers)
    document = Document()
    for layer in layers:
        document = merge(document, layer.document)
    look = _look(request, workspace)
    grants = rules.grants(layers, look)
    if document.filesystem.read_only:
        grants = [one.replace(access=READ) for one in grants if one.access & READ]
    if document.filesystem.tools:
        grants += _tool_grants(request, grants, workspace.path, home.path, look)
    own = _own(request, grants)
    protected = _protected(request, home.path, workspace.path, grants)
    if request.tier != LANDLOCK:
        protected = _with_guarded(protected, grants, home.path)
    given = standing.given_up(
        rules.bypasses(layers, look), lambda path: _is_protected(path, protected, grants), own
    )
    denials = rules.denials(layers, look)
    blocked = _blocked(layers, look, request, document, notices)
    closed = standing.closings((own, _program()), protected, denials, given, blocked)
    plan = Plan(
        document=document,
        tier=request.tier,
        workspace=workspace,
        cwd=cwd,
        home=home,
        grants=planted.without(standing.standing(grants, closed, given)),
        closed=closed.all,
        absent=protected.absent,
        private_home=private_home(request.state_dir, workspace.path),
        proxy_port=request.proxy_port,
        tmpdir=None if request.tmpdir is None else _directory("TMPDIR", request.tmpdir),
        environ=request.environ,
        children=resolve.children,
        twins=lambda closed: _twins(closed, grants, workspace.path),
        blocked=blocked,
    )
    compiled = compile_policy(plan)
    if system.is_wsl():
        from nono_mcp.policy import interop

        notices += interop.notices(compiled.confinement)
    return Prepared(
        confinement=compiled.confinement,
        rules=compiled.rules,
        document=document,
        home=home.path,
        askable=asking.places(document.ask, look),
        given_up=tuple(given),
        notices=(*notices, *compiled.notices),
        private_home=compiled.private_home,
        awaited=compiled.awaited,
        blocked=compiled.blocked,
        unenforced_absent=compiled.unenforced_absent,
    )


def _blocked(
    layers: Sequence[Layer],
    look: Look,
    request: Request,
    document: Document,
    notices: list[str],
) -> Sequence[Blocked]:
    """Return the files that are blocked; *notices* is added to."""
    if not document.commands.blocked:
        return ()
    # Only who blocks something pays for the import.
    from nono_mcp.policy import commands

    given = [value for name, value in document.environment.set if name == "PATH"]
    found, more = commands.find(layers, look, request.environ, given)
    notices += more
    return found


def _twins(closed: Mapping[str, int], grants: Sequence[Asked], workspace: str) -> list[Twin]:
    """Return other names of what is *closed*, in what the person grants.

    Not in the system's directories: nobody but root could have made one there.
    """
    if not closed:
        return []
    # Only who closes something pays for the import.
    from nono_mcp.policy import twins

    own = (
        asked.place.path
        for asked in grants
        if asked.layer.kind not in (SHIPPED, TOOLS) or asked.place.path == workspace
    )
    return twins.find(closed.items(), own)


def private_home(state_dir: str, workspace: str) -> str:
    """Return where the sandbox's own home for *workspace* is kept."""
    from nono_mcp.policy.digest import sha256

    return f"{state_dir}/homes/{sha256(os.fsencode(workspace))[:16]}"


def _look(request: Request, workspace: Place) -> Look:
    temporary = request.environ.get("TMPDIR", "")
    variables = {
        "WORKSPACE": workspace.path,
        "HOME": request.home,
        "TMPDIR": temporary if temporary.startswith("/") else TMP,
    }
    cache: dict[str, Place] = {}

    def once(text: str) -> Place:
        # Profiles name the same directories, and what was judged once isn't judged again.
        if text not in cache:
            cache[text] = resolve.resolve(text)
        return cache[text]

    base = workspace.path if request.base is None else _absolute("the base", request.base)
    return Look(variables, base, once)


def _absolute(what: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise PolicyError(f"{what} isn't an absolute path: {quoted(path)}")
    return path.rstrip("/") or "/"


def _directory(what: str, path: str) -> Place:
    place = resolve.resolve(_absolute(what, path))
    if not place.kind:
        reason = os.strerror(place.errno).lower()
        raise PolicyError(f"{what} {quoted(path)} can't be opened: {reason}")
    if place.kind != "directory":
        raise PolicyError(f"{what} {quoted(path)} is not a directory")
    return place


def _refuse_broad(workspace: str, home: str) -> None:
    if is_broad(workspace, home):
        raise RefusedError(
            f"{quoted(workspace)} holds more than one piece of work",
            code="fs.broad-workspace",
            path=workspace,
            remedy="start in a project's directory, or say yes by --unsafe-broad-workspace",
        )


def _tool_grants(
    request: Request, grants: Sequence[Asked], workspace: str, home: str, look: Look
) -> list[Asked]:
    """Return read grants of what PATH, and the interpreter that runs this, lead to."""
    granted = {asked.place.path for asked in grants if asked.place.kind == "directory"}
    texts = [text for text in request.environ.get("PATH", "").split(":") if text.startswith("/")]
    writable = planted.writable(grants)
    found: dict[str, None] = {}
    for place in [look.resolve(text) for text in dict.fromkeys(texts)]:
        covered = not granted.isdisjoint((place.path, *ancestors(place.path)))
        if place.kind != "directory" or covered or planted.is_turned(place, writable):
            continue
        needed = list(tools.needed(place.path, home, workspace, os.path.exists))
        # A symlink on PATH is asked for by its own name too, so that it's there to be followed.
        found.update(dict.fromkeys((*needed, place.text) if needed else ()))
    found.update(dict.fromkeys((sys.prefix, sys.base_prefix)))
    layer = Layer("tools on PATH", Document(filesystem=FilesystemSection(read=tuple(found))), TOOLS)
    too_much = (home, workspace, *ancestors(home), *ancestors(workspace))
    return [asked for asked in rules.grants([layer], look) if asked.place.path not in too_much]


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
        place = resolve.resolve(_absolute("a directory of the sandbox's own", path))
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


def _is_protected(path: str, protected: protection.Protection, grants: Sequence[Asked]) -> bool:
    if protected.catalogue.match(path) is not None:
        return True
    if any(one.place.path == path for one in protected.present):
        return True
    # Only who gives one up pays for the import.
    from nono_mcp.policy import guarded

    return guarded.is_guarded(path, grants)


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


def explain(prepared: Prepared, text: str, operation: str) -> tuple[str, Allow | Deny]:
    """Return where the absolute path *text* leads, and whether a worker may do *operation* there.

    Symlinks are followed as they stand now; each on the way has to be within reach as well.
    """
    from nono_mcp.policy.decide import judge

    place = resolve.resolve(_absolute("the path", text))
    return place.path, judge(prepared, place, operation)
