"""The options of `nono serve` that are about HTTP."""

from __future__ import annotations

import os

from nono_mcp.cli import option_values, policy_flags, say
from nono_mcp.cli.options import Option, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.cli.options import Parsed
    from nono_mcp.server import Http

OF_ONE = "--token-file"
OPERANDS = (
    ("--http", "[HOST:]PORT"),
    (OF_ONE, "FILE"),
    ("--team", "FILE"),
    ("--tls-cert", "FILE"),
    ("--tls-key", "FILE"),
    ("--drain", "SECONDS"),
)
PLAIN = Option("--unsafe-plain-http")
MAKE_TOKEN = Option("--make-token")
OF_TEAMS = ("--tier", "--audit-keep-days", PLAIN.name, *(name for name, _ in OPERANDS))
ABOUT = """\
  --http [HOST:]PORT       serve on loopback by HTTP (port 0: any free one), and not on standard
                           input and output; the address and a token come on standard error,
                           and a client that adds /NAME to it has a session of its own
  --token-file FILE        the token is the one in this file, which is made if it isn't there:
                           so it's the same after a restart
  --team FILE              serve those whom the file names: each a workspace, policy, sessions
  --tls-cert, --tls-key FILE  serve HTTPS, which another address than loopback takes
  --unsafe-plain-http      yes, plain HTTP on another address: whoever is on the way reads it all
  --drain SECONDS          how long calls may still take once a signal came (0)
  --make-token             print a token, and what the team's file has in its place; no server"""
LOOPBACK = "127.0.0.1"
DRAIN_S_MAX = 3600


def read(parsed: Parsed, options: Sequence[Option]) -> Http | None:
    """Return where and whom to serve by HTTP, if by that.

    Raises:
        UsageError: The options contradict each other, or one has no value.
    """
    from nono_mcp.server import Http

    where = address(parsed.one("--http"))
    if where is None:
        for name in (*(name for name, _ in OPERANDS), PLAIN.name):
            if parsed.all(name):
                raise UsageError(f"{name} is about HTTP", "add --http [HOST:]PORT")
        return None
    if (parsed.one("--tls-cert") is None) != (parsed.one("--tls-key") is None):
        raise UsageError("--tls-cert and --tls-key belong together", "give both")
    team = parsed.one("--team")
    if team is not None:
        if parsed.all(OF_ONE):
            hint = "say tokens_sha256 in the file"
            raise UsageError(f"--team and {OF_ONE} contradict each other", hint)
        for option in options:
            if parsed.all(option.name) and option.name not in OF_TEAMS:
                hint = "say it in the profiles that the file names"
                raise UsageError(f"--team and {option.name} contradict each other", hint)
    drain = parsed.one("--drain")
    return Http(
        *where,
        certificate=_path(parsed.one("--tls-cert")),
        key=_path(parsed.one("--tls-key")),
        plain=parsed.flag(PLAIN),
        drain_s=0.0 if drain is None else option_values.whole(drain, "--drain", DRAIN_S_MAX),
        team=_path(team),
        token_file=_path(parsed.one(OF_ONE)),
    )


def make_token(parsed: Parsed) -> int:
    """Print a new token and its digest, and return the exit status."""
    if parsed.rest:
        raise UsageError("--make-token takes no operand")
    # Only this pays for the imports.
    import hashlib
    import secrets

    token = secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    say.out(f'Authorization: Bearer {token}\ntokens_sha256 = ["{digest}"]\n')
    return 0


def address(text: str | None, name: str = "--http") -> tuple[str, int] | None:
    """Return the address and port of [HOST:]PORT, the value of the option *name*.

    Raises:
        UsageError: It's neither.
    """
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = 0 if port == "0" else option_values.port(port, name)
    return (host if colon and host else LOOPBACK, number)


def _path(text: str | None) -> str | None:
    return None if text is None else os.path.join(policy_flags.current_directory(), text)
