"""What `nono audit` takes: its commands and their options."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nono_mcp.audit import export, prune, reading
from nono_mcp.audit.keystore import Keystore, find_keychain

_Add = Callable[[str, str], argparse.ArgumentParser]

_COUNT_MAX: Final = 1_000_000
_EPILOG: Final = "example: nono audit tail -n 20 --decision deny"


def parser() -> argparse.ArgumentParser:
    """Return the parser of `nono audit`; `args.command` is the word that was given."""
    return parsers()[0]


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of `nono audit`, and that of each of its commands."""
    made: dict[str, argparse.ArgumentParser] = {}
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--state-dir", default=default_state_dir(), help="where nono keeps its state"
    )
    common.add_argument("--no-keychain", action="store_true", help="do without the keychain")
    common.add_argument("--json", action="store_true", help="one JSON document instead of text")
    whole = argparse.ArgumentParser(
        prog="nono audit", description="Read, check and keep the audit log.", epilog=_EPILOG
    )
    commands = whole.add_subparsers(required=True, dest="command", metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        made[name] = commands.add_parser(name, parents=[common], help=text, description=text)
        return made[name]

    _add_reading(add)
    _add_evidence(add)
    _add_keeping(add)
    return whole, made


def _add_reading(add: _Add) -> None:
    tail = add("tail", "show the last records")
    tail.add_argument("-n", type=_count, default=20, metavar="N", help="how many (20)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as records come")
    _add_filters(tail)
    show = add("show", "show one record whole")
    show.add_argument("seq", type=_seq)
    show.add_argument("--check-value", metavar="FILE", help="tell which commitment FILE opens")
    check = add("verify", "check integrity, completeness and trust")
    check.add_argument("--root", help="the root fingerprint you know")
    check.add_argument("--anchor", action="append", default=[], metavar="FILE", help="a checkpoint")
    check.add_argument(
        "--tsa-ca", metavar="PEM", help="authorities whose time stamps (CHECKPOINT.tsr) must hold"
    )
    check.add_argument("--directory", metavar="DIR", help="segments elsewhere: a copy of a log")
    check.add_argument("--no-signatures", action="store_true", help="check the chain alone")
    out = add("export", "write records for another program, one a line")
    out.add_argument("--format", choices=export.FORMATS, default="jsonl")
    _add_filters(out)
    add("stats", "count what is in the log")


def _add_evidence(add: _Add) -> None:
    anchor = add("anchor", "write a signed checkpoint, to be kept elsewhere")
    anchor.add_argument("-o", "--output", metavar="FILE", help="instead of standard output")
    anchor.add_argument(
        "--time-stamp", metavar="URL", help="have an RFC 3161 authority stamp it: FILE.tsr"
    )
    anchor.add_argument(
        "--since", type=_count, metavar="SIZE", help="for a witness that has seen SIZE records"
    )
    anchor.add_argument("--key", action="store_true", help="print the key for witnesses instead")
    proof = add("prove", "write a record's line and the proof that the log holds it")
    proof.add_argument("seq", type=_seq)
    proof.add_argument("-o", "--output", metavar="FILE", help="FILE and FILE.tlog-proof")
    proven = add("check", "check a record and the proof that prove wrote, without a log")
    proven.add_argument("file", metavar="FILE", help="FILE and FILE.tlog-proof")
    proven.add_argument("--key", required=True, help="what nono audit anchor --key printed")


def _add_keeping(add: _Add) -> None:
    old = add("prune", "remove old segments, and record that")
    old.add_argument("--keep-days", type=_count, default=prune.KEEP_DAYS, metavar="DAYS")
    again = add("restart", "set a damaged or lost log aside and begin another")
    again.add_argument("--reason", required=True, help="goes into the new log's first record")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", help="identifier of a session, or how it begins")
    parser.add_argument("--call", help="identifier of a call")
    parser.add_argument("--tool")
    parser.add_argument("--kind", help="kind of record, or how it begins")
    parser.add_argument("--decision", choices=("allow", "deny"))
    parser.add_argument("--grep", metavar="TEXT", help="text in the record, whatever the case")
    parser.add_argument("--since", metavar="TIME", help="2026-11-21 or 2026-11-21T10:30, UTC")


def keychain(args: argparse.Namespace) -> Keystore | None:
    """Return the keychain that the command line lets be used, if there is one."""
    return None if args.no_keychain else find_keychain(reading.directory_of(args.state_dir))


def default_state_dir() -> str:
    """Return where nono keeps its state."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return str(root / "nono")


def _count(text: str) -> int:
    return _whole(text, 1, _COUNT_MAX)


def _seq(text: str) -> int:
    return _whole(text, 0, 2**53 - 1)


def _whole(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} isn't a number from {least} to {most}")
    return value
