"""Which documents make up a policy, and in which order.

The profile with all it extends, beneath it the workspace's trusted `nono.toml`, then the command
line. A profile that says nothing of `extends` extends "default"; `extends = []` extends nothing.
"""

from __future__ import annotations

import os

from nono_mcp.policy.document import Document
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.paths import covers
from nono_mcp.policy.profiles import DEFAULT, SHIPPED
from nono_mcp.policy.rules import FLAGS, Layer
from nono_mcp.policy.rules import SHIPPED as FROM_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.request import Request

WORKSPACE_POLICY = "nono.toml"
SYSTEM = "system"

PROFILES_MAX = 64
"""How many profiles one may extend, all told."""


def layers_of(request: Request, workspace: str) -> tuple[list[Layer], list[str]]:
    """Return the layers of a request's policy, the lowest first, and what to tell the person.

    Raises:
        PolicyError: One of them isn't a policy, isn't there, or extends itself.
    """
    chain = _Chain(request.config_dir, workspace)
    notices = []
    own, notice = _of_workspace(workspace, request.config_dir)
    if notice:
        notices.append(notice)
    if request.profile is not None:
        chain.add_named(request.profile)
        if own is not None and own.document.extends:
            why = f"--profile {request.profile} was chosen"
            if request.profile == SYSTEM:
                why = "profile system is in force (--allow-cwd applies it)"
            notices.append(f"its extends is passed over: {why}")
    elif own is None or own.document.extends is None:
        chain.add_named(DEFAULT)
    else:
        chain.add_parents(own)
    if own is not None:
        chain.layers.append(own)
    if request.flags != Document():
        chain.layers.append(Layer("the command line", request.flags, FLAGS))
    return chain.layers, notices


def profile(name: str, config_dir: str, workspace: str | None = None) -> Layer:
    """Return the profile *name*, or the one in the file *name* if that holds a slash.

    One in the *workspace* isn't taken: what it confines could write it.

    Raises:
        PolicyError: There is none, or it isn't a policy.
    """
    if name in SHIPPED:
        return Layer(f"profile {name}", SHIPPED[name], FROM_US)
    # Only the person's own profiles pay for the import.
    from nono_mcp.policy import files

    path = name if "/" in name else files.profile_path(config_dir, name)
    if "/" not in name:
        _check_name(name)
    text = files.read_own(path)
    if text is None:
        # Only a mistake pays for the import.
        from difflib import get_close_matches

        known = [*SHIPPED, *files.profile_names(config_dir)]
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        if name.endswith(".toml"):
            hint = f"a file is named with a slash: ./{quoted(name)}"
        raise PolicyError(f"no profile {quoted(name)}", hint=hint)
    if workspace is not None and covers(workspace, os.path.realpath(path)):
        raise PolicyError(
            "lies in the workspace, where what it confines could change it",
            file=path,
            hint=f"keep it in {quoted(config_dir)}/{files.PROFILES}, or trust a nono.toml",
        )
    return _parsed(text, path, f"profile {quoted(name)}")


def _of_workspace(workspace: str, config_dir: str) -> tuple[Layer | None, str]:
    """Return the workspace's own policy if it's trusted, and what to tell the person of it."""
    path = f"{workspace}/{WORKSPACE_POLICY}"
    if not os.path.lexists(path):
        return None, ""
    # Only a workspace that has one pays for the import.
    from nono_mcp.policy import files

    text, notice = files.read_workspace(workspace, config_dir)
    return (None if text is None else _parsed(text, path, WORKSPACE_POLICY)), notice


class _Chain:
    """Profiles in the order they apply, each once, those that are extended first."""

    def __init__(self, config_dir: str, workspace: str) -> None:
        self._config_dir = config_dir
        self._workspace = workspace
        self._done: set[str] = set()
        self._open: list[str] = []
        self.layers: list[Layer] = []

    def add_named(self, name: str, asking: Layer | None = None) -> None:
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise _at_extends(asking, f"extends itself: {circle}")
        if name in self._done:
            return
        try:
            layer = profile(name, self._config_dir, self._workspace)
        except PolicyError as error:
            if asking is None or error.file is not None:
                raise
            raise _at_extends(asking, error.message, error.hint) from None
        self._open.append(name)
        self.add_parents(layer)
        self._open.pop()
        self._done.add(name)
        if len(self.layers) >= PROFILES_MAX:
            raise _at_extends(asking, f"extends over {PROFILES_MAX} profiles")
        self.layers.append(layer)

    def add_parents(self, layer: Layer) -> None:
        extends = layer.document.extends
        for name in (DEFAULT,) if extends is None else extends:
            self.add_named(name, layer)


def _at_extends(asking: Layer | None, message: str, hint: str = "") -> PolicyError:
    """Return *message* as an error where the layer that asks says `extends`."""
    if asking is None or asking.file is None:
        return PolicyError(message, hint=hint)
    from nono_mcp.policy.lines import locate

    line = locate(asking.source, ("extends",))
    return PolicyError(message, file=asking.file, line=line, hint=hint)


def _parsed(text: str, path: str, name: str) -> Layer:
    from nono_mcp.policy.parse import parse_text

    return Layer(name, parse_text(text, path), file=path, source=text)


def _check_name(name: str) -> None:
    from nono_mcp.policy.bounds import check_profile_name

    check_profile_name(name)
