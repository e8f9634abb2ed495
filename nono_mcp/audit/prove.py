"""Checkpoints to hold elsewhere, and proofs of what they cover (FORMAT.md section 6)."""

from dataclasses import dataclass

from nono_mcp.audit import files, notes, ratchet
from nono_mcp.audit import record as rec
from nono_mcp.audit.chain import BrokenRecordError, Replay
from nono_mcp.audit.create import line_at
from nono_mcp.audit.end import AuditTamperedError
from nono_mcp.audit.keys import Checker, SigningKey
from nono_mcp.audit.keystore import FILE, KEYRING
from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.merkle import Tree, leaf_hash, verify_inclusion
from nono_mcp.audit.snapshot import LogFiles


@dataclass(frozen=True, slots=True)
class Evidence:
    """A record, and the proof that a checkpoint covers it."""

    line: bytes
    proof: bytes


def anchor(log: AuditLog) -> bytes:
    """Return a signed checkpoint of the log as it is now, to be kept where nobody edits it.

    Raises:
        KeystoreError: The checkpoint key can't be used.
        AuditWriteError: The log can't be read.
    """
    with log.writing():
        frontier = log.frontier()
    return _sign(log, frontier.size, frontier.root())


def verifier_key(log: AuditLog) -> str:
    """Return the public half of the checkpoint key, as C2SP witnesses are given it.

    Raises:
        KeystoreError: The checkpoint key can't be used.
    """
    return notes.verifier_key(log.log_id, _note_key(log).public)


def _note_key(log: AuditLog) -> SigningKey:
    store = log.stores.get(KEYRING) if KEYRING in log.ratchet_names() else None
    return ratchet.note_key(store or log.stores[FILE], log.log_id)


def _sign(log: AuditLog, size: int, root: bytes) -> bytes:
    key = _note_key(log)
    return notes.sign_checkpoint(log.log_id, size, root, key.public, key.sign)


def read_tree(directory: str) -> Tree:
    """Return the Merkle tree of the log in *directory*, following every record.

    Raises:
        AuditTamperedError: The log doesn't follow.
    """
    leaves: list[bytes] = []
    replay = Replay(None)
    with LogFiles.open(directory) as found:
        try:
            if found.pruned:
                replay.feed_pruned(found.pruned)
            base = replay.state.frontier.copy()
            for segment in found.segments:
                if files.first_seq(segment.name) < base.size or not replay.open_segment(
                    segment.name
                ):
                    continue
                for line in files.lines_forward(segment.fd, 0, segment.size_bytes):
                    if line.endswith(b"\n"):
                        replay.feed(line)
                        leaves.append(leaf_hash(line))
        except BrokenRecordError as error:
            raise AuditTamperedError(str(error)) from error
    return Tree(base, leaves)


def prove(log: AuditLog, seq: int) -> Evidence:
    """Return record *seq* with the proof that a checkpoint made now covers it.

    Raises:
        LookupError: There's no such record, or it was pruned.
        KeystoreError: The checkpoint key can't be used.
        AuditTamperedError: The log doesn't follow.
    """
    tree = read_tree(log.directory)
    hashes = tree.inclusion(seq)
    line = line_at(log.dir_fd, seq)
    if line is None:
        raise LookupError(f"record {seq} isn't there")
    checkpoint = _sign(log, tree.size, tree.root())
    return Evidence(line, notes.build_proof(seq, hashes, checkpoint))


def check_proof(line: bytes, proof: bytes, log_id: str, note_key: bytes) -> rec.Record:
    """Return the record that *line* is, once *proof* shows that it's in the log.

    Raises:
        NoteError: It doesn't show that.
        RecordError: The line is no record.
    """
    parsed = notes.parse_proof(proof)
    notes.require_signed(parsed.checkpoint, log_id, note_key, Checker())
    size, root = parsed.checkpoint.size, parsed.checkpoint.root
    if verify_inclusion(leaf_hash(line), parsed.index, size, parsed.hashes) != root:
        raise notes.NoteError("the proof doesn't lead from this record to the checkpoint")
    record = rec.parse(line)
    if record.seq != parsed.index:
        raise notes.NoteError("the proof is of another record")
    return record


def request(log: AuditLog, old_size: int) -> bytes:
    """Return what a witness is sent: a checkpoint made now, and that it extends what it has seen.

    Raises:
        LookupError: The log never had *old_size* records, or what is needed was pruned.
        KeystoreError: The checkpoint key can't be used.
        AuditTamperedError: The log doesn't follow.
    """
    tree = read_tree(log.directory)
    checkpoint = _sign(log, tree.size, tree.root())
    return notes.build_request(old_size, tree.consistency(old_size), checkpoint)
