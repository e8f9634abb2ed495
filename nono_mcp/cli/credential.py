"""`nono credential`: what is kept in the keychain, for a proxy to use and a worker not to see."""

from __future__ import annotations

import getpass
import os
import sys

from nono_mcp import places
from nono_mcp.cli import credential_trial, host_flags, options, say
from nono_mcp.cli.options import FailedError, Option, UsageError, nearest, shown
from nono_mcp.credentials import keychain, source
from nono_mcp.credentials.keychain import Keychain
from nono_mcp.credentials.secret import VALUE_BYTES_MAX, CredentialError, Secret, secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed

SOURCE = Option("--source", "SOURCE")
OFFLINE = Option("--offline")
OF_TEST = (SOURCE, OFFLINE, *(Option(name, operand) for name, operand in host_flags.AROUND))
OPTIONS = (*OF_TEST, options.JSON, options.HELP)
CANNOT = 1
COMMANDS = ("set", "list", "remove", "test")
USAGE = """\
usage: nono credential set NAME
       nono credential list
       nono credential remove NAME
       nono credential test NAME [--source SOURCE] [--offline]

Keep credentials in the keychain, as keyring://nono/NAME. `set` asks for the value; where standard
input isn't a terminal, it's read from there. It's never an argument and never shown.

  nono credential set openai
  nono credential test openai
  nono credential test ci --source file:///run/secrets/token

`test` says whether the value can be had from its source: keyring://SERVICE/ACCOUNT, env://NAME,
file:///PATH, cmd:///PATH ARGUMENT..., op://VAULT/ITEM/FIELD, bw://ITEM[/FIELD],
oauth2://CLIENT@HOST/PATH?secret=SOURCE&scope=SCOPE. If NAME is that of a provider that is known, it
is then asked whether it accepts it, by a request that changes nothing.

  --offline                ask no provider
  --upstream-proxy URL     the proxy of the network around, http://HOST:PORT
  --upstream-proxy-credential SOURCE    where its USER:PASSWORD is
  --upstream-ca FILE       a company's certificates, to trust beside the system's
  --json                   answer in JSON

Exit status: 0 done, 1 it can't be, or the provider doesn't say that it accepts it, 2 this usage.
"""


def main(argv: list[str]) -> int:
    """Do what *argv* says and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    command, *operands = parsed.rest or ("",)
    if command not in COMMANDS:
        raise UsageError(f"no such command {shown(command)}", nearest(command, COMMANDS))
    if len(operands) != (command != "list"):
        raise UsageError(f"{command} takes {'one NAME' if command != 'list' else 'no name'}")
    for option in OF_TEST if command != "test" else ():
        if parsed.flag(option):
            raise UsageError(f"{option.name} says nothing to {command}")
    try:
        fields = _done(command, operands, parsed)
    except CredentialError as error:
        raise FailedError(str(error)) from None
    good = command != "test" or credential_trial.passed(fields)
    if parsed.flag(options.JSON):
        say.document({"id": f"credential {command}", "ok": good, "error": None, **fields})
    else:
        say.out(_told(command, fields))
    return 0 if good else CANNOT


def _done(command: str, operands: list[str], parsed: Parsed) -> dict[str, object]:
    if command == "list":
        return {"names": keychain.names(_state_dir())}
    name = operands[0]
    source.check_name(name)
    if command == "test":
        offline = parsed.flag(OFFLINE)
        return credential_trial.trial(name, parsed.one(SOURCE.name), parsed, offline=offline)
    ring = Keychain.find()
    if command == "set":
        ring.set(name, _asked_for(name))
    else:
        ring.remove(name)
    keychain.note(_state_dir(), name, kept=command == "set")
    return {"name": name, "source": str(source.usual(name))}


def _asked_for(name: str) -> Secret:
    if sys.stdin.isatty():
        return secret(getpass.getpass(f"value of {name} (not shown): "), name)
    return secret(sys.stdin.buffer.read(VALUE_BYTES_MAX + 2), name)


def _told(command: str, fields: dict[str, object]) -> str:
    if command == "list":
        names = fields["names"]
        return "".join(f"{name}\n" for name in names) if isinstance(names, list) else ""
    if command == "test":
        return credential_trial.told(fields) + "\n"
    done = {"set": "is in the keychain", "remove": "isn't in the keychain any more"}
    return f"{fields['source']} {done[command]}\n"


def _state_dir() -> str:
    return places.state_dir(os.environ)
