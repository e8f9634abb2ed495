"""What each kind of record must say (FORMAT.md section 4).

Architecture invariant: this module does no I/O and reads no clock.
"""

from collections.abc import Mapping
from typing import Final

_DECISIONS: Final = frozenset({"allow", "deny"})
_OUTCOMES: Final = frozenset(
    {"exit", "signal", "timeout", "limit", "cancelled", "refused", "error"}
)

KINDS: Final[Mapping[str, Mapping[str, type | frozenset[str]]]] = {
    "call.start": {"call": str, "tool": str, "decision": _DECISIONS},
    "call.end": {"call": str, "outcome": _OUTCOMES},
    "denial": {"code": str, "target": object},
    "limit": {"limit": str, "value": int},
    "guard": {"action": str, "path": object},
    "network": {"host": str, "port": int, "decision": _DECISIONS},
    "credential": {"name": str, "action": str},
    "snapshot": {"id": str, "root": str},
    "rollback": {"id": str, "phase": frozenset({"start", "end"})},
    "approval": {"request": str, "answer": str},
    "policy": {"sha256": str},
}


def require(kind: str, fields: Mapping[str, object]) -> None:
    """Check that *fields* has what *kind* must say.

    Raises:
        ValueError: The kind is unknown, or a member is missing or wrong: the caller's mistake.
        TypeError: A member is of a wrong type.
    """
    required = KINDS.get(kind)
    if required is None:
        raise ValueError(f"no such kind of record: {kind!r}")
    for name, wanted in required.items():
        if name not in fields:
            raise ValueError(f"{kind}: {name!r} is missing")
        value = fields[name]
        if isinstance(wanted, frozenset):
            if value not in wanted:
                raise ValueError(f"{kind}: {name!r} is {value!r}, not one of {sorted(wanted)}")
        elif not isinstance(value, wanted):
            raise TypeError(f"{kind}: {name!r} is of type {type(value).__name__}")
