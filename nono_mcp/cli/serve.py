"""`nono serve`: the MCP server of a workspace, under a policy."""

from __future__ import annotations

from nono_mcp._site import enable_site
from nono_mcp.cli import http_flags, option_values, options, policy_flags, say
from nono_mcp.cli.options import FailedError, Option, UsageError, shown
from nono_mcp.cli.policy_flags import ALLOW_CWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.document import Document

TOOLSET = Option("--toolset", "NAME[,NAME]...")
KEEP_DAYS = Option("--audit-keep-days", "DAYS")
DAYS_MAX = 36_500
OPTIONS = (
    *(one for one in policy_flags.OPTIONS if one.name not in (ALLOW_CWD.name, "--workdir")),
    Option("--workspace", "DIR"),
    *(Option(name, operand) for name, operand in http_flags.OPERANDS),
    http_flags.PLAIN,
    http_flags.MAKE_TOKEN,
    TOOLSET,
    KEEP_DAYS,
    options.HELP,
)
USAGE = f"""\
usage: nono serve [--workspace DIR] [--http [HOST:]PORT] [OPTION]...

Serve a workspace to an agent by MCP: what it runs, runs confined. The workspace (the current
directory, if none is named) is what the policy calls $WORKSPACE; the default profile lets it be
read and written.

  nono serve --workspace ~/src/project
  nono serve --workspace . --http 8080
  nono serve --team team.toml --http 10.0.0.5:8443 --tls-cert cert.pem --tls-key key.pem

  --workspace DIR          the workspace
{http_flags.ABOUT}
  --toolset NAME[,NAME]... the tools to offer: full (the default), core, or some of shell, files,
                           undo, audit
  --audit-keep-days DAYS   how long records stay in the audit log (183: six months)

{policy_flags.without(policy_flags.ABOUT, "--allow-cwd", "--workdir")}
Exit status: 0 the client left, 128+n signal n came, 1 it can't listen there, 2 this usage, 125 the
system or the audit log failed, 126 the policy is refused.
"""


def main(argv: list[str]) -> int:
    """Serve as *argv* says and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    if parsed.rest:
        raise UsageError(f"unexpected {shown(parsed.rest[0])}", "--workspace DIR names one")
    if parsed.flag(http_flags.MAKE_TOKEN):
        return http_flags.make_token(parsed)
    tier = policy_flags.tier(parsed)
    http = http_flags.read(parsed, OPTIONS)
    days = parsed.one(KEEP_DAYS.name)
    keep_days = None if days is None else option_values.whole(days, KEEP_DAYS.name, DAYS_MAX)
    request = policy_flags.request(parsed, parsed.one("--workspace") or ".")
    request = request.replace(flags=_with_toolset(request.flags, parsed.one(TOOLSET.name)))
    enable_site()
    from nono_mcp import server

    try:
        return server.main(server.ServeOptions(request, tier, http, keep_days))
    except server.ServeError as error:
        raise FailedError(str(error)) from error


def _with_toolset(flags: Document, toolset: str | None) -> Document:
    from nono_mcp.policy import toolsets
    from nono_mcp.policy.document import AgentSection

    if toolset is None:
        return flags
    option_values.as_policy(TOOLSET.name, toolsets.check, toolset)
    return flags.replace(agent=AgentSection(toolset))
