"""Who edits logs: reads every file, rewrites what it likes, has the keys a case gives it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keyring.errors import KeyringLocked

from nono_mcp.audit import canonical, record
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.keystore import KeyringKeystore
from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.merkle import Frontier, leaf_hash
from nono_mcp.audit.session import Session

SEGMENT_BYTES = 6000


class Backend:
    """A keychain in memory, with keyring's own interface and errors."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        self._require_unlocked()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._require_unlocked()
        self.entries[service, username] = password

    def _require_unlocked(self) -> None:
        if self.locked:
            raise KeyringLocked("the collection is locked")

    def stored(self, entry: str) -> dict[str, object]:
        """What the keychain holds under *entry*: what stealing it gives."""
        found = [text for (_, name), text in self.entries.items() if name.startswith(f"{entry}:")]
        value = json.loads(found[0])
        assert isinstance(value, dict)
        return value


class Home:
    """A person's state directory with its keychain."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = Backend()
        self.keychain = KeyringKeystore(self.backend, str(path / "audit"), "test keychain")

    @property
    def audit(self) -> Path:
        return self.path / "audit"

    def open(self) -> AuditLog:
        log = AuditLog.open(str(self.path), self.keychain)
        log.segment_bytes_max = SEGMENT_BYTES
        return log

    def write_history(self) -> None:
        """Two sessions that overlap, then a third: about fifty records in several segments."""
        with self.open() as log:
            first = log.session({"client": "claude-code"})
            fill(first, 8, "a")
            second = log.session({"client": "codex"})
            for number in range(6):
                fill(first, 1, f"b{number}")
                fill(second, 1, f"c{number}")
            second.close()
            fill(first, 2, "d")
            first.close()
            with log.session({"client": "cli"}) as third:
                fill(third, 6, "e")


def fill(session: Session, count: int, name: str) -> None:
    for number in range(count):
        call = f"{name}{number}"
        argv = ["sh", "-c", f"make {call}"]
        session.append(
            "call.start", {"call": call, "tool": "run", "decision": "allow", "argv": argv}
        )
        session.append("call.end", {"call": call, "outcome": "exit", "exit_status": number})


class Editor:
    """The lines of a log, to be changed and put back into files of the same names."""

    def __init__(self, audit: Path) -> None:
        self.audit = audit
        self.read()

    def read(self) -> None:
        audit = self.audit
        self.names = sorted(path.name for path in audit.glob("[0-9]*.jsonl"))
        self.segments = [
            (audit / name).read_bytes().splitlines(keepends=True) for name in self.names
        ]

    def lines(self) -> list[bytes]:
        return [line for segment in self.segments for line in segment]

    def save(self) -> None:
        for name, lines in zip(self.names, self.segments, strict=True):
            (self.audit / name).write_bytes(b"".join(lines))

    def find(self, kind: str, nth: int = 0) -> int:
        """The seq of the *nth* record of a kind."""
        seqs = [n for n, line in enumerate(self.lines()) if record.glimpse(line).kind == kind]
        return seqs[nth]

    def _at(self, seq: int) -> tuple[list[bytes], int]:
        for lines in self.segments:
            if seq < len(lines):
                return lines, seq
            seq -= len(lines)
        raise IndexError(seq)

    def get(self, seq: int) -> bytes:
        lines, index = self._at(seq)
        return lines[index]

    def put(self, seq: int, line: bytes) -> None:
        lines, index = self._at(seq)
        lines[index] = line

    def insert(self, seq: int, line: bytes) -> None:
        lines, index = self._at(seq)
        lines.insert(index, line)

    def delete(self, seq: int) -> bytes:
        lines, index = self._at(seq)
        return lines.pop(index)

    def change(self, seq: int, edit: Callable[[dict[str, Any]], object]) -> None:
        """Change what the body of a record says; its signature stays."""
        body = json.loads(self.get(seq))["body"]
        edit(body)
        self.put(seq, self.with_body(seq, canonical.encode(body)))

    def with_body(self, seq: int, body: bytes) -> bytes:
        return record.build_line(body, record.parse(self.get(seq)).signature)

    def replace_in(self, seq: int, old: bytes, new: bytes) -> None:
        line = self.get(seq)
        assert line.count(old) >= 1
        self.put(seq, line.replace(old, new, 1))

    def rechain(self, keys: dict[str, SigningKey] | None = None) -> None:
        """Recompute every seq, prev, tree and file name; sign anew where the key is known."""
        frontier, head, seq = Frontier(), record.GENESIS_PREV, 0
        for number, lines in enumerate(self.segments):
            for index, line in enumerate(lines):
                value = json.loads(line)
                body, signature = value["body"], record.base64_bytes(value["sig"], 64)
                body["seq"], body["prev"] = seq, head
                if "state" in body["data"]:
                    body["data"]["state"]["tree"] = [peak.hex() for peak in frontier.peaks]
                if body["kind"] == "segment.end":
                    body["data"]["next"] = f"{seq + 1:016d}.jsonl"
                encoded = canonical.encode(body)
                if keys and body["session"] in keys:
                    signature = keys[body["session"]].sign(record.SIGNED_PREFIX + encoded)
                lines[index] = record.build_line(encoded, signature)
                leaf = leaf_hash(lines[index])
                frontier.append(leaf)
                head, seq = leaf.hex(), seq + 1
            if number + 1 < len(self.names):
                (self.audit / self.names[number + 1]).unlink(missing_ok=True)
                self.names[number + 1] = f"{seq:016d}.jsonl"


def flip(line: bytes, at: int) -> bytes:
    changed = bytearray(line)
    changed[at] ^= 1
    return bytes(changed)


def copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def replace_tree(source: Path, target: Path) -> None:
    shutil.rmtree(target)
    shutil.copytree(source, target)


def forged(kind: str, data: dict[str, object], place: record.Place, key: SigningKey) -> bytes:
    body = record.build_body(kind, canonical.encode(data), place)
    return record.build_line(body, key.sign(record.SIGNED_PREFIX + body))


def place_after(line: bytes, session: str) -> record.Place:
    """Where a record after *line* stands."""
    seen = record.glimpse(line)
    return record.Place(seen.seq + 1, leaf_hash(line).hex(), session, seen.time)


def every_kind(editor: Editor) -> Iterator[str]:
    for line in editor.lines():
        yield record.glimpse(line).kind
