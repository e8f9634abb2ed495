"""What a request asks for, by all the layers of its policy, before anything of it is closed.

This looks at the file system: where what is asked for leads, and where the tools on PATH are.
"""

from __future__ import annotations

import os
import sys

from nono_mcp.policy import planted, resolve, rules, tools
from nono_mcp.policy.document import Document, FilesystemSection, merge
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_mcp.policy.layers import layers_of
from nono_mcp.policy.paths import ancestors, is_broad
from nono_mcp.policy.rules import TOOLS, Layer, Look
from nono_sandbox.confinement import READ, SEATBELT
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.request import Request
    from nono_mcp.policy.rules import Asked

TMP = "/tmp"  # noqa: S108 - where the person's TMPDIR is if the environment doesn't say


class Wanted(Value):
    """What a request asks for."""

    workspace: Place
    cwd: Place | None
    home: Place
    layers: Sequence[Layer]
    document: Document
    """All layers merged."""
    look: Look
    grants: Sequence[Asked]
    notices: Sequence[str]


def wanted(request: Request) -> Wanted:
    """Return what *request* asks for.

    Raises:
        PolicyError: A policy isn't well formed, or names what isn't there.
        RefusedError: The workspace is too much to be one.
    """
    workspace = directory("the workspace", request.workspace)
    cwd = None if request.cwd is None else directory("the working directory", request.cwd)
    home = resolve.resolve(absolute("HOME", request.home))
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
    return Wanted(workspace, cwd, home, layers, document, look, grants, notices)


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

    base = workspace.path if request.base is None else absolute("the base", request.base)
    return Look(variables, base, once)


def absolute(what: str, path: str) -> str:
    """Return *path*, which is *what* in words, if it's absolute; without a slash at its end."""
    if not path.startswith("/") or "\0" in path:
        raise PolicyError(f"{what} isn't an absolute path: {quoted(path)}")
    return path.rstrip("/") or "/"


def directory(what: str, path: str) -> Place:
    """Return where *path* leads, which is *what* in words, if that's a directory."""
    place = resolve.resolve(absolute(what, path))
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
            remedy="start in a project's directory, or add --unsafe-broad-workspace",
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
