"""`nono audit anchor`, `prove` and `check`: what shows others that the log holds what it held."""

import argparse
from pathlib import Path
from typing import Final

from nono_mcp.audit import notes
from nono_mcp.audit import prove as proofs
from nono_mcp.audit.display import one_line
from nono_mcp.audit.log import AuditLog
from nono_mcp.cli import say
from nono_mcp.cli.audit_options import keychain

OK_STATUS: Final = 0


def anchor(args: argparse.Namespace) -> int:
    """Write a checkpoint of the log as it is now."""
    with AuditLog.open(args.state_dir, keychain(args), create=False) as log:
        if args.key:
            say.out(proofs.verifier_key(log) + "\n")
            return OK_STATUS
        if args.since is not None:
            return _tell_witness(args, proofs.request(log, args.since))
        checkpoint = proofs.anchor(log)
        root = log.root
    if args.output:
        Path(args.output).write_bytes(checkpoint)
    if args.time_stamp:
        _stamp(args, checkpoint)
    if args.json:
        say.document({"ok": True, "checkpoint": checkpoint.decode(), "root": root})
    elif not args.output:
        say.out(checkpoint.decode())
    return OK_STATUS


def _tell_witness(args: argparse.Namespace, request: bytes) -> int:
    if args.time_stamp:
        raise ValueError("--since and --time-stamp contradict each other")
    if args.output:
        Path(args.output).write_bytes(request)
    if args.json:
        say.document({"ok": True, "request": request.decode()})
    elif not args.output:
        say.out(request.decode())
    return OK_STATUS


def _stamp(args: argparse.Namespace, checkpoint: bytes) -> None:
    from nono_mcp.audit import timestamp  # the extra's

    if not args.output:
        raise timestamp.TimestampError("--time-stamp goes with -o FILE: the stamp is FILE.tsr")
    stamped = timestamp.ask(args.time_stamp, checkpoint)
    Path(f"{args.output}.tsr").write_bytes(stamped.stamp)


def prove(args: argparse.Namespace) -> int:
    """Write a record's line, and the proof that a checkpoint made now covers it."""
    with AuditLog.open(args.state_dir, keychain(args), create=False) as log:
        evidence = proofs.prove(log, args.seq)
    if args.output:
        Path(args.output).write_bytes(evidence.line)
        Path(f"{args.output}.tlog-proof").write_bytes(evidence.proof)
    if args.json:
        line, proof = evidence.line.decode(), evidence.proof.decode()
        say.document({"ok": True, "line": line, "proof": proof})
    elif not args.output:
        say.out(evidence.proof.decode())
    return OK_STATUS


def check(args: argparse.Namespace) -> int:
    """Check what `prove` wrote, by the key alone, and show the record.

    Raises:
        NoteError, RecordError: It doesn't show that the log holds the record.
    """
    log_id, public = notes.parse_verifier_key(args.key)
    proof = Path(f"{args.file}.tlog-proof").read_bytes()
    record = proofs.check_proof(Path(args.file).read_bytes(), proof, log_id, public)
    if args.json:
        say.document({"ok": True, "seq": record.seq, "log": log_id})
    else:
        say.out(f"in the log {log_id}: {one_line(record)}\n")
    return OK_STATUS
