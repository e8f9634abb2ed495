"""Checkpoints and proofs as C2SP has them: signed-note, tlog-checkpoint, -proof and -witness.

Architecture invariant: this module does no I/O, reads no clock and holds no secret: it signs and
checks by functions it's given.
"""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from nono_mcp.audit.record import RecordError, base64_bytes

ORIGIN_PREFIX: Final = "nono-audit/"
NOTE_BYTES_MAX: Final = 64 * 1024
SIGNATURES_MAX: Final = 64

_ED25519: Final = b"\x01"
_PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
_size = re.compile(r"0|[1-9][0-9]{0,15}")


class NoteError(Exception):
    """These bytes are no checkpoint or proof, or not one by the key asked for."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The first *size* records of the log *origin* have the Merkle root *root*."""

    origin: str
    size: int
    root: bytes
    text: bytes
    """What is signed."""
    signatures: tuple[tuple[str, bytes], ...]
    """Key name, and key ID with signature, of each signature line."""


def origin(log_id: str) -> str:
    """Return the origin line, and key name, of a log."""
    return ORIGIN_PREFIX + log_id


def key_id(name: str, public: bytes) -> bytes:
    """Return the four bytes that stand before a signature."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def verifier_key(log_id: str, public: bytes) -> str:
    """Return the key as witnesses are given it: name, ID in hex, type and key in base64."""
    name = origin(log_id)
    encoded = base64.b64encode(_ED25519 + public).decode()
    return f"{name}+{key_id(name, public).hex()}+{encoded}"


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """Return the log and the public key that `verifier_key` wrote.

    Raises:
        NoteError: It's no key of a log like this.
    """
    name, *rest = text.strip().split("+", 2)
    log_id = name.removeprefix(ORIGIN_PREFIX)
    try:
        public = base64_bytes(rest[-1] if len(rest) == 2 else "", 33)[1:]  # noqa: PLR2004 - ID and key
    except RecordError as error:
        raise NoteError("not the key that nono audit anchor --key prints") from error
    if verifier_key(log_id, public) != text.strip():
        raise NoteError("not the key that nono audit anchor --key prints")
    return log_id, public


def build_request(old_size: int, hashes: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Return the body of a tlog-witness `add-checkpoint` request."""
    lines = [f"old {old_size}", *(base64.b64encode(value).decode() for value in hashes)]
    return "\n".join(lines).encode() + b"\n\n" + checkpoint


def sign_checkpoint(
    log_id: str, size: int, root: bytes, public: bytes, sign: Callable[[bytes], bytes]
) -> bytes:
    """Return a checkpoint, signed."""
    name = origin(log_id)
    text = f"{name}\n{size}\n{base64.b64encode(root).decode()}\n".encode()
    signature = base64.b64encode(key_id(name, public) + sign(text)).decode()
    return text + f"\n\u2014 {name} {signature}\n".encode()


def parse_checkpoint(note: bytes) -> Checkpoint:
    """Return the checkpoint that *note* is; its signatures are not checked.

    Raises:
        NoteError: It's none.
    """
    if len(note) > NOTE_BYTES_MAX:
        raise NoteError("too long for a checkpoint")
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise NoteError("not UTF-8") from error
    if any(char < " " and char != "\n" for char in whole) or not whole.endswith("\n"):
        raise NoteError("not a signed note")
    text, separator, signed = whole.rpartition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) < 3 or not lines[0] or not _size.fullmatch(lines[1]):  # noqa: PLR2004 - origin, size, root
        raise NoteError("not a checkpoint")
    signatures = signed[:-1].split("\n")
    if len(signatures) > SIGNATURES_MAX:
        raise NoteError("too many signatures")
    try:
        root = base64_bytes(lines[2], 32)
    except RecordError as error:
        raise NoteError("not a checkpoint: its root is malformed") from error
    found = tuple(_signature(line) for line in signatures)
    return Checkpoint(lines[0], int(lines[1]), root, (text + "\n").encode(), found)


def _signature(line: str) -> tuple[str, bytes]:
    match line.split(" "):
        case ["\u2014", str(name), str(encoded)] if name:
            try:
                value = base64.b64decode(encoded, validate=True)
            except ValueError as error:
                raise NoteError("a signature isn't base64") from error
            # Bits that stand for nothing could be changed, and the note still be signed.
            if base64.b64encode(value).decode() != encoded:
                raise NoteError("a signature isn't canonical base64")
            return name, value
        case _:
            raise NoteError("a signature line is malformed")


def require_signed(
    checkpoint: Checkpoint,
    log_id: str,
    public: bytes,
    check: Callable[[bytes, bytes, bytes], bool],
) -> None:
    """Check that *checkpoint* is of the log *log_id* and signed by *public*.

    Raises:
        NoteError: It isn't.
    """
    name = origin(log_id)
    if checkpoint.origin != name:
        raise NoteError(f"a checkpoint of another log: {checkpoint.origin!r}")
    wanted = key_id(name, public)
    ours = [
        signature[4:]
        for key, signature in checkpoint.signatures
        if key == name and signature[:4] == wanted
    ]
    if not ours or not all(check(public, signature, checkpoint.text) for signature in ours):
        raise NoteError("not signed by the log's checkpoint key")


@dataclass(frozen=True, slots=True)
class Proof:
    """Record *index* is in the tree of *checkpoint*."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Checkpoint


def build_proof(index: int, hashes: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Return a tlog-proof."""
    lines = [_PROOF_HEADER, f"index {index}"]
    lines += [base64.b64encode(value).decode() for value in hashes]
    return "\n".join(lines).encode() + b"\n\n" + checkpoint


def parse_proof(proof: bytes) -> Proof:
    """Return the proof that these bytes are; nothing in it is checked.

    Raises:
        NoteError: It's none.
    """
    if len(proof) > 2 * NOTE_BYTES_MAX:
        raise NoteError("too long for a proof")
    head, separator, checkpoint = proof.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    if lines[1:] and lines[1].startswith("extra "):
        del lines[1]
    if not separator or len(lines) < 2 or lines[0] != _PROOF_HEADER:  # noqa: PLR2004 - header and index
        raise NoteError("not a proof")
    word, _, index = lines[1].partition(" ")
    if word != "index" or not _size.fullmatch(index):
        raise NoteError("not a proof: no index")
    try:
        hashes = tuple(base64_bytes(line, 32) for line in lines[2:])
    except RecordError as error:
        raise NoteError("not a proof: a hash is malformed") from error
    return Proof(int(index), hashes, parse_checkpoint(checkpoint))
