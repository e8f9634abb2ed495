"""Commands that a policy blocks, and what is said in their place.

A guard-rail, and no boundary: another program can do what a blocked one does. Where namespaces
are to be had, a script that tells of the policy stands in the place of the file. Elsewhere nothing
can be opened there, and the script is what PATH leads to first.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy import environment
from nono_mcp.policy.effective_grants import Closed
from nono_mcp.policy.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CODE = "exec.blocked"
SCRIPTS = ".nono-blocked"
"""In a session's TMPDIR, where they can't be in the commands' places: what PATH leads to first."""
NOT_RUN = 126
SHELL = "/bin/sh"


class Blocked(Closed):
    """An executable file that is closed, by one of its names."""

    name: str = ""
    """The command as the policy has it."""
    says: str = ""
    """The script to stand in its place; none where nothing could run it."""
    links_known: bool = False
    """It has no other names than those that are closed."""


def script(name: str) -> str:
    """Return what is run in place of the command *name*."""
    text = f"nono: {quoted(name)} is blocked by the policy of this sandbox"
    spelled = text.replace("'", "'\\''")
    return f"#!{SHELL}\nprintf '%s\\n' '{spelled}' >&2\nexit {NOT_RUN}\n"


def scripts(blocked: Iterable[Blocked]) -> dict[str, str]:
    """Return by the name of each command, and of its file, what is run in its place."""
    found = {}
    for one in blocked:
        if one.says:
            found[one.name] = found[one.place.path.rpartition("/")[2]] = one.says
    return found


def led_to_scripts(
    variables: tuple[tuple[str, str], ...], tmpdir: str
) -> tuple[tuple[str, str], ...]:
    """Return a worker's *variables* with a PATH that leads to the scripts in *tmpdir* first."""
    own = dict(variables)
    own["PATH"] = f"{tmpdir}/{SCRIPTS}:{own.get('PATH', environment.PATH_FALLBACK)}"
    return tuple(sorted(own.items()))
