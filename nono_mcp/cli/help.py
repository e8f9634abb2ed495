"""`nono help`: what there is."""

from __future__ import annotations

from nono_mcp.cli import COMMANDS, say

WIDTH = 12


def main(argv: list[str]) -> int:
    """Print what commands there are, or the usage of the one that *argv* names."""
    if argv and argv[0] not in ("--help", "-h"):
        from nono_mcp.cli import _command

        return _command(argv[0])(["--help"])
    commands = "\n".join(f"  {name:<{WIDTH}}{about}" for name, about in COMMANDS.items())
    say.out(f"""\
usage: nono COMMAND [OPTION]...

One way for a coding agent to act: a confined one.

{commands}

  nono run --allow-cwd -- python3 agent.py
  nono COMMAND --help
""")
    return 0
