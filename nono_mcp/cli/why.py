"""`nono why`: whether a path or host is open, and the rule that decides."""

from __future__ import annotations

import os

from nono_mcp.cli import option_values, options, policy_flags, policy_preview, say
from nono_mcp.cli.options import Option, UsageError, nearest, shown
from nono_mcp.policy import egress, load
from nono_mcp.policy.decide import OPERATIONS, Allow
from nono_mcp.policy.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.policy.decide import Deny

OPTIONS = (
    *policy_flags.OPTIONS,
    Option("--op", "OPERATION"),
    Option("--host", "HOST[:PORT]"),
    options.JSON,
    options.HELP,
)
USAGE = f"""\
usage: nono why [--op read|write|execute|list] [OPTION]... PATH
       nono why --host HOST[:PORT] [OPTION]...

Say whether a program under the policy that the options make could do that, and which rule
decides. Without --op: read.

  nono why ~/.ssh/id_ed25519
  nono why --op write --allow-cwd src/main.c
  nono why --host example.org:443 --profile open

{policy_flags.ABOUT}\
  --json                   answer in JSON

Exit status: 0 it is open, 1 it is closed, 2 this usage, 126 the policy is refused.
"""
CLOSED_STATUS = 1
HTTPS = 443
HOST_CHARACTERS_MAX = 253


def main(argv: list[str]) -> int:
    """Answer the question *argv* asks and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    host = parsed.one("--host")
    if (host is None) == (not parsed.rest) or len(parsed.rest) > 1:
        raise UsageError("it takes one PATH, or --host")
    if host is not None:
        return _host(parsed, host)
    return _path(parsed, parsed.rest[0])


def _path(parsed: Parsed, text: str) -> int:
    operation = parsed.one("--op") or "read"
    if operation not in OPERATIONS:
        known = ", ".join(OPERATIONS)
        hint = nearest(operation, OPERATIONS) or f"known are {known}"
        raise UsageError(f"no operation {shown(operation)}", hint)
    if not text or "\0" in text:
        raise UsageError(f"{shown(text)} isn't a path")
    path = os.path.join(policy_flags.current_directory(), text)
    location, verdict = load.explain(policy_preview.prepared(parsed), path, operation)
    return _answer(parsed, verdict, f"{operation} {quoted(location)}", path=location, op=operation)


def _host(parsed: Parsed, text: str) -> int:
    if parsed.one("--op"):
        raise UsageError("--op says nothing of a host")
    host, port = _authority(text)
    verdict = egress.judge_host(policy_preview.prepared(parsed), host, port)
    return _answer(parsed, verdict, f"connect to {quoted(host)}:{port}", host=host, port=port)


def _authority(text: str) -> tuple[str, int]:
    """Return the host and port of HOST, HOST:PORT, an IPv6 address or [ADDRESS]:PORT."""
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon or (":" in host and not host.endswith("]")):
        host, colon, port = text, "", ""
    host = host.removeprefix("[").removesuffix("]")
    printable = host.isprintable() and not any(mark in host for mark in " /@[]")
    if not host or len(host) > HOST_CHARACTERS_MAX or not printable:
        raise UsageError(f"{shown(text)} isn't a host", "HOST or HOST:PORT")
    return host.lower().removesuffix("."), option_values.port(port, "--host") if colon else HTTPS


def _answer(parsed: Parsed, verdict: Allow | Deny, asked: str, **about: object) -> int:
    allowed = isinstance(verdict, Allow)
    if parsed.flag(options.JSON):
        told = {name: value or None for name, value in vars(verdict).items()}
        document = {"id": "why", "ok": True, "error": None, "allowed": allowed, **about, **told}
        say.document(document)
    elif isinstance(verdict, Allow):
        say.out(f"{say.styled('open:', say.GREEN, 1)} {asked}\n  by {verdict.rule}\n")
    else:
        say.out(f"{say.styled('closed:', say.RED, 1)} {asked} [{verdict.code}]\n")
        say.out(f"  {verdict.reason}\n")
        if verdict.remedy:
            say.out(f"  to open it: {verdict.remedy}\n")
    return 0 if allowed else CLOSED_STATUS
