"""`nono trust`: let a workspace's `nono.toml` count, as it is now."""

from __future__ import annotations

import os

from nono_mcp import places
from nono_mcp.cli import options, say
from nono_mcp.cli.options import UsageError
from nono_mcp.policy import files, layers
from nono_mcp.policy.errors import quoted

OPTIONS = (options.JSON, options.HELP)
USAGE = """\
usage: nono trust [FILE]

Let the nono.toml of a workspace count, as it is now: read it before you do. It stops counting as
soon as anything in it changes. Without FILE: the one in the current directory.

  nono policy validate nono.toml && nono trust nono.toml

  --json                   report in JSON

Exit status: 0 it is trusted, 2 this usage, 126 it isn't a policy.
"""


def main(argv: list[str]) -> int:
    """Trust the file that *argv* names and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    if len(parsed.rest) > 1:
        raise UsageError("it takes one FILE")
    path = parsed.rest[0] if parsed.rest else layers.WORKSPACE_POLICY
    if not path or "\0" in path:
        raise UsageError("FILE isn't a path")
    digest = files.trust(path, places.config_dir(os.environ))
    if parsed.flag(options.JSON):
        told = {"path": os.path.abspath(path), "sha256": digest}
        say.document({"id": "trust", "ok": True, "error": None, **told})
    else:
        say.out(f"trusted: {quoted(path)} (sha256 {digest})\n")
    return 0
