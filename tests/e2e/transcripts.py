"""What the real clients do with a small real task, by our tools alone, written down.

    python -m tests.e2e.transcripts     # makes integrations/*/TRANSCRIPT.md anew

The task: a cloned repository, a failing test, a fix, a commit, and a mistake that is rolled back.
The client is the real one and so is the server; the model is a script.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.agents import SECRET, Agent
from tests.e2e.conftest import CLIENTS

INTEGRATIONS = Path(__file__).parents[2] / "integrations"
NAMES = {"claude": "Claude Code", "codex": "Codex"}
FOLDERS = {"claude": "claude-code", "codex": "codex"}
BROKEN = '''\
"""Figures about numbers."""


def median(numbers):
    """Return the middle of *numbers*, or the mean of the two in the middle."""
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]
'''
TESTS = """\
import sys

from stats import median

failed = 0
for numbers, expected in (([3, 1, 2], 2), ([4, 1, 2, 3], 2.5)):
    found = median(numbers)
    failed += found != expected
    print("ok" if found == expected else "FAILED", f"median({numbers}) is {found}")
sys.exit(failed)
"""
FIX = """\
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2"""
CHECK = "python3 -B test_stats.py"
# What is different each time: when, how long, where, and what follows from that.
VARYING = (
    (re.compile(r"\b\d+(?:\.\d+)? (?:ms|s)\b"), "T ms"),
    (re.compile(r"(changed: )[^;\n]*\.git/[^;\n]*"), r"\1what Git keeps in .git"),
    # How Codex shows its model what a tool took.
    (re.compile(r"^Wall time: [0-9.]+ seconds\nOutput:", re.MULTILINE), ""),
    (re.compile(r"\b\d+ bytes of output"), "N bytes of output"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7,64}\b"), "ID"),
    (re.compile(r"\b[0-9]{7,64}\b"), "ID"),
)


def agent_in(name: str, root: Path) -> Agent:
    """Return a client in a home with a secret in it, and a clone to work in."""
    agent = Agent(name, root, has_person=True)
    (agent.home / ".ssh").mkdir(parents=True)
    (agent.home / ".ssh" / "id_ed25519").write_text(SECRET)
    upstream = root / "upstream"
    upstream.mkdir()
    (upstream / "stats.py").write_text(BROKEN)
    (upstream / "test_stats.py").write_text(TESTS)
    person = ["-c", "user.name=A. Person", "-c", "user.email=person@example.com"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        git(upstream, *person, *arguments)
    git(root, "clone", "-q", str(upstream), str(agent.project))
    git(agent.project, "config", "user.name", "A. Person")
    git(agent.project, "config", "user.email", "person@example.com")
    return agent


def git(directory: Path, *arguments: str) -> str:
    """Run Git outside of the sandbox, and return what it prints."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    ended = subprocess.run(
        ["git", *arguments], capture_output=True, check=True, cwd=directory, env=environ, text=True
    )
    return ended.stdout


def turns(agent: Agent) -> list[dict[str, Any]]:
    """Return what the model asks for."""

    def turn(tool: str, **arguments: object) -> dict[str, Any]:
        return {"tool": agent.tool(tool), "arguments": arguments}

    edit = {"old": "    return ordered[len(ordered) // 2]", "new": FIX}
    return [
        turn("run_sandboxed", command=f"git log --oneline && ls && {CHECK}"),
        turn("read_file", path="stats.py"),
        turn("edit_file", path="stats.py", edits=[edit]),
        turn("run_sandboxed", command=CHECK),
        turn("run_sandboxed", command="git commit -qam 'Take the mean of the middle two'"),
        turn("run_sandboxed", command="rm -f *stats*"),
        turn("rollback", snapshot="{last:undo: rollback ([0-9a-f]+)}"),
        turn(
            "run_sandboxed",
            command=f"{CHECK} && git --no-optional-locks status --short && git log --oneline",
        ),
        turn("run_sandboxed", command="cat ~/.ssh/id_ed25519 /etc/shadow"),
    ]


def transcript(agent: Agent) -> str:
    """Have the client do the task, and return what was asked for and what was answered."""
    asked = turns(agent)
    results = agent.run(*asked)
    _, others = agent.offered()
    name, root = NAMES[agent.name], str(agent.root)
    lines = [
        f"# {name} at work",
        "",
        f"The real {name} fixes a failing test in a clone, commits, makes a mistake and has it",
        "rolled back, by nono's tools alone. `python -m tests.e2e.transcripts` made this, and a",
        "test makes it again; the model is a script. Times, ids and places are left out.",
        "",
        f"Other tools that were offered: {', '.join(map(code, sorted(others))) or 'none'}.",
    ]
    for turn, result in zip(asked, results, strict=True):
        tool = turn["tool"].removeprefix("mcp__nono").lstrip("_/")
        arguments = re.sub(r"\{last:.*\}", "ID", json.dumps(turn["arguments"], indent=2))
        lines += ["", f"## `{tool}`", "", *fenced("json", arguments), "", *fenced("", result)]
    return masked("\n".join(lines) + "\n", root)


def code(text: str) -> str:
    return f"`{text}`"


def fenced(language: str, text: str) -> list[str]:
    return [f"````{language}", *(line.rstrip() for line in text.rstrip("\n").split("\n")), "````"]


def masked(text: str, root: str) -> str:
    """Return *text* without what is different each time."""
    text = text.replace(root, "/home/person")
    for expression, stands_for in VARYING:
        text = expression.sub(stands_for, text)
    return text


def path_of(name: str) -> Path:
    """Return where a client's transcript is kept."""
    return INTEGRATIONS / FOLDERS[name] / "TRANSCRIPT.md"


def main() -> int:
    """Make them all."""
    for name in sorted(CLIENTS):
        with tempfile.TemporaryDirectory() as root:
            path_of(name).write_text(transcript(agent_in(name, Path(root))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
