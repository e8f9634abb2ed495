"""Verify a nono-audit/v1 log, as FORMAT.md says, with nothing but this file and Python 3.

    python3 standalone.py DIRECTORY --root FINGERPRINT --head SIZE:HASH --anchor CHECKPOINT

DIRECTORY holds the segments. Exit status: 0 if integrity, completeness and trust are all ok, 1 if
one failed, 3 if one couldn't be checked with what was given. Signatures are checked in plain
Python, some thousands a second at most; --no-signatures leaves them out, and trust unchecked.

It is one file so that it can be copied to where a log is checked, and read there from top to
bottom: Ed25519, canonical JSON, a record, the tree, the log's own rules (`Log`), its files
(`follow`), checkpoints and heads, and the three verdicts (`verify`).

Architecture invariant: this file imports the standard library only and shares no code with the
program that writes the log, so that one's mistakes aren't the other's.
"""

import argparse
import base64
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any

Point = tuple[int, int, int, int]
Check = Callable[[bytes, bytes, bytes], bool]
Verdict = tuple[str, str]

# Ed25519, RFC 8032 section 5.1. Only checking: nothing here is secret, so nothing is constant-time.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)
SIGNATURE_BYTES = 64
COMB_AFTER = 3


def recover_x(y: int, sign: int) -> int | None:
    """Return the x of a point, or None if there is none (section 5.1.3)."""
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def add(p: Point, q: Point) -> Point:
    """Return the sum of two points (section 5.1.4)."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def decompress(text: bytes) -> Point | None:
    """Return the point that 32 bytes encode."""
    y = int.from_bytes(text, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


def compress(point: Point) -> bytes:
    """Return the 32 bytes that encode a point."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def multiply(scalar: int, point: Point) -> Point:
    """Return a multiple of a point."""
    result = NEUTRAL
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


class Comb:
    """Multiples of one point by every 4-bit digit of a scalar: 64 additions a multiplication."""

    def __init__(self, point: Point) -> None:
        self.rows: list[list[Point]] = []
        for _ in range(64):
            row = [NEUTRAL]
            for _ in range(15):
                row.append(add(row[-1], point))
            self.rows.append(row)
            point = add(row[-1], point)

    def multiply(self, scalar: int) -> Point:
        """Return a multiple of the point."""
        result = NEUTRAL
        for row in self.rows:
            if scalar & 15:
                result = add(result, row[scalar & 15])
            scalar >>= 4
        return result


class Ed25519:
    """Checks signatures, and keeps what it worked out about keys."""

    def __init__(self) -> None:
        y = 4 * pow(5, -1, P) % P
        x = recover_x(y, 0) or 0
        self.base = Comb((x, y, 1, x * y % P))
        self.keys: dict[bytes, tuple[int, Point, Comb | None]] = {}

    def check(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Tell whether *signature* over *message* is by *public* (section 5.1.7)."""
        scalar = int.from_bytes(signature[32:], "little")
        known = self.keys.get(public) or self._parse(public)
        if len(signature) != SIGNATURE_BYTES or scalar >= L or known is None:
            return False
        uses, minus, comb = known
        if uses == COMB_AFTER:
            # A session's key checks many; a ratchet's checks one.
            comb = Comb(minus)
        self.keys[public] = (uses + 1, minus, comb)
        digest = sha512(signature[:32] + public + message).digest()
        challenge = int.from_bytes(digest, "little") % L
        challenged = comb.multiply(challenge) if comb else multiply(challenge, minus)
        return compress(add(self.base.multiply(scalar), challenged)) == signature[:32]

    @staticmethod
    def _parse(public: bytes) -> tuple[int, Point, None] | None:
        point = decompress(public)
        return None if point is None else (0, (P - point[0], *point[1:3], P - point[3]), None)


# Canonical JSON, FORMAT.md section 1.
ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
SPECIAL = re.compile('["\\\\\x00-\x1f]')


def quoted(text: str) -> str:
    """Return a string as canonical JSON."""
    return '"' + SPECIAL.sub(lambda m: ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", text) + '"'


def canonical(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return a value as canonical JSON."""
    if isinstance(value, dict):
        for name in value:
            require(all(" " <= char <= "~" for char in name), "a member name isn't printable ASCII")
        members = (f"{quoted(name)}:{canonical(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    require(isinstance(value, int) and abs(value) < 2**53, "a number isn't an integer in range")
    return str(value)


class Wrong(Exception):  # noqa: N818 - read as a sentence
    """A record isn't what its place asks for."""


class Missing(Exception):  # noqa: N818 - read as a sentence
    """A file isn't there."""


def require(condition: object, reason: str) -> None:
    """Raise `Wrong` unless the condition holds."""
    if not condition:
        raise Wrong(reason)


LINE = re.compile(
    rb'\{"body":(\{"data":.*,"kind":"[a-z]{1,32}(?:\.[a-z]{1,31})*","prev":"[0-9a-f]{64}",'
    rb'"seq":[0-9]{1,16},"session":"[0-9a-f]{16}","time":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:'
    rb'[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"\}),"sig":"([A-Za-z0-9+/]{86}==)"\}\n'
)
BODY_BYTES_MAX = 4194304
KIND_CHARS_MAX = 32
MEMBERS = {"data", "kind", "prev", "seq", "session", "time"}
GENESIS = "0" * 64


def exact(text: object, size: int) -> bytes:
    """Return the bytes of the one base64 encoding *text*."""
    if not isinstance(text, str):
        raise Wrong("not base64")
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        raise Wrong("not base64") from None
    require(len(value) == size and base64.b64encode(value).decode() == text, "not canonical base64")
    return value


def parse(line: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """Return a record's body, its signature, and what that signs."""
    found = LINE.fullmatch(line)
    if found is None or len(found[1]) > BODY_BYTES_MAX:
        raise Wrong("not laid out as a record")
    body, signature = found.groups()
    try:
        value = json.loads(body.decode())
        again = canonical(value).encode()
    except (ValueError, RecursionError):
        raise Wrong("not canonical JSON") from None
    require(again == body, "not canonical JSON")
    require(value.keys() == MEMBERS and isinstance(value["data"], dict), "other members")
    require(len(value["kind"]) <= KIND_CHARS_MAX, "its kind is too long")
    require(type(value["seq"]) is int, "its seq is no integer")
    return value, exact(signature.decode(), 64), b"nono-audit/v1\n" + body


def leaf_hash(line: bytes) -> bytes:
    """Return what stands for a line in the chain and in the tree."""
    return sha256(b"\0" + line).digest()


def grown(peaks: Sequence[bytes], size: int, leaf: bytes) -> list[bytes]:
    """Return the subtree roots of size + 1 leaves."""
    peaks = list(peaks)
    while size & 1:
        leaf = sha256(b"\1" + peaks.pop() + leaf).digest()
        size >>= 1
    return [*peaks, leaf]


def tree_root(peaks: Sequence[bytes]) -> bytes:
    """Return the root of the whole tree."""
    if not peaks:
        return sha256(b"").digest()
    root = peaks[-1]
    for peak in peaks[-2::-1]:
        root = sha256(b"\1" + peak + root).digest()
    return root


def name_of(seq: int) -> str:
    """Return the name of the segment that begins with a record."""
    return f"{seq:016d}.jsonl"


def state_of(value: Any, size: int) -> tuple[dict[str, tuple[int, bytes]], list[bytes]]:  # noqa: ANN401 - JSON
    """Return the ratchets and subtree roots that a state gives."""
    require(isinstance(value, dict) and value.keys() == {"ratchets", "tree"}, "malformed state")
    require(
        isinstance(value["tree"], list) and isinstance(value["ratchets"], dict), "malformed state"
    )
    ratchets = {}
    for name, ratchet in value["ratchets"].items():
        require(isinstance(ratchet, dict) and ratchet.keys() == {"index", "key"}, "malformed state")
        require(type(ratchet["index"]) is int, "malformed state")
        ratchets[name] = (ratchet["index"], exact(ratchet["key"], 32))
    for peak in value["tree"]:
        require(isinstance(peak, str) and re.fullmatch("[0-9a-f]{64}", peak), "malformed state")
    require(len(value["tree"]) == size.bit_count(), "malformed state")
    return ratchets, [bytes.fromhex(peak) for peak in value["tree"]]


class Log:
    """What is known of a log after some of its records."""

    def __init__(self, check: Check | None) -> None:
        self.check = check
        self.size, self.prev, self.time = 0, GENESIS, ""
        self.peaks: list[bytes] = []
        self.ratchets: dict[str, tuple[int, bytes]] = {}
        self.sessions: dict[str, tuple[bytes, bool]] = {}
        self.warnings: list[str] = []
        self.root: str | None = None
        self.log: str | None = None
        self.note: bytes | None = None
        self.ended_by: str | None = None
        self.prune_seq: int | None = None
        self.prune_line = b""

    def take(self, line: bytes) -> None:
        """Take the next line.

        Raises:
            Wrong: It doesn't follow.
        """
        require(self.ended_by is None, "stands after its segment's end")
        value, signature, signed = parse(line)
        require(value["seq"] == self.size, "its seq is another")
        require(value["prev"] == self.prev, "doesn't follow from the record before")
        require(self.size != self.prune_seq or line == self.prune_line, "isn't the prune record")
        self.judge(value, signature, signed, line)
        leaf = leaf_hash(line)
        self.peaks = grown(self.peaks, self.size, leaf)
        self.size, self.prev = self.size + 1, leaf.hex()
        if value["time"] < self.time:
            self.warnings.append(f"the clock was set back before record {self.size - 1}")
        self.time = value["time"]

    def judge(self, value: dict[str, Any], signature: bytes, signed: bytes, line: bytes) -> None:
        """Check a record by its kind, and take over what it changes."""
        kind, data = value["kind"], value["data"]
        if kind in {"session.start", "checkpoint", "segment.end"}:
            told = state_of(data.get("state"), self.size)
            require(told == (self.ratchets, self.peaks), "its state is another")
        if self.size == 0 or kind == "log.create":
            require(self.size == 0, "a log begins once")
            self.begin(value, signature, signed, line)
        elif kind == "session.start":
            self.introduce(value, signature, signed)
        else:
            key, live = self.sessions.get(value["session"], (b"", False))
            require(live, "its session isn't open")
            self.signed(key, signature, signed)
            if kind == "session.end":
                self.sessions[value["session"]] = (key, False)
            if kind == "segment.end":
                self.ended_by = name_of(self.size + 1)
                require(self.ended_by == data.get("next"), "names a wrong next segment")

    def signed(self, key: bytes, signature: bytes, message: bytes) -> None:
        """Check a signature, unless none are."""
        ok = self.check is None or self.check(key, signature, message)
        require(ok, "its signature isn't by the key that its place asks for")

    def begin(self, value: dict[str, Any], signature: bytes, signed: bytes, line: bytes) -> None:
        """Take record 0."""
        data = value["data"]
        require(value["kind"] == "log.create" and value["seq"] == 0, "a log begins with log.create")
        require(value["session"] == "0" * 16, "a log begins with log.create")
        require(data.get("format") == "nono-audit/v1", "another format")
        require(re.fullmatch("[0-9a-f]{32}", str(data.get("log"))), "its identifier is malformed")
        ratchets = data.get("ratchets")
        require(isinstance(ratchets, dict) and ratchets, "its ratchets are malformed")
        require(ratchets.keys() <= {"file", "keyring"}, "its ratchets are malformed")
        self.signed(exact(data.get("key"), 32), signature, signed)
        self.ratchets = {name: (0, exact(key, 32)) for name, key in ratchets.items()}
        self.note = None if data.get("note") is None else exact(data["note"], 32)
        self.log, self.root = data["log"], leaf_hash(line).hex()

    def introduce(self, value: dict[str, Any], signature: bytes, signed: bytes) -> None:
        """Take a `session.start`."""
        data, session = value["data"], value["session"]
        ratchet = data.get("ratchet")
        require(isinstance(ratchet, str) and ratchet in self.ratchets, "unknown ratchet")
        index, key = self.ratchets[ratchet]
        require(type(data.get("index")) is int and data["index"] == index, "its index is another")
        require(session not in self.sessions and session != "0" * 16, "its session was used before")
        bypassed = ratchet != "keyring" and "keyring" in self.ratchets
        why = data.get("fallback")
        require(not bypassed or (isinstance(why, str) and why), "the keychain was passed over")
        following, own = exact(data.get("next"), 32), exact(data.get("key"), 32)
        self.signed(key, signature, signed)
        self.ratchets = {**self.ratchets, ratchet: (index + 1, following)}
        self.sessions[session] = (own, True)
        if "fallback" in data:
            self.warnings.append(f"session {session} began by the key file: {data['fallback']}")

    def take_pruned(self, lines: list[bytes]) -> None:
        """Take what stands for the pruned records (FORMAT.md section 7)."""
        records = [parse(line) for line in lines]
        require(
            len(records) > 1 and records[-1][0]["kind"] == "prune", "no prune record at its end"
        )
        self.begin(*records[0], lines[0])
        seq = 0
        for value, signature, signed in records[1:-1]:
            require(value["kind"] == "session.start" and value["seq"] > seq, "holds something else")
            self.introduce(value, signature, signed)
            seq = value["seq"]
        last = records[-1][0]
        boundary, live = last["data"].get("boundary"), last["data"].get("sessions")
        if not isinstance(boundary, dict) or not isinstance(live, list):
            raise Wrong("malformed prune record")
        size, prev = boundary.get("seq"), boundary.get("hash")
        if type(size) is not int or size <= seq:
            raise Wrong("doesn't lead to its boundary")
        if not isinstance(prev, str) or not re.fullmatch("[0-9a-f]{64}", prev):
            raise Wrong("malformed boundary")
        ratchets, self.peaks = state_of(boundary.get("state"), size)
        require(ratchets == self.ratchets, "doesn't lead to its boundary")
        self.size, self.prev = size, prev
        self.prune_seq, self.prune_line = last["seq"], lines[-1]
        self.sessions = {name: (key, name in live) for name, (key, _) in self.sessions.items()}


Seen = dict[int, tuple[str, bytes]]


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; the last may lack its LF."""
    with path.open("rb") as file:
        yield from file


def follow(log: Log, directory: Path, wanted: Iterable[int], seen: Seen) -> None:
    """Feed a log, and put in *seen* the last hash and the tree root at the sizes *wanted*.

    Raises:
        Wrong: A record isn't what its place asks for.
        Missing: A file isn't there.
    """

    def note() -> None:
        if log.size in wanted:
            seen[log.size] = (log.prev, tree_root(log.peaks))

    paths = sorted(p for p in directory.glob("*.jsonl") if re.fullmatch("[0-9]{16}", p.stem))
    pruned = directory / "pruned.jsonl"
    if pruned.exists():
        try:
            log.take_pruned(list(lines_of(pruned)))
        except Wrong as error:
            raise Wrong(f"record {log.size} (pruned.jsonl): {error}") from None
        paths = [path for path in paths if int(path.stem) >= log.size]
    elif not paths:
        raise Missing("the log has no records")
    note()
    for path in paths:
        if path.name != name_of(log.size) or log.ended_by not in {None, path.name}:
            raise Missing(f"{name_of(log.size)} isn't where it should be")
        log.ended_by = None
        for number, line in enumerate(lines_of(path), 1):
            if path == paths[-1] and not line.endswith(b"\n"):
                log.warnings.append(f"a torn write of {len(line)} bytes at the end")
                break
            follow_line(log, line, f"{path.name}:{number}")
            note()


def follow_line(log: Log, line: bytes, where: str) -> None:
    """Feed one line; if it's wrong, say where it stands."""
    try:
        log.take(line)
    except Wrong as error:
        raise Wrong(f"record {log.size} ({where}): {error}") from None


class Checkpoint:
    """A C2SP checkpoint: the root of the first *size* records."""

    def __init__(self, path: Path) -> None:
        text, _, signatures = path.read_bytes().decode().rpartition("\n\n")
        self.text = text + "\n"
        self.origin, size, root = self.text.split("\n")[:3]
        self.size, self.root = int(size), base64.b64decode(root)
        self.signatures = [line.split(" ") for line in signatures.splitlines()]

    def signed_by(self, public: bytes, check: Check) -> bool:
        """Tell whether it bears a signature by *public*."""
        key_id = sha256(self.origin.encode() + b"\n\1" + public).digest()[:4]
        for dash, name, encoded in self.signatures:
            raw = base64.b64decode(encoded)
            if base64.b64encode(raw).decode() != encoded:
                continue
            if dash == "\u2014" and name == self.origin and raw[:4] == key_id:
                return check(public, raw[4:], self.text.encode())
        return False


def compare(
    log: Log, seen: Seen, heads: Sequence[tuple[int, str]], anchors: Sequence[Checkpoint]
) -> list[str]:
    """Return what contradicts the heads and the checkpoints."""
    failures = []
    for size, last in heads:
        if size in seen and seen[size][0] != last:
            failures.append(f"record {size - 1} isn't the one remembered")
    for anchor in anchors:
        if log.log and (
            anchor.origin != f"nono-audit/{log.log}"
            or not log.note
            or not anchor.signed_by(log.note, Ed25519().check)
        ):
            failures.append("an anchor isn't signed by this log's checkpoint key")
        elif anchor.size in seen and seen[anchor.size][1] != anchor.root:
            failures.append(f"the first {anchor.size} records aren't the anchored ones")
    return failures


def too_short(log: Log, sizes: Iterable[int]) -> list[str]:
    """Return what a whole log lacks."""
    failures = [
        f"{s} records are remembered, the log has {log.size}" for s in sizes if s > log.size
    ]
    if log.prune_seq is not None and log.size <= log.prune_seq:
        failures.append("the prune record is missing")
    return failures


def verify(
    directory: Path,
    *,
    root: str | None = None,
    heads: Sequence[tuple[int, str]] = (),
    anchors: Sequence[Path] = (),
    signatures: bool = True,
) -> dict[str, Any]:
    """Return the three verdicts, each (status, reason), and what else was found."""
    log = Log(Ed25519().check if signatures else None)
    checkpoints = [Checkpoint(path) for path in anchors]
    wanted = {size for size, _ in heads} | {anchor.size for anchor in checkpoints}
    wrong = missing = None
    seen: Seen = {}
    try:
        follow(log, directory, wanted, seen)
    except Wrong as error:
        wrong = str(error)
    except (Missing, FileNotFoundError) as error:
        missing = str(error)
    failures = compare(log, seen, heads, checkpoints)
    if wrong is None and missing is None:
        failures += too_short(log, wanted)
    reached = bool(wanted & seen.keys())
    return {
        "integrity": integrity(log, wrong, missing),
        "completeness": completeness(log, wrong, missing, failures, reached=reached, asked=wanted),
        "trust": trust(log, root, signatures=signatures, stopped=bool(wrong or missing)),
        "log": log.log,
        "root": log.root,
        "size": log.size,
        "head": log.prev,
        "warnings": log.warnings,
    }


def integrity(log: Log, wrong: str | None, missing: str | None) -> Verdict:
    """Return whether every line is as its session wrote it."""
    if wrong:
        return "failed", wrong
    if missing or not log.size:
        return "unchecked", missing or "no record"
    return "ok", f"{log.size} records"


def completeness(  # noqa: PLR0913 - all that was found
    log: Log,
    wrong: str | None,
    missing: str | None,
    failures: Sequence[str],
    *,
    reached: bool,
    asked: object,
) -> Verdict:
    """Return whether nothing is missing."""
    if missing:
        return ("failed" if asked or log.size else "unchecked"), missing
    if failures:
        return "failed", failures[0]
    if wrong:
        return "unchecked", "the log breaks off"
    return ("ok", "reaches all that was given") if reached else ("unchecked", "nothing was given")


def trust(log: Log, root: str | None, *, signatures: bool, stopped: bool) -> Verdict:
    """Return whether the log is the one that *root* names."""
    if log.root is None or root is None:
        return "unchecked", "record 0 wasn't read" if log.root is None else "no root was given"
    if root != log.root:
        return "failed", f"its root is {log.root}"
    if stopped or not signatures:
        return "unchecked", "not every signature was checked"
    return "ok", "every key leads back to the root"


def main(argv: Sequence[str]) -> int:
    """Verify what the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description="Verify a nono-audit/v1 log.")
    parser.add_argument("directory", type=Path, help="where the segments are")
    parser.add_argument("--root", help="root fingerprint, in hex")
    parser.add_argument("--head", action="append", default=[], help="SIZE:HASH, repeatable")
    parser.add_argument("--anchor", action="append", default=[], type=Path, help="checkpoint file")
    parser.add_argument("--no-signatures", action="store_true", help="check the chain alone")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args(argv)
    heads = [(int(size), last) for size, _, last in (head.partition(":") for head in args.head)]
    report = verify(
        args.directory,
        root=args.root,
        heads=heads,
        anchors=args.anchor,
        signatures=not args.no_signatures,
    )
    verdicts = [report[name] for name in ("integrity", "completeness", "trust")]
    if args.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        for name in ("integrity", "completeness", "trust"):
            sys.stdout.write(f"{name}: {report[name][0]}: {report[name][1]!a}\n")
        for warning in report["warnings"]:
            sys.stdout.write(f"warning: {warning!a}\n")
    if any(status == "failed" for status, _ in verdicts):
        return 1
    return 0 if all(status == "ok" for status, _ in verdicts) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
