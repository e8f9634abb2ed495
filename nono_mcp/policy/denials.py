"""Denials inside grants: which there are, and whether they can be kept.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy.effective_grants import DENIED, OWN, PROTECTED
from nono_mcp.policy.errors import RefusedError, quoted
from nono_mcp.policy.paths import ancestors
from nono_sandbox.confinement import WRITE, Denial
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nono_mcp.policy.effective_grants import Closed
    from nono_mcp.policy.granted import Granted
    from nono_mcp.policy.protection import Entry
    from nono_mcp.policy.rules import Asked
    from nono_sandbox.confinement import Link


NAMED_MAX = 3
"""Files that one notice names; of more, how many they are."""
BY_MASK = "mask"
"""By mounting over them: what is there can be closed, and what isn't can't."""
BY_NAME = "name"
"""By their names, whatever is there."""
BY_NOTHING = "nothing"
"""Not at all: grants have to go around them."""


class Twin(Value):
    """Another name of a closed file; without a *path* there may be one that wasn't found."""

    of: str
    access: int
    """What is closed of it."""
    path: str = ""
    is_listed: bool = True
    """Else it's a directory whose files weren't all looked at, to know which have other names."""


def denied(
    grants: Sequence[Asked],
    closed: Sequence[Closed],
    absent: Sequence[Entry],
    granted: Granted,
    means: str,
) -> tuple[list[Denial], list[str], dict[str, str]]:
    """Return what is closed inside grants by *means*, and the names there that can't be.

    With those that aren't there yet, and what they are: who makes them is watched.

    Raises:
        RefusedError: Something can't be closed by what is at hand.
    """
    access: dict[str, int] = {}
    unenforced: dict[str, None] = {}
    awaited: dict[str, str] = {}
    shut: list[Closed] = []
    for one in closed:
        path = one.place.path
        reached = granted.access(path) & one.access
        if reached and one.is_shut and means == BY_NOTHING:
            shut.append(one)
        elif reached and not one.place.kind and means == BY_MASK:
            awaited[path] = one.text
        elif reached:
            _check_expressible(one, granted, means, reached)
            access[path] = access.get(path, 0) | one.access
        for link in one.place.links:
            # The name may be given to another thing: what is closed is where it led.
            if granted.access(link.path) & one.access & WRITE:
                _check_replaceable(one, link)
                unenforced[link.path] = None
    for entry in absent:
        if not granted.access(entry.path) & entry.access & WRITE:
            continue
        if means == BY_NAME:
            access[entry.path] = access.get(entry.path, 0) | entry.access
        else:
            unenforced[entry.path] = None
            awaited[entry.path] = f"protected: {entry.what}"
    access.update(_taken_apart_anyway(shut, access, granted))
    _refuse_grants_within(access, grants)
    return _outermost(access), list(unenforced), awaited


def _taken_apart_anyway(
    shut: Sequence[Closed], access: Mapping[str, int], granted: Granted
) -> dict[str, int]:
    """Return those of the *shut* paths whose directory is taken apart for something else.

    To close what is shut anyway isn't worth taking its directory apart.
    """
    taken_apart = {granted.around(path) for path in access}
    return {
        one.place.path: one.access for one in shut if granted.around(one.place.path) in taken_apart
    }


def with_twins(
    denials: Sequence[Denial],
    twins: Iterable[Twin],
    granted: Granted,
    codes: Mapping[str, str],
    means: str,
) -> tuple[list[Denial], list[str]]:
    """Return *denials* with those of the *twins*, the other names that closed files have.

    And what the person is to be told of those that weren't all looked for. *codes* tell by path
    why something is closed.

    Raises:
        RefusedError: A twin can't be closed, or those of what the person denies weren't all
            looked for.
    """
    access = {denial.path: denial.access for denial in denials}
    unsure = []
    for twin in twins:
        if not twin.path:
            around = (twin.of, *ancestors(twin.of))
            if DENIED in (codes.get(path) for path in around):
                raise _unsure(twin)
            unsure.append(twin)
            continue
        reached = granted.access(twin.path) & twin.access
        exactly = any(one.exact and one.path == twin.path for one in granted.grants)
        if exactly or (reached & WRITE and means == BY_NOTHING):
            raise RefusedError(
                f"{quoted(twin.of)} is closed, and {quoted(twin.path)} is another name of it "
                "(a hard link) that is granted",
                code="fs.hard-link",
                path=twin.path,
                remedy=f"take one of the two away: cp {quoted(twin.path)} to a file of its own",
            )
        if reached:
            access[twin.path] = access.get(twin.path, 0) | twin.access
    return _outermost(access), _notices(unsure)


def _unsure(twin: Twin) -> RefusedError:
    if twin.is_listed:
        text = "has other names (hard links), and not all of what is granted could be looked "
        text += "through for them"
        remedy = "grant less, or make it a file of its own: cp it, and mv the copy over it"
    else:
        text = "holds too much to look through for files with other names (hard links)"
        remedy = "grant less around it"
    return RefusedError(
        f"{quoted(twin.of)} {text}", code="fs.hard-link", path=twin.of, remedy=remedy
    )


def _notices(unsure: Sequence[Twin]) -> list[str]:
    """Return what is to be said of files that are closed and may be open by another name."""
    if not unsure:
        return []
    names = ", ".join(quoted(twin.of) for twin in unsure[:NAMED_MAX])
    more = f" and {len(unsure) - NAMED_MAX} more" if len(unsure) > NAMED_MAX else ""
    text = f"{names}{more}: closed, but by other names (hard links) they may be open: "
    return [text + "what is granted is too much to be looked through; grant less"]


def _outermost(access: dict[str, int]) -> list[Denial]:
    """Return a denial a path, but for those that another around them says already."""
    denials = []
    for path in sorted(access):
        around = 0
        for above in ancestors(path):
            around |= access.get(above, 0)
        if access[path] & ~around:
            denials.append(Denial(path, access[path]))
    return denials


def _check_expressible(one: Closed, granted: Granted, means: str, reached: int) -> None:
    """Refuse what no mechanism at hand can close, *reached* as it is."""
    path = one.place.path
    if means == BY_NAME:
        return
    if not one.place.kind:
        raise RefusedError(
            f"{one.text}: {quoted(path)} doesn't exist, and a name that is made later stays open",
            code=one.code,
            path=path,
            remedy="make it first, or deny its directory",
        )
    if means == BY_MASK and one.place.is_loose:
        raise RefusedError(
            f"{one.text}: {quoted(path)} lies on a file system that finds it by other spellings, "
            "which a mount over it doesn't cover",
            code=one.code,
            path=path,
            remedy="grant less around it, or keep it elsewhere",
        )
    if means == BY_MASK or not reached & WRITE:
        return
    around = granted.around(path) or "/"
    instead = "grant the directories beside it instead"
    if one.code == PROTECTED:
        instead += f", or add --bypass {quoted(one.place.text)}"
    elif one.code == OWN and one.remedy:
        instead = one.remedy
    raise RefusedError(
        f"{quoted(path)} is closed ({one.text}) inside {quoted(around)}, which may be written: "
        "without namespaces, as here, that can't be enforced",
        code="tier.deny-inside-allow",
        path=path,
        remedy=instead,
    )


def _check_replaceable(one: Closed, link: Link) -> None:
    """Refuse a writable symlink on the way to our own state or to what the person denies."""
    if one.code == PROTECTED:
        return
    raise RefusedError(
        f"{one.text}: {quoted(link.path)}, a symlink on the way to it, could be replaced",
        code=one.code,
        path=link.path,
        remedy="grant less around it",
    )


def _refuse_grants_within(closed: dict[str, int], grants: Sequence[Asked]) -> None:
    """Refuse a grant inside what is closed inside another grant.

    Its bypass names a part, and a mask hides the whole.
    """
    for asked in grants:
        for above in (asked.place.path, *ancestors(asked.place.path)):
            if closed.get(above, 0) & asked.access:
                raise RefusedError(
                    f"{asked.text}: {quoted(above)}, around it, is closed inside another grant",
                    code=PROTECTED,
                    path=asked.place.path,
                    remedy=f"add --bypass {quoted(above)}, or grant less around it",
                )
