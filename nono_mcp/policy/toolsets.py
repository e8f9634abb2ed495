"""Which tools an agent is offered: sets by name, since each tool costs an agent's attention.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy.errors import PolicyError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FULL = "full"
ALWAYS = frozenset({"explain_policy", "request_access"})
"""By these an agent finds out what it may do, and asks for more."""
SETS: Mapping[str, frozenset[str]] = {
    "core": frozenset(
        {
            "run_sandboxed",
            "read_output",
            "stop_job",
            "read_file",
            "write_file",
            "edit_file",
            "search_files",
            "rollback",
        }
    ),
    "shell": frozenset({"run_sandboxed", "read_output", "send_input", "stop_job"}),
    "files": frozenset({"read_file", "write_file", "edit_file", "list_directory", "search_files"}),
    "undo": frozenset({"snapshot", "list_snapshots", "diff", "rollback"}),
    "audit": frozenset({"audit_tail", "audit_verify"}),
}


def check(text: str) -> None:
    """Raise PolicyError unless *text* names sets of tools."""
    for name in text.split(","):
        if name != FULL and name not in SETS:
            known = ", ".join((FULL, *SETS))
            raise PolicyError(f"unknown set of tools {quoted(name)}", hint=f"known are {known}")


def is_offered(text: str | None, tool: str) -> bool:
    """Tell whether *tool* is among the sets that *text* names; without a text, every tool is."""
    names = (text or FULL).split(",")
    return FULL in names or tool in ALWAYS or any(tool in SETS[name] for name in names)
