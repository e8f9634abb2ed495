"""`nono shell`: a shell, confined, to look around in."""

from __future__ import annotations

import os

from nono_mcp.cli import confined, options, policy_flags, say
from nono_mcp.cli.options import UsageError

OPTIONS = confined.OPTIONS
USAGE = f"""\
usage: nono shell [OPTION]...

Start your shell ($SHELL, else /bin/sh) confined as `nono run` confines a program.

  nono shell --allow-cwd
  nono shell --profile python --read ~/data

{policy_flags.ABOUT}\
  --dry-run                say under what it would run, and run nothing
  --audit                  record it in the audit log, or don't run it; default with a way out
  --rollback               keep the workspace before it, and ask at the end: keep what was done,
                           put everything back, or choose files; --rollback=keep and
                           --rollback=all don't ask, which needs no terminal
  --json                   report in JSON: at the end and on standard error, since standard
                           output is the shell's; with --dry-run, on standard output
  -v, --verbose            say under what it runs
  -q, --quiet              say nothing but errors

Exit status: the shell's; otherwise as of `nono run`.
"""
FALLBACK = "/bin/sh"


def main(argv: list[str]) -> int:
    """Run the command line *argv* and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    if parsed.rest:
        raise UsageError("a shell takes no command", "nono run -- COMMAND runs one")
    return confined.Run("shell", parsed, (_shell(),)).status()


def _shell() -> str:
    named = os.environ.get("SHELL", "")
    can_be = named.startswith("/") and os.path.isfile(named) and os.access(named, os.X_OK)
    return named if can_be else FALLBACK
