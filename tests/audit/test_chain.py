"""Each rule of the chain alone: records that the right key signed, with one thing wrong.

Both verifiers are asked: this one's rules and the standalone one's.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nono_mcp.audit import canonical, files, notes, record, verify
from nono_mcp.audit.chain import BrokenRecordError, Replay
from nono_mcp.audit.keys import Checker, SigningKey
from nono_mcp.audit.merkle import Frontier, leaf_hash
from nono_mcp.audit.record import to_base64
from nono_mcp.audit.walk import Reference
from tests.audit.test_vectors import standalone

SESSION = "ab" * 8
OTHER = "ef" * 8
TIME = "2026-01-02T03:04:05.000006Z"


class Forge:
    """Writes logs by the book, with every key at hand."""

    def __init__(self) -> None:
        self.root, self.ratchet, self.following, self.session = (SigningKey() for _ in range(4))
        self.lines: list[bytes] = []
        self.frontier = Frontier()
        self.current = {"file": (0, self.ratchet)}

    def state(self) -> dict[str, Any]:
        ratchets = {
            name: {"index": index, "key": to_base64(key.public)}
            for name, (index, key) in self.current.items()
        }
        return {"ratchets": ratchets, "tree": [peak.hex() for peak in self.frontier.peaks]}

    def add(self, kind: str, data: dict[str, Any], key: SigningKey, **place: Any) -> None:  # noqa: ANN401 - members of any type
        prev = leaf_hash(self.lines[-1]).hex() if self.lines else record.GENESIS_PREV
        stand = record.Place(len(self.lines), prev, SESSION, TIME)._replace(**place)
        body = record.build_body(kind, canonical.encode(data), stand)
        line = record.build_line(body, key.sign(record.SIGNED_PREFIX + body))
        self.lines.append(line)
        self.frontier.append(leaf_hash(line))

    def create(self, **changes: Any) -> None:  # noqa: ANN401 - members of any type
        data = {
            "format": "nono-audit/v1",
            "key": to_base64(self.root.public),
            "log": "cd" * 16,
            "ratchets": {"file": to_base64(self.ratchet.public)},
        }
        place = changes.pop("place", {"session": record.GENESIS_SESSION})
        kind = changes.pop("kind", "log.create")
        self.add(kind, {**data, **changes}, self.root, **place)

    def start(self, key: SigningKey | None = None, **changes: Any) -> None:  # noqa: ANN401 - members of any type
        data = {
            "index": self.current["file"][0],
            "key": to_base64(self.session.public),
            "next": to_base64(self.following.public),
            "ratchet": "file",
            "state": self.state(),
        }
        place = changes.pop("place", {})
        self.add("session.start", {**data, **changes}, key or self.current["file"][1], **place)
        self.current = {"file": (self.current["file"][0] + 1, self.following)}

    def say(self, kind: str = "guard", /, data: dict[str, Any] | None = None, **place: Any) -> None:  # noqa: ANN401 - members of any type
        self.add(kind, data or {}, self.session, **place)


def with_keyring(**changes: Any) -> Callable[[Forge], object]:  # noqa: ANN401 - members of any type
    """A session by the file ratchet, in a log that has a keychain."""

    def act(forge: Forge) -> None:
        keyring = SigningKey()
        ratchets = {"file": to_base64(forge.ratchet.public), "keyring": to_base64(keyring.public)}
        forge.create(ratchets=ratchets)
        forge.current = {"file": (0, forge.ratchet), "keyring": (0, keyring)}
        forge.start(**changes)

    return act


def began(act: Callable[[Forge], object]) -> Callable[[Forge], object]:
    def whole(forge: Forge) -> None:
        forge.create()
        forge.start()
        forge.say()
        act(forge)

    return whole


def state_but(forge: Forge, **changes: object) -> dict[str, Any]:
    return {"state": {**forge.state(), **changes}}


def ended(forge: Forge) -> None:
    forge.say("session.end")
    forge.say()


def two_starts(forge: Forge, **changes: Any) -> None:  # noqa: ANN401 - members of any type
    forge.session = SigningKey()
    forge.start(**{"place": {"session": OTHER}, **changes})


def anothers_key(forge: Forge) -> None:
    two_starts(forge)
    forge.say()


RIGHT: dict[str, Callable[[Forge], object]] = {
    "a session": began(lambda forge: forge.say("session.end")),
    "a checkpoint": began(lambda f: f.say("checkpoint", {"state": f.state()})),
    "two sessions": began(two_starts),
    "an unknown kind": began(lambda forge: forge.say("some.thing")),
    "the end of a segment": began(
        lambda f: f.say("segment.end", {"state": f.state(), "next": "0000000000000004.jsonl"})
    ),
    "the file ratchet, saying why": with_keyring(fallback="locked"),
    "an earlier time": began(lambda f: f.say(time="1999-01-01T00:00:00.000000Z")),
}

OTHER_RATCHET = {"file": {"index": 7, "key": to_base64(bytes(32))}}
WRONG: dict[str, Callable[[Forge], object]] = {
    "prev": began(lambda f: f.say(prev="ab" * 32)),
    "seq": began(lambda f: f.say(seq=9)),
    "session unknown": began(lambda f: f.say(session="12" * 8)),
    "session of record 0": began(lambda f: f.say(session=record.GENESIS_SESSION)),
    "session ended": began(ended),
    "another session's key": began(anothers_key),
    "state without its tree": began(lambda f: f.say("checkpoint", state_but(f, tree=[]))),
    "state with another tree": began(
        lambda f: f.say("checkpoint", state_but(f, tree=["ab" * 32] * 2))
    ),
    "state with other ratchets": began(
        lambda f: f.say("checkpoint", state_but(f, ratchets=OTHER_RATCHET))
    ),
    "state with more": began(lambda f: f.say("checkpoint", state_but(f, more=1))),
    "no state": began(lambda f: f.say("checkpoint", {"x": 1})),
    "segment with a wrong next": began(
        lambda f: f.say("segment.end", {"state": f.state(), "next": "0000000000000009.jsonl"})
    ),
    "log.create again": began(lambda f: f.create()),
    "session twice": began(lambda f: two_starts(f, place={})),
    "session named as record 0": began(
        lambda f: two_starts(f, place={"session": record.GENESIS_SESSION})
    ),
    "unknown ratchet": began(lambda f: two_starts(f, ratchet="keyring")),
    "ratchet of no type": began(lambda f: two_starts(f, ratchet=["file"])),
    "index too low": began(lambda f: two_starts(f, index=0)),
    "index true": began(lambda f: two_starts(f, index=True)),
    "used ratchet key": began(lambda f: two_starts(f, key=f.ratchet)),
    "session without key": began(lambda f: two_starts(f, next="AAAA")),
    "session.start's state": began(lambda f: two_starts(f, state=Forge().state())),
    "the file ratchet, not saying why": with_keyring(),
    "the file ratchet, saying nothing": with_keyring(fallback=""),
    "the file ratchet, why of another type": with_keyring(fallback=1),
    "no log.create": lambda f: f.create(kind="guard"),
    "session of log.create": lambda f: f.create(place={}),
    "format": lambda f: f.create(format="nono-audit/v2"),
    "log's identifier": lambda f: f.create(log="CD" * 16),
    "no ratchet": lambda f: f.create(ratchets={}),
    "a ratchet of another name": lambda f: f.create(ratchets={"other": to_base64(bytes(32))}),
    "a ratchet's key": lambda f: f.create(ratchets={"file": "AAAA"}),
    "log.create's key": lambda f: f.create(key=to_base64(SigningKey().public)),
    "note key": lambda f: f.create(note="AAAA"),
    "kind too long": began(lambda f: f.say("a" * 33)),
    "kind with a capital": began(lambda f: f.say("Guard")),
    "a time that is none": began(lambda f: f.say(time="2026-01-02 03:04:05.000006Z")),
}  # fmt: skip


@pytest.mark.parametrize("act", RIGHT.values(), ids=RIGHT)
def test_what_keeps_to_the_rules_is_taken(act: Callable[[Forge], object]) -> None:
    forge, replay, other = Forge(), Replay(Checker()), standalone.Log(standalone.Ed25519().check)
    act(forge)
    for line in forge.lines:
        replay.feed(line)
        other.take(line)
    assert replay.size == other.size == len(forge.lines)


@pytest.mark.parametrize("act", WRONG.values(), ids=WRONG)
def test_what_breaks_one_rule_is_refused_at_that_record(act: Callable[[Forge], object]) -> None:
    forge, replay, other = Forge(), Replay(Checker()), standalone.Log(standalone.Ed25519().check)
    act(forge)
    for line in forge.lines[:-1]:
        replay.feed(line)
        other.take(line)
    before = replay.size
    with pytest.raises(BrokenRecordError) as broken:
        replay.feed(forge.lines[-1])
    assert broken.value.seq == len(forge.lines) - 1
    assert replay.size == before, "nothing changed"
    with pytest.raises(standalone.Wrong):
        other.take(forge.lines[-1])


def test_nothing_follows_the_end_of_a_segment_in_its_file() -> None:
    forge, replay, other = Forge(), Replay(Checker()), standalone.Log(None)
    RIGHT["the end of a segment"](forge)
    forge.say()
    for line in forge.lines[:-1]:
        replay.feed(line)
        other.take(line)
    with pytest.raises(BrokenRecordError, match="after its segment's end"):
        replay.feed(forge.lines[-1])
    with pytest.raises(standalone.Wrong):
        other.take(forge.lines[-1])
    assert not replay.open_segment("0000000000000005.jsonl")
    assert replay.open_segment("0000000000000004.jsonl")
    replay.feed(forge.lines[-1])


def test_a_clock_set_back_is_told_and_no_error() -> None:
    forge, replay = Forge(), Replay(Checker())
    RIGHT["an earlier time"](forge)
    for line in forge.lines:
        replay.feed(line)
    assert replay.clock_set_back == [3]


def pruned(forge: Forge, kind: str = "prune", /, **changes: object) -> list[bytes]:
    """What stands for a log of four records that were pruned."""
    forge.create()
    forge.start()
    forge.say()
    forge.say()
    boundary = {"hash": leaf_hash(forge.lines[-1]).hex(), "seq": 4, "state": forge.state()}
    boundary.update(changes)
    forge.say(kind, {"boundary": boundary, "sessions": [SESSION]})
    return [forge.lines[0], forge.lines[1], forge.lines[4]]


def test_a_pruned_log_goes_on_at_its_boundary() -> None:
    forge, replay, other = Forge(), Replay(Checker()), standalone.Log(standalone.Ed25519().check)
    lines = pruned(forge)
    forge.say()
    replay.feed_pruned(lines)
    other.take_pruned(lines)
    for line in forge.lines[4:]:
        replay.feed(line)
        other.take(line)
    assert replay.size == other.size == 6
    assert replay.root == other.root == leaf_hash(forge.lines[0]).hex()


@pytest.mark.parametrize(
    "change",
    ids=range(12),
    argvalues=[
        lambda lines: lines[1:],
        lambda lines: lines[:2],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[0], lines[1], lines[1], lines[2]],
        lambda lines: [lines[0], lines[2], lines[1]],
        lambda lines: [lines[0], lines[1][:-2] + b"\n", lines[2]],
        lambda _lines: pruned(Forge(), state=Forge().state()),
        lambda _lines: pruned(Forge(), seq=1),
        lambda _lines: pruned(Forge(), hash="x"),
        lambda lines: [lines[0], another_start(), lines[2]],
        lambda _lines: pruned(Forge(), "guard"),
        lambda _lines: pruned_after_an_end(Forge(), seq=1),
    ],
)
def test_what_does_not_lead_to_the_boundary_is_refused(
    change: Callable[[list[bytes]], list[bytes]],
) -> None:
    lines = change(pruned(Forge()))
    with pytest.raises(BrokenRecordError):
        Replay(Checker()).feed_pruned(lines)
    with pytest.raises(standalone.Wrong):
        standalone.Log(standalone.Ed25519().check).take_pruned(lines)


def pruned_after_an_end(forge: Forge, **place: Any) -> list[bytes]:  # noqa: ANN401 - members of any type
    """What stands for a session that ended and the beginning of another, which pruned them."""
    forge.create()
    forge.start()
    forge.say("session.end")
    ended = forge.session
    two_starts(forge, place={"session": OTHER, **place})
    boundary = {"hash": leaf_hash(forge.lines[-1]).hex(), "seq": 4, "state": forge.state()}
    forge.say("prune", {"boundary": boundary, "sessions": [OTHER]}, session=OTHER)
    forge.session = ended
    return [forge.lines[0], forge.lines[1], forge.lines[3], forge.lines[4]]


def test_a_session_that_was_pruned_with_its_end_is_not_open() -> None:
    forge, replay, other = Forge(), Replay(Checker()), standalone.Log(standalone.Ed25519().check)
    lines = pruned_after_an_end(forge)
    replay.feed_pruned(lines)
    other.take_pruned(lines)
    replay.feed(lines[-1])
    other.take(lines[-1])
    forge.say()
    with pytest.raises(BrokenRecordError, match="its session isn't open"):
        replay.feed(forge.lines[-1])
    with pytest.raises(standalone.Wrong):
        other.take(forge.lines[-1])


def test_the_prune_record_must_come_by_again() -> None:
    forge, replay = Forge(), Replay(Checker())
    lines = pruned(forge)
    replay.feed_pruned(lines)
    del forge.lines[-1]
    forge.frontier = Frontier()
    forge.say("guard")
    with pytest.raises(BrokenRecordError, match="isn't the prune record"):
        replay.feed(forge.lines[-1])


def test_a_log_that_ends_before_the_record_of_its_pruning_isnt_whole(tmp_path: Path) -> None:
    (tmp_path / files.PRUNED).write_bytes(b"".join(pruned(Forge())))
    completeness = verify.verify_files(str(tmp_path)).completeness
    assert (completeness.status, completeness.reason) == ("failed", "the prune record 4 is missing")


@pytest.mark.parametrize("said", ["all", "root", "hash", "size"])
def test_what_is_remembered_of_a_log_has_to_be_what_it_was(tmp_path: Path, said: str) -> None:
    forge = Forge()
    RIGHT["a session"](forge)
    (tmp_path / f"{0:016d}.jsonl").write_bytes(b"".join(forge.lines))
    frontier = Frontier()
    for line in forge.lines[:3]:
        frontier.append(leaf_hash(line))
    right = Reference("it", 3, leaf_hash(forge.lines[2]).hex(), frontier.root())
    reference = {
        "all": right,
        "root": replace(right, tree_root=bytes(32)),
        "hash": replace(right, hash="00" * 32),
        "size": replace(right, size=5),
    }[said]
    found = verify.verify_files(str(tmp_path), references=[reference]).completeness
    assert found.status == ("ok" if said == "all" else "failed")


def test_a_checkpoint_of_another_log_is_none_of_this_one_by_whomever_signed() -> None:
    """What is signed says of which log it is, and the name beside the signature isn't signed."""
    key, log_id = SigningKey(), "ab" * 16
    for said in (log_id, "cd" * 16):
        text = f"{notes.origin(said)}\n3\n{to_base64(bytes(32))}\n".encode()
        name = notes.origin(log_id)
        signature = to_base64(notes.key_id(name, key.public) + key.sign(text))
        found = notes.parse_checkpoint(text + f"\n\u2014 {name} {signature}\n".encode())
        if said == log_id:
            notes.require_signed(found, log_id, key.public, Checker())
            continue
        with pytest.raises(notes.NoteError, match="another log"):
            notes.require_signed(found, log_id, key.public, Checker())


def another_start() -> bytes:
    forge = Forge()
    forge.create()
    forge.start()
    return forge.lines[1]
