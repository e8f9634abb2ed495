"""What calls left whose server was killed, put right as soon as there is another server.

Architecture invariant: who left nothing costs no look.
"""

from __future__ import annotations

import logging

from nono_sandbox.errors import ConfinementError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.action import Action
    from nono_mcp.guard.guard import Guard
    from nono_mcp.guard.subtree_guard import SubtreeGuard


def put_right(guard: Guard, below: SubtreeGuard) -> tuple[Action, ...]:
    """Put right what was left in the directories of *guard* and *below*, and return what was done.

    Raises:
        ConfinementError: It can't be looked at. Run nothing.
    """
    try:
        if not (guard.is_left() or below.is_left()):
            return ()
        begun = *below.begin(None), *guard.begin()
        actions = *begun, *guard.end(), *below.end()
    except OSError as error:
        raise ConfinementError(f"can't look at what a killed server left: {error}") from error
    for one in actions:
        text = "%s: %s (%s): %s"
        logging.getLogger("nono").warning(text, one.action, one.path, one.what, one.why)
    return actions
