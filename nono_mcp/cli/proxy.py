"""`nono proxy`: the proxy without a sandbox around who uses it: that's a container's business."""

from __future__ import annotations

import os
import shlex

from nono_mcp.cli import host_flags, http_flags, options, policy_flags, say
from nono_mcp.cli.options import Option, UsageError, shown
from nono_mcp.policy import egress, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_mcp.cli.options import Parsed

LISTEN = Option("--listen", "[ADDRESS:]PORT")
ADDRESS = Option("--address", "HOST[:PORT]")
INTO = Option("--into", "DIR")
CA_PATH = Option("--ca-path", "PATH")
OPTIONS = (
    *(Option(name, operand, many=True) for name, operand in host_flags.HOSTS),
    *(Option(name, operand) for name, operand in host_flags.AROUND),
    Option("--profile", "NAME"),
    LISTEN,
    ADDRESS,
    INTO,
    CA_PATH,
    Option("--timeout", "SECONDS"),
    options.JSON,
    options.QUIET,
    options.HELP,
)
USAGE = """\
usage: nono proxy [OPTION]...

Start the proxy alone, for programs that something else confines: a container whose only network
leads here. It answers until it's told to end, and prints the variables by which programs use it:
where it is, its password, phantom tokens in the place of keys, certificates to trust. Everything
it lets through or refuses is in the audit log.

  eval "$(nono proxy --allow-domain pypi.org --credential openai &)"
  nono proxy --listen 172.18.0.1:8080 --credential openai --into run --ca-path /ca.pem &
  docker run --network only-here --env-file run/proxy.env -v ./run/ca.pem:/ca.pem:ro IMAGE

Whom it serves, and where:
  --listen [ADDRESS:]PORT  127.0.0.1 and any free port, if it isn't said. What comes there isn't
                           encrypted, and without the password nothing is answered
  --address HOST[:PORT]    what programs call it, if not that address
  --into DIR               write proxy.env (for --env-file) and ca.pem there, and remove them at
                           the end
  --ca-path PATH           where programs find ca.pem, if it isn't where it was written
  --timeout SECONDS        end by itself then

What they may reach:
  --allow-domain HOST[:PORT]|'*.ZONE'   a host to reach by https, or by HOST:80 without it
  --deny-domain HOST[:PORT]|'*.ZONE'    one that isn't, whatever is allowed
  --credential NAME[=SOURCE], --proxy-credential NAME[=SOURCE]
                           let them use a key (openai, github, ...) that they never get to see
  --allow-endpoint NAME:METHOD:PATH     all that is used of that provider: 'openai:POST:/v1/**'
  --upstream-proxy URL     the proxy of the network around, http://HOST:PORT
  --upstream-proxy-credential SOURCE    where its USER:PASSWORD is
  --upstream-ca FILE       a company's certificates, to trust in hosts beside the system's
  --profile NAME|PATH      a policy whose [network] says so

  --json                   print them as JSON
  -q, --quiet              don't tell of refusals

SIGTERM or SIGINT ends it: what is under way has some seconds to end, a second signal ends that.

Exit status: 128+n signal n came, 124 over --timeout, 1 it can't listen there, 2 this usage, 126 the
policy is refused or the audit log can't be written.
"""
ANY = ("0.0.0.0", "::")  # noqa: S104 - not bound to, but told from others


def main(argv: list[str]) -> int:
    """Serve as *argv* says and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    if parsed.rest:
        raise UsageError(f"unexpected {shown(parsed.rest[0])}")
    host, port = http_flags.address(parsed.one(LISTEN.name) or "0", LISTEN.name) or ("", 0)
    known_as = _known_as(parsed, host)
    request = policy_flags.request(parsed)
    prepared = load.prepare(request)
    if prepared.document.network.mode != egress.PROXY:
        raise UsageError(
            "the policy names no host and no credential", "--allow-domain HOST, --credential NAME"
        )
    for notice in prepared.notices:
        say.note(notice)
    from nono_mcp.cli.proxy_alone import Place, StandaloneProxy

    into = _absolute(parsed.one(INTO.name))
    place = Place(into, parsed.one(CA_PATH.name), request.state_dir)
    proxy = StandaloneProxy(request, prepared, place, quiet=parsed.flag(options.QUIET))
    return proxy.status((host, port), known_as, lambda given: _tell(parsed, given))


def _known_as(parsed: Parsed, host: str) -> tuple[str, int] | None:
    """Return what programs call the proxy; port 0 is the one it listens on."""
    text = parsed.one(ADDRESS.name)
    if text is None:
        if host in ANY:
            raise UsageError(f"{LISTEN.name} {host} is no address to go to", "say --address HOST")
        return None
    from nono_proxy.authority import Authority
    from nono_proxy.errors import AuthorityError

    try:
        found = Authority.parse(text, 0)
    except AuthorityError as error:
        raise UsageError(f"{ADDRESS.name}: {error}") from None
    return found.host, found.port


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.join(policy_flags.current_directory(), path)


def _tell(parsed: Parsed, given: Mapping[str, str]) -> None:
    """Print the variables; from then on nobody waits for more of our output."""
    if parsed.flag(options.JSON):
        say.document({"id": "proxy", "ok": True, "error": None, "environment": dict(given)})
    else:
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in given.items())
        say.out("".join(lines))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
