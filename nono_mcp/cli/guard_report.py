"""What the person is told of what the guard put right after a program."""

from __future__ import annotations

from nono_mcp.policy.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nono_mcp.guard.action import Action


def texts(actions: Iterable[Action]) -> Iterator[str]:
    """Yield a line for each of *actions*."""
    for one in actions:
        path = quoted(one.path)
        moved = f"; what was there now is {quoted(one.kept_in)}" if one.kept_in else ""
        why = f": {one.why}" if one.why else ""
        let_be = f"; --bypass {path} lets it be" if one.by_name else ""
        if one.action == "removed":
            yield f"taken away again: {path} ({one.what}){why}{let_be}{moved}"
        elif one.action == "restored":
            yield f"put back as it was: {path} ({one.what}){why}{let_be}{moved}"
        else:
            yield f"changed and NOT put back: {path} ({one.what}): {one.why}"
