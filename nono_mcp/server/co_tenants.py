"""Who else is served beside the client that asks, and so what it isn't to be told of.

Architecture invariant: what a client isn't to see is told to nobody who doesn't name it in full, by
an id that only who began it was given.
"""

from __future__ import annotations

from enum import Enum, auto


class CoTenants(Enum):
    """Whether others are served too, and in whose session."""

    NOBODY = auto()
    """The session is the person's own, and so is all that is recorded."""
    BESIDE = auto()
    """Others, each in a session of their own."""
    WITHIN = auto()
    """Others in this very session, whom nothing tells apart."""


def untold(what: str) -> str:
    """Return why nothing is told of what others may have begun; *what* is the way to one's own."""
    return (
        f"clients that share this address can't be told apart, so none hears of another's work: "
        f"{what} (at this address with /NAME after it, a client has a session of its own)"
    )
