"""`nono run`: one program, confined, on the streams and the terminal that we have."""

from __future__ import annotations

from nono_mcp.cli import confined, options, policy_flags, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.run_so_far import RunSoFar

OPTIONS = confined.OPTIONS
USAGE = f"""\
usage: nono run [OPTION]... [--] COMMAND [ARGUMENT]...

Run COMMAND confined. It reads the system's directories, has a home of its own and no network;
everything else is an option's, a profile's or a trusted nono.toml's to grant.

  nono run --allow-cwd -- python3 agent.py
  nono run --read ~/data --timeout 60 -- sort ~/data/words.txt

{policy_flags.ABOUT}\
  --dry-run                say under what it would run, and run nothing
  --audit                  record it in the audit log, or don't run it; default with a way out
  --rollback               keep the workspace before it, and ask at the end: keep what was done,
                           put everything back, or choose files; --rollback=keep and
                           --rollback=all don't ask, which needs no terminal
  --json                   report in JSON: at the end and on standard error, since standard
                           output is the command's; with --dry-run, on standard output
  -v, --verbose            say under what it runs
  -q, --quiet              say nothing but errors

Exit status: COMMAND's, or 128+n for the signal n that ended it. 124: over --timeout. 152: over
--cpu. 153: over --max-file-size. 137: over --memory, --max-processes or --max-disk, or a disk all
but full of it. 125: the sandbox died, or another run moved away what was granted. 126: refused (a
line that begins REFUSED says why), or COMMAND can't be executed. 127: there is no COMMAND. 2: this
usage. 1, with --rollback: COMMAND ended well and wasn't put back, as it was to be.
"""


def main(argv: list[str], start: RunSoFar | None = None) -> int:
    """Run the command line *argv*, for which *start* was made, and return the exit status."""
    parsed = options.parse(argv, OPTIONS, command=True)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    return confined.Run("run", parsed, parsed.rest, start).status()
