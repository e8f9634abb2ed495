"""`nono credential`: what is kept in the keychain, for a proxy to use and a worker not to see."""

from __future__ import annotations

import getpass
import os
import sys

from nono_mcp import places
from nono_mcp.cli import options, say
from nono_mcp.cli.options import FailedError, Option, UsageError, nearest, shown
from nono_mcp.credentials import fetch, keychain, source
from nono_mcp.credentials.keychain import Keychain
from nono_mcp.credentials.secret import VALUE_BYTES_MAX, CredentialError, Secret, secret
from nono_mcp.credentials.vault import Vault

SOURCE = Option("--source", "SOURCE")
OPTIONS = (SOURCE, options.JSON, options.HELP)
COMMANDS = ("set", "list", "remove", "test")
USAGE = """\
usage: nono credential set NAME
       nono credential list
       nono credential remove NAME
       nono credential test NAME [--source SOURCE]

Keep credentials in the keychain, as keyring://nono/NAME. `set` asks for the value; where standard
input isn't a terminal, it's read from there. It's never an argument and never shown.

  nono credential set openai
  nono credential test openai
  nono credential test ci --source file:///run/secrets/token

`test` says whether the value can be had from its source: keyring://SERVICE/ACCOUNT, env://NAME,
file:///PATH, cmd:///PATH ARGUMENT..., op://VAULT/ITEM/FIELD, bw://ITEM[/FIELD],
oauth2://CLIENT@HOST/PATH?secret=SOURCE&scope=SCOPE. It doesn't say whether anybody accepts it.

  --json                   answer in JSON

Exit status: 0 done, 1 it can't be, 2 this usage.
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
    if parsed.one(SOURCE.name) and command != "test":
        raise UsageError(f"--source says nothing to {command}")
    try:
        fields = _done(command, operands, parsed.one(SOURCE.name))
    except CredentialError as error:
        raise FailedError(str(error)) from None
    if parsed.flag(options.JSON):
        say.document({"id": f"credential {command}", "ok": True, "error": None, **fields})
    else:
        say.out(_told(command, fields))
    return 0


def _done(command: str, operands: list[str], from_where: str | None) -> dict[str, object]:
    if command == "list":
        return {"names": keychain.names(_state_dir())}
    name = operands[0]
    source.check_name(name)
    if command == "test":
        asked = source.usual(name) if from_where is None else source.parse(from_where)
        taken = fetch.take({name: asked}, os.environ)
        Vault({name: asked}, fetch.Sources(taken)).get(name)
        return {"name": name, "source": str(asked)}
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
    done = {"set": "is in the keychain", "remove": "isn't in the keychain any more"}
    return f"{fields['source']} {done.get(command, 'can be had')}\n"


def _state_dir() -> str:
    return places.state_dir(os.environ)
