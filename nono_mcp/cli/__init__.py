"""The command line: the one place that prints and chooses an exit status."""

from __future__ import annotations

import sys

from nono_mcp import __version__


def main(argv: list[str]) -> int:
    """Run the command *argv* names and return the exit status."""
    if argv != ["--version"]:
        sys.stderr.write("nono: usage: nono --version\n")
        return 2
    sys.stdout.write(f"nono {__version__}\n")
    return 0
