"""Which grants stand: those that lead somewhere, and not to what is closed.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import errno

from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_mcp.policy.paths import ancestors, covers
from nono_mcp.policy.rules import FLAGS, SHIPPED, TOOLS
from nono_sandbox.confinement import READ, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.protection import Protection
    from nono_mcp.policy.rules import Asked

OWN = "fs.own-state"
PROTECTED = "fs.protected"
DENIED = "fs.denied"

_ELSEWHERE = "install nono outside the workspace: pipx install nono-mcp"

OWN_TREES = ("/proc", "/dev")
"""Made for a worker by the mechanism; the machine's own would show every process and device."""


_REASONS = {
    errno.EACCES: "can't be reached: a directory above it is closed to you",
    errno.ELOOP: "is a symlink that leads in circles",
    errno.ENOTDIR: "lies beneath what isn't a directory",
    errno.ENAMETOOLONG: "is too long a name",
    errno.EINVAL: "isn't a name this system can have",
}


class Closed(Value):
    """A path that grants don't open."""

    place: Place
    access: int
    text: str
    code: str
    remedy: str = ""
    is_shut: bool = False
    """Its permissions close it to this user already."""


class Closings:
    """What is closed, by location."""

    def __init__(self, closed: Iterable[Closed]) -> None:
        self.all = tuple(closed)
        self._at: dict[str, list[Closed]] = {}
        for one in self.all:
            self._at.setdefault(one.place.path, []).append(one)

    def around(self, path: str) -> list[Closed]:
        """Return what closes *path*: closed there or above, the nearest first."""
        return [one for at in (path, *ancestors(path)) for one in self._at.get(at, ())]


def closings(
    own: tuple[Sequence[Place], Sequence[Place]],
    protection: Protection,
    denials: Sequence[Asked],
    given_up: Sequence[str],
    blocked: Sequence[Closed] = (),
) -> Closings:
    """Return what is closed: what is protected and not given up, denied, *blocked*, and our *own*.

    Our own are our state, and to writing our program.
    """
    state, program = own
    closed = [
        Closed(place, READ | WRITE, "protected: the sandbox's own state", OWN) for place in state
    ]
    closed += [
        Closed(place, WRITE, "protected: the sandbox's own program", OWN, _ELSEWHERE)
        for place in program
    ]
    for one in protection.present:
        if one.access and not any(covers(path, one.place.path) for path in given_up):
            remedy = f"to give its protection up, add --bypass {quoted(one.place.text)}"
            text = f"protected: {one.what}"
            closed.append(
                Closed(one.place, one.access, text, PROTECTED, remedy, is_shut=one.is_shut)
            )
    closed += [
        Closed(asked.place, asked.access, asked.text, DENIED, "take that denial out")
        for asked in denials
    ]
    return Closings([*closed, *blocked])


def given_up(
    bypasses: Sequence[Asked], protected_as: Callable[[str], str], own: Sequence[Place]
) -> list[str]:
    """Return the protected locations that the *bypasses* give up.

    A bypass counts if it names something protected, or something within: `~` gives nothing up.
    *protected_as* returns a path as it's written by what protects it, or nothing.

    Raises:
        PolicyError: A bypass of the person's names nothing protected.
        RefusedError: A bypass names our own state.
    """
    given: list[str] = []
    for asked in bypasses:
        path = asked.place.path
        if any(covers(place.path, path) for place in own):
            raise RefusedError(
                f"{asked.text}: the sandbox's own state is never open", code=OWN, path=path
            )
        # By the name as written, or by where it leads: a protected directory may be a symlink.
        protected = protected_as(path)
        if not protected and not protected_as(asked.place.text):
            if asked.layer.kind in (SHIPPED, TOOLS):
                continue
            raise asked.error("is not a protected path", hint="a bypass names one, and no more")
        given += dict.fromkeys((path, protected or path))
    return given


def standing(grants: Sequence[Asked], closed: Closings, given: Sequence[str]) -> list[Asked]:
    """Return the *grants* that stand, each with the access that no denial takes from it.

    Raises:
        PolicyError: A grant of the person's leads nowhere.
        RefusedError: A grant leads to what is closed.
    """
    stand = []
    for asked in grants:
        problem = _problem(asked)
        if problem is None:
            access = _left(asked, closed, given)
            if access:
                stand.append(asked if access == asked.access else asked.replace(access=access))
        elif asked.layer.kind not in (SHIPPED, TOOLS) or asked.written == "$WORKSPACE":
            raise problem
    return stand


def _left(asked: Asked, closed: Closings, given: Sequence[str]) -> int:
    """Return the access that is left of a grant once what closes it is taken away."""
    path = asked.place.path
    access = asked.access
    for one in closed.around(path):
        bypassed = any(covers(one.place.path, up) and covers(up, path) for up in given)
        taken = access & one.access
        if not taken or (one.code == PROTECTED and bypassed):
            continue
        access &= ~taken
        if asked.layer.kind == TOOLS:
            continue
        # A denial may lessen a grant, or take a shipped one; no more, or it would say nothing.
        lessens = access or (asked.layer.kind == SHIPPED and asked.written != "$WORKSPACE")
        if one.code == DENIED and lessens:
            continue
        raise RefusedError(
            f"{asked.text}: {quoted(path)} is closed by {one.text} ({quoted(one.place.text)})",
            code=one.code,
            path=path,
            remedy=one.remedy,
        )
    return access


def _problem(asked: Asked) -> PolicyError | None:
    """Return what is wrong with what a grant leads to."""
    place = asked.place
    if place.errno:
        return asked.error(*_unopened(asked))
    for tree in OWN_TREES:
        if covers(tree, place.path):
            return asked.error(f"the sandbox has a {tree} of its own", hint="leave the grant out")
    if asked.exact and place.kind == "directory":
        key = asked.key.removesuffix("_file")
        return asked.error("is a directory", hint=f"use {_flag_or_key(asked, key)}")
    if not asked.exact and place.kind != "directory":
        return asked.error(
            "is not a directory", hint=f"use {_flag_or_key(asked, asked.key + '_file')}"
        )
    return None


def _unopened(asked: Asked) -> tuple[str, str]:
    """Return why a grant's path can't be opened, and what to do."""
    number = asked.place.errno
    if number != errno.ENOENT:
        return _REASONS.get(number, f"can't be opened (errno {number})"), "grant what can be opened"
    path = quoted(asked.place.text)
    if asked.exact:
        return "doesn't exist", f"make it first: touch {path}"
    return "doesn't exist", f"make it first: mkdir -p {path}"


def _flag_or_key(asked: Asked, key: str) -> str:
    return f"--{key.replace('_', '-')}" if asked.layer.kind == FLAGS else key
