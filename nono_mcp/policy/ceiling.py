"""What an agent may ask the person for: the ceiling that the person's own policy sets.

Within it the person decides, request by request; above it nobody is asked. Whatever the ceiling,
what is denied or protected and what is our own stays closed: that is for `decide` to say, of the
policy as it would be.

Architecture invariant: this module does no I/O; what a path leads to was looked up before.
"""

from __future__ import annotations

from nono_mcp.policy.decide import Deny
from nono_mcp.policy.errors import quoted
from nono_mcp.policy.keys import LISTED
from nono_mcp.policy.paths import ancestors, covers, expand, is_broad
from nono_sandbox.confinement import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.document import AskSection
    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.request import Prepared
    from nono_mcp.policy.rules import Look

NEVER = "never"
CEILING = "ask.ceiling"
_REMEDY = "the person may list it under [ask] of a policy, or grant it there"


def mode(section: AskSection) -> str:
    """Return the mode that *section* says or, by what it lists, means."""
    listed = section.read or section.write or section.hosts
    return section.mode or (LISTED if listed else "any")


def places(section: AskSection, look: Look) -> tuple[tuple[str, int], ...]:
    """Return where the lists of *section* lead, and what may be asked for there.

    What leads nowhere now is left out: nothing there can be granted either.
    """
    listed = [(text, READ) for text in section.read]
    listed += [(text, READ | WRITE) for text in section.write]
    found = [(look.resolve(expand(text, look.variables)), access) for text, access in listed]
    return tuple((place.path, access) for place, access in found if place.kind)


def above_for_path(prepared: Prepared, place: Place, access: int) -> Deny | None:
    """Return why *access* to *place* is more than may be asked for, if it is."""
    # Not where it leads: that's no agent's to know before it's given.
    shown = quoted(place.text)
    if place.kind not in ("directory", "file"):
        reason = f"{shown} is neither a file nor a directory: it's never asked for"
        return Deny(CEILING, reason, "ask", _REMEDY)
    if mode(prepared.document.ask) == LISTED:
        for path, most in prepared.askable:
            if covers(path, place.path) and not access & ~most:
                return None
        return Deny(CEILING, f"{shown} may not be asked for", "ask: listed", _REMEDY)
    around = (prepared.confinement.cwd, prepared.home)
    if is_broad(place.path, prepared.home) or place.path in ancestors(around[0]):
        return Deny(CEILING, f"{shown} is too much to ask for at once", "ask", "ask for less of it")
    return None


def above_for_host(prepared: Prepared, host: str) -> Deny | None:
    """Return why *host*, HOST or HOST:PORT, is more than may be asked for, if it is."""
    if mode(prepared.document.ask) != LISTED:
        return None
    from nono_proxy.config import HostRule

    wanted = HostRule.parse(host)
    if any(HostRule.parse(text).covers(wanted) for text in prepared.document.ask.hosts):
        return None
    return Deny(CEILING, f"{quoted(host)} may not be asked for", "ask: listed", _REMEDY)
