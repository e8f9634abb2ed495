"""What the guard does about a path, and how that's told.

Architecture invariant: nothing is lost: what a worker put somewhere is moved, not removed.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import judging_spots, tree, ways
from nono_mcp.guard.quarantine import Origin, Taken
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.judging_spots import Seen
    from nono_mcp.guard.quarantine import Quarantine
    from nono_mcp.guard.spots import Spot
    from nono_mcp.guard.tree import Kept, Print

REMOVED, RESTORED, LEFT = "removed", "restored", "left"
MOVED = "it isn't where it was when the call began, so nothing in it was looked at"
BY_OTHERS = "it was changed while a call of another server ran, or since that was killed"
UNKNOWN = (
    "a call of another server ran, or was killed with it, and what was there before isn't known: "
    "look through it"
)


class Action(Value):
    """What the guard did about one path."""

    path: str
    action: str
    """removed, restored, or left: then *why* it couldn't be put right."""
    what: str
    """What is guarded there."""
    kept_in: str = ""
    """Where what a worker had put there is now."""
    why: str = ""
    by_name: bool = True
    """It's guarded for its name, so that a bypass can name it."""


def undo(quarantine: Quarantine, path: str, spot: Spot, parent: int, before: Kept | None) -> Action:
    """Put away what stands at *spot*, whose path is *path*, and back what was there *before*."""
    if before is not None and not before.is_whole:
        why = "it is too large for what was there to have been kept"
        return Action(path, LEFT, spot.what, why=why)
    origin = Origin(path.removesuffix(f"/{spot.path}") or "/", spot.directory, spot.name)
    taken = Taken("")
    try:
        with ways.Writable(parent):
            if judging_spots.printed(spot, parent) is not None:
                taken = quarantine.take(origin, parent)
            if before is not None:
                tree.put_back(before, spot.name, parent)
    except OSError as error:
        why = "; ".join(filter(None, (str(error), taken.why)))
        return Action(path, LEFT, spot.what, taken.path, why)
    done = REMOVED if before is None else RESTORED
    return Action(path, done, spot.what, taken.path, taken.why)


def by_others(one: Action) -> Action:
    """Say of what was done that others' calls were the reason."""
    if one.action == LEFT:
        return one
    return one.replace(why="; ".join(filter(None, (BY_OTHERS, one.why))))


def renamed(moved: str, spot: Spot, parent: int, done: Action) -> Action:
    """Give what was *moved* the name *spot*, where nothing is once that was *done*."""
    if done.action == LEFT:
        return done
    with ways.Writable(parent):
        os.rename(moved, spot.name, src_dir_fd=parent, dst_dir_fd=parent)
    return done.replace(action=RESTORED)


def as_left(
    spot: Spot, parent: int, old: Seen | None, done: list[Action]
) -> tuple[Print, Kept | None]:
    """Return what is known of *spot*, as it was *old*, once that was *done*; and what it holds.

    A call that runs may have got at it by now, and isn't to have what it did taken for known.
    """
    found = judging_spots.printed(spot, parent)
    if not done:
        return (found, None) if judging_spots.is_directory(found) else (None, None)
    if done[0].action == LEFT:
        return found, judging_spots.kept(spot, parent, found)
    if done[0].action == REMOVED or old is None:
        return None, None
    return found, old.kept
