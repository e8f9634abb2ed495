"""Refuse every tool of Claude Code's own that acts, and whatever isn't known here.

Exit status 2 is the one that refuses; its reason is read from standard error. Any other but 0 would
let the tool run, which is why `hooks.json` turns it into 2.
"""

import json
import sys

OURS = ("mcp__nono__", "mcp__plugin_nono_nono__")
# They ask, plan and look up what MCP offers; none of them runs a command or opens a file.
HARMLESS = {
    "AskUserQuestion",
    "EnterPlanMode",
    "ExitPlanMode",
    "ListMcpResourcesTool",
    "ReadMcpResourceTool",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskUpdate",
    "TodoWrite",
    "ToolSearch",
}
REASON = (
    "refused: act by way of nono's tools alone. For commands run_sandboxed; for files read_file, "
    "search_files, list_directory, edit_file, write_file."
)


def main() -> int:
    """Return 0 if the tool that standard input names may be used, else 2."""
    name = json.load(sys.stdin)["tool_name"]
    if name in HARMLESS or name.startswith(OURS):
        return 0
    sys.stderr.write(f"{name} is {REASON}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
