"""`nono --version`."""

from __future__ import annotations

from nono_mcp import __version__
from nono_mcp.cli import say


def main(_argv: list[str]) -> int:
    """Print the version."""
    say.out(f"nono {__version__}\n")
    return 0
