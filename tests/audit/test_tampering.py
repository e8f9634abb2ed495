"""The tamper table: what an editor of logs does, and the three verdicts it must lead to."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nono_mcp.audit import record, verify
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.prune import prune
from nono_mcp.audit.walk import Report
from tests.audit.adversary import (
    Editor,
    Home,
    copy_tree,
    fill,
    flip,
    forged,
    place_after,
    replace_tree,
)

ORDER = 2**252 + 27742317777372353535851937790883648493
OK, FAILED, UNCHECKED = "ok", "failed", "unchecked"
BROKEN = (FAILED, UNCHECKED, UNCHECKED)
SHORT = (OK, FAILED, OK)
GAP = (UNCHECKED, FAILED, UNCHECKED)
GONE = (UNCHECKED, FAILED, UNCHECKED)

Case = Callable[[Home, Editor], int | None]
CASES: list[tuple[Case, tuple[str, str, str]]] = []


def case(*expected: str) -> Callable[[Case], Case]:
    def add(act: Case) -> Case:
        CASES.append((act, (expected[0], expected[1], expected[2])))
        return act

    return add


def check(home: Home) -> Report:
    return verify.verify(str(home.path), home.keychain)


def verdicts(report: Report) -> tuple[str, str, str]:
    return report.integrity.status, report.completeness.status, report.trust.status


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "state")
    home.write_history()
    return home


@case(OK, OK, OK)
def nothing(_home: Home, _log: Editor) -> None:
    """The control: what was written verifies."""


@case(*BROKEN)
def flip_a_bit_of_what_it_says(_home: Home, log: Editor) -> int:
    log.put(5, flip(log.get(5), 40))
    return 5


@case(*BROKEN)
def change_a_word(_home: Home, log: Editor) -> int:
    seq = log.find("call.start", 3)
    log.replace_in(seq, b"make", b"fake")
    return seq


@case(*BROKEN)
def flip_a_bit_of_a_signature(_home: Home, log: Editor) -> int:
    log.put(7, flip(log.get(7), -20))
    return 7


@case(*BROKEN)
def flip_a_bit_of_the_last_signature(_home: Home, log: Editor) -> int:
    last = len(log.lines()) - 1
    log.put(last, flip(log.get(last), -20))
    return last


@case(*BROKEN)
def change_unused_bits_of_a_signature(_home: Home, log: Editor) -> int:
    line = log.get(7)
    last = line[-6:-5]
    log.put(7, line[:-6] + {b"A": b"B", b"Q": b"R", b"g": b"h", b"w": b"x"}[last] + line[-5:])
    return 7


@case(*BROKEN)
def add_the_group_order_to_a_signature(_home: Home, log: Editor) -> int:
    parsed = record.parse(log.get(7))
    scalar = int.from_bytes(parsed.signature[32:], "little") + ORDER
    malleated = parsed.signature[:32] + scalar.to_bytes(32, "little")
    log.put(7, record.build_line(parsed.body, malleated))
    return 7


@case(*BROKEN)
def swap_two_signatures(_home: Home, log: Editor) -> int:
    four, five = record.parse(log.get(4)), record.parse(log.get(5))
    log.put(4, record.build_line(four.body, five.signature))
    log.put(5, record.build_line(five.body, four.signature))
    return 4


@case(*BROKEN)
def flip_a_bit_of_prev(_home: Home, log: Editor) -> int:
    line = log.get(6)
    log.put(6, flip(line, line.index(b'"prev":"') + 20))
    return 6


@case(*BROKEN)
def edit_and_recompute_every_hash(_home: Home, log: Editor) -> int:
    seq = log.find("call.end", 2)
    log.change(seq, lambda body: body["data"].update(exit_status=0, outcome="error"))
    log.rechain()
    return seq


@case(*BROKEN)
def change_the_time_and_recompute(_home: Home, log: Editor) -> int:
    log.change(8, lambda body: body.update(time="2020-01-01T00:00:00.000000Z"))
    log.rechain()
    return 8


@case(*BROKEN)
def change_the_kind(_home: Home, log: Editor) -> int:
    seq = log.find("call.start", 1)
    log.replace_in(seq, b'"kind":"call.start"', b'"kind":"call.state"')
    return seq


@case(*BROKEN)
def give_a_record_to_another_session(_home: Home, log: Editor) -> int:
    other = record.glimpse(log.get(log.find("session.start", 0))).session
    seq = log.find("session.end", 0) - 1
    mine = record.glimpse(log.get(seq)).session
    assert mine != other
    log.change(seq, lambda body: body.update(session=other))
    return seq


@case(*BROKEN)
def duplicate_a_record(_home: Home, log: Editor) -> int:
    log.insert(6, log.get(5))
    return 6


@case(*BROKEN)
def duplicate_the_last_record(_home: Home, log: Editor) -> int:
    last = len(log.lines())
    log.segments[-1].append(log.get(last - 1))
    return last


@case(*BROKEN)
def insert_a_second_record_with_the_same_seq(_home: Home, log: Editor) -> int:
    seq = log.find("call.end", 1)
    log.insert(seq, log.get(seq).replace(b'"outcome":"exit"', b'"outcome":"done"'))
    return seq


@case(*BROKEN)
def insert_one_of_my_own_and_recompute(_home: Home, log: Editor) -> int:
    session = record.glimpse(log.get(5)).session
    mine = forged(
        "guard", {"action": "x", "path": "y"}, place_after(log.get(5), session), SigningKey()
    )
    log.insert(6, mine)
    log.rechain()
    return 6


@case(*BROKEN)
def delete_a_record(_home: Home, log: Editor) -> int:
    log.delete(6)
    return 6


@case(*BROKEN)
def delete_a_record_and_recompute(_home: Home, log: Editor) -> int:
    seq = log.find("call.end", 1)
    log.delete(seq)
    log.rechain()
    return seq


@case(*BROKEN)
def delete_the_first_record(_home: Home, log: Editor) -> int:
    log.delete(0)
    return 0


@case(*BROKEN)
def delete_a_session_start(_home: Home, log: Editor) -> int:
    seq = log.find("session.start", 1)
    log.delete(seq)
    return seq


@case(*BROKEN)
def swap_two_records(_home: Home, log: Editor) -> int:
    four, five = log.get(4), log.get(5)
    log.put(4, five)
    log.put(5, four)
    return 4


@case(*BROKEN)
def swap_two_records_and_recompute(_home: Home, log: Editor) -> int:
    four, five = log.get(4), log.get(5)
    log.put(4, five)
    log.put(5, four)
    log.rechain()
    return 4


@case(*BROKEN)
def splice_a_record_of_another_log(home: Home, log: Editor) -> int:
    other = Home(home.path.parent / "other")
    other.write_history()
    log.put(5, Editor(other.audit).get(5))
    return 5


@case(*BROKEN)
def splice_the_tail_of_another_log(home: Home, log: Editor) -> int:
    other = Home(home.path.parent / "other")
    other.write_history()
    spliced = Editor(other.audit)
    log.segments[0][6:] = spliced.segments[0][6:]
    return 6


@case(*BROKEN)
def splice_another_logs_tail_and_recompute(home: Home, log: Editor) -> int:
    other = Home(home.path.parent / "other")
    other.write_history()
    spliced = Editor(other.audit)
    log.segments[-1][2:] = spliced.segments[-1][2:]
    log.rechain()
    return len(log.lines()) - len(log.segments[-1]) + 2


@case(*BROKEN)
def duplicate_a_member(_home: Home, log: Editor) -> int:
    log.replace_in(5, b'"call":"', b'"call":"hidden","call":"')
    return 5


@case(*BROKEN)
def duplicate_a_member_of_the_body(_home: Home, log: Editor) -> int:
    log.replace_in(5, b'{"body":{', b'{"body":{"data":{},')
    return 5


@case(*BROKEN)
def add_a_space(_home: Home, log: Editor) -> int:
    log.replace_in(5, b'"call":', b'"call": ')
    return 5


@case(*BROKEN)
def add_a_space_before_the_line_ends(_home: Home, log: Editor) -> int:
    log.put(5, log.get(5)[:-1] + b" \n")
    return 5


@case(*BROKEN)
def add_a_byte_order_mark(_home: Home, log: Editor) -> int:
    log.put(0, b"\xef\xbb\xbf" + log.get(0))
    return 0


@case(*BROKEN)
def end_a_line_in_crlf(_home: Home, log: Editor) -> int:
    log.put(5, log.get(5)[:-1] + b"\r\n")
    return 5


@case(*BROKEN)
def end_every_line_in_crlf(_home: Home, log: Editor) -> int:
    for seq in range(len(log.lines())):
        log.put(seq, log.get(seq)[:-1] + b"\r\n")
    return 0


@case(*BROKEN)
def insert_an_empty_line(_home: Home, log: Editor) -> int:
    log.insert(5, b"\n")
    return 5


@case(*BROKEN)
def write_a_number_otherwise(_home: Home, log: Editor) -> int:
    seq = log.find("call.end", 1)
    log.replace_in(seq, b'"exit_status":1', b'"exit_status":1.0')
    return seq


@case(*BROKEN)
def escape_a_letter(_home: Home, log: Editor) -> int:
    seq = log.find("call.start", 1)
    log.replace_in(seq, b"make", b"m\\u0061ke")
    return seq


@case(*BROKEN)
def write_bytes_that_are_not_utf8(_home: Home, log: Editor) -> int:
    seq = log.find("call.start", 1)
    log.replace_in(seq, b"make", b"m\xc0\xafe")
    return seq


@case(*BROKEN)
def add_a_member_to_the_line(_home: Home, log: Editor) -> int:
    log.put(5, log.get(5)[:-2] + b',"x":1}\n')
    return 5


@case(*BROKEN)
def add_a_member_to_the_body(_home: Home, log: Editor) -> int:
    log.change(5, lambda body: body.update(zzz=1))
    return 5


@case(*BROKEN)
def change_a_state(_home: Home, log: Editor) -> int:
    seq = log.find("segment.end", 0)
    log.change(seq, lambda body: body["data"]["state"].update(tree=["ab" * 32] * seq.bit_count()))
    return seq


@case(*SHORT)
def cut_the_tail_at_a_record(_home: Home, log: Editor) -> None:
    del log.segments[-1][-1]


@case(*SHORT)
def cut_the_tail_in_a_record(_home: Home, log: Editor) -> None:
    log.segments[-1][-1] = log.segments[-1][-1][:-30]


@case(*SHORT)
def cut_the_last_line_feed(_home: Home, log: Editor) -> None:
    log.segments[-1][-1] = log.segments[-1][-1][:-1]


@case(*SHORT)
def cut_the_tail_at_a_session(_home: Home, log: Editor) -> None:
    start = log.find("session.start", 2)
    while len(log.lines()) > start:
        if log.segments[-1]:
            log.segments[-1].pop()
        else:
            (log.audit / log.names.pop()).unlink()
            log.segments.pop()


@case(*SHORT)
def remove_the_last_segment(home: Home, log: Editor) -> None:
    (home.audit / log.names.pop()).unlink()
    log.segments.pop()


@case(*SHORT)
def empty_the_last_segment(_home: Home, log: Editor) -> None:
    log.segments[-1] = []


@case(*GAP)
def remove_a_segment_in_the_middle(home: Home, log: Editor) -> None:
    (home.audit / log.names.pop(1)).unlink()
    log.segments.pop(1)


@case(*GAP)
def empty_a_segment_in_the_middle(_home: Home, log: Editor) -> None:
    log.segments[1] = []


@case(*GAP)
def cut_the_end_of_a_segment_in_the_middle(_home: Home, log: Editor) -> None:
    del log.segments[1][-2:]


@case(*BROKEN)
def tear_the_end_of_a_segment_in_the_middle(_home: Home, log: Editor) -> int:
    seq = len(log.segments[0]) + len(log.segments[1]) - 1
    log.segments[1][-1] = log.segments[1][-1][:-30]
    return seq


@case(*GONE)
def remove_the_first_segment(home: Home, log: Editor) -> None:
    (home.audit / log.names.pop(0)).unlink()
    log.segments.pop(0)


@case(*BROKEN)
def exchange_two_segments(_home: Home, log: Editor) -> int:
    log.segments[0], log.segments[1] = log.segments[1], log.segments[0]
    return 0


@case(*GAP)
def add_a_copy_of_a_segment(home: Home, log: Editor) -> None:
    shutil.copy(home.audit / log.names[1], home.audit / "0000000000000003.jsonl")


@case(*GONE)
def empty_every_segment(_home: Home, log: Editor) -> None:
    log.segments = [[] for _ in log.segments]


@case(*GONE)
def remove_every_segment(home: Home, log: Editor) -> None:
    for name in log.names:
        (home.audit / name).unlink()
    log.names, log.segments = [], []


@case(*GONE)
def remove_the_directory(home: Home, log: Editor) -> None:
    shutil.rmtree(home.audit)
    log.names, log.segments = [], []


@case(OK, FAILED, FAILED)
def put_a_fresh_log_in_its_place(home: Home, log: Editor) -> None:
    other = Home(home.path.parent / "other")
    other.write_history()
    replace_tree(other.audit, home.audit)
    log.names, log.segments = [], []


@case(*SHORT)
def put_an_older_copy_back(home: Home, log: Editor) -> None:
    copy_tree(home.audit, home.path / "copy")
    with home.open() as newer, newer.session({}) as session:
        fill(session, 3, "later")
    replace_tree(home.path / "copy", home.audit)
    log.names, log.segments = [], []


@case(*SHORT)
def fork_after_a_copy(home: Home, log: Editor) -> None:
    """The copy goes on by its key file, for longer than the log, and takes its place."""
    copy = Home(home.path.parent / "copy")
    copy_tree(home.path, copy.path)
    with home.open() as mine, mine.session({}) as session:
        fill(session, 3, "mine")
    # Without the keychain's head there, and with the directory's own removed, it opens.
    (copy.audit / "keys" / "head").unlink()
    with copy.open() as forked, forked.session({}) as session:
        fill(session, 9, "forked")
    replace_tree(copy.audit, home.audit)
    log.names, log.segments = [], []


@case(*BROKEN)
def use_the_stolen_keychain_key_on_the_past(home: Home, log: Editor) -> int:
    """The key of today signs a session in the place of an old one."""
    stolen = stolen_key(home)
    seq = log.find("session.start", 1)
    parsed = record.parse(log.get(seq))
    log.put(seq, record.build_line(parsed.body, stolen.sign(parsed.signed)))
    return seq


@case(*BROKEN)
def insert_a_session_of_the_stolen_key(home: Home, log: Editor) -> int:
    stolen, mine = stolen_key(home), SigningKey()
    seq = log.find("session.start", 1)
    body = json.loads(log.get(seq))["body"]
    body["session"] = "ab" * 8
    body["data"]["key"] = base64.b64encode(mine.public).decode()
    place = record.Place(seq, body["prev"], "ab" * 8, body["time"])
    log.insert(seq, forged("session.start", body["data"], place, stolen))
    log.rechain({"ab" * 8: stolen})
    return seq


@case(*SHORT)
def rewrite_the_end_by_the_stolen_key(home: Home, log: Editor) -> None:
    """Where the last session ended the stolen key does fit; the keychain remembers otherwise."""
    keys = (home.audit / "keys" / "ratchet").read_bytes()
    stolen = dict(home.backend.entries)
    with home.open() as more, more.session({}) as session:
        fill(session, 2, "to be forgotten")
    remembered = home.backend.entries
    log.save()
    for path in set(home.audit.glob("0*.jsonl")) - {home.audit / name for name in log.names}:
        path.unlink()
    (home.audit / "keys" / "ratchet").write_bytes(keys)
    (home.audit / "keys" / "head").unlink()
    home.backend.entries = {key: text for key, text in stolen.items() if "head" not in key[1]}
    with home.open() as forger, forger.session({}) as session:
        fill(session, 9, "forged")
    home.backend.entries = remembered
    log.read()


@case(*BROKEN)
def write_after_the_session_ended(home: Home, log: Editor) -> int:
    with home.open() as open_log:
        session = open_log.session({})
        session.close()
    log.read()
    last = log.lines()[-1]
    late = forged(
        "guard", {"action": "x", "path": "y"}, place_after(last, session.name), session.key
    )
    log.segments[-1].append(late)
    return len(log.lines()) - 1


@case(*BROKEN)
def rewrite_by_a_stolen_session_key(home: Home, log: Editor) -> int:
    """A session's own key signs its record anew; what another session wrote after holds it."""
    with home.open() as open_log:
        stolen, other = open_log.session({}), open_log.session({})
        fill(stolen, 1, "bad")
        fill(other, 1, "after")
        other.close()
        stolen.close()
    log.read()
    seq = log.find("call.start", -2)
    log.replace_in(seq, b"make", b"fake")
    parsed = record.parse(log.get(seq))
    log.put(seq, record.build_line(parsed.body, stolen.key.sign(parsed.signed)))
    return seq + 1


@case(*BROKEN)
def number_a_record_otherwise(home: Home, log: Editor) -> int:
    """Right in all but its seq, and signed by the session's own key."""
    with home.open() as open_log:
        stolen = open_log.session({})
        log.read()
        place = place_after(log.lines()[-1], stolen.name)._replace(seq=10**6)
        stolen.close()
    log.segments[-1].append(forged("guard", {"path": "y"}, place, stolen.key))
    return place_after(log.lines()[-2], stolen.name).seq


@case(*BROKEN)
def use_a_session_twice(_home: Home, log: Editor) -> int:
    seq = log.find("session.start", 2)
    first = record.glimpse(log.get(log.find("session.start", 0))).session
    log.change(seq, lambda body: body.update(session=first))
    return seq


@case(*BROKEN)
def write_after_a_segment_ended(_home: Home, log: Editor) -> int:
    moved = log.segments[1].pop(0)
    log.segments[0].append(moved)
    return record.glimpse(moved).seq


@case(OK, FAILED, OK)
def make_the_head_file_longer(home: Home, _log: Editor) -> None:
    path = home.audit / "keys" / "head"
    head = json.loads(path.read_bytes())
    head["size"] += 5
    path.write_text(json.dumps(head))


@case(OK, OK, OK)
def remove_the_head_file(home: Home, _log: Editor) -> None:
    """The keychain's is the one that counts."""
    (home.audit / "keys" / "head").unlink()


def stolen_key(home: Home) -> SigningKey:
    secrets = home.backend.stored("ratchet")["secrets"]
    assert isinstance(secrets, list)
    assert len(secrets) == 1, "used keys are erased"
    return SigningKey(base64.b64decode(secrets[0]))


def prune_half(home: Home, log: Editor) -> None:
    cut = record.glimpse(log.segments[1][-1]).time
    with home.open() as open_log, open_log.session({}) as session:
        now_ns = 4_000_000_000 * 10**9
        open_log.clock = lambda: now_ns
        pruned = prune(open_log, session, keep_days=1)
        assert pruned.records
        assert cut
    log.read()


@case(OK, OK, OK)
def prune_as_one_should(home: Home, log: Editor) -> None:
    prune_half(home, log)


@case(*GONE)
def remove_what_vouches_for_the_pruned(home: Home, log: Editor) -> None:
    prune_half(home, log)
    (home.audit / "pruned.jsonl").unlink()


@case(FAILED, UNCHECKED, UNCHECKED)
def change_what_vouches_for_the_pruned(home: Home, log: Editor) -> int:
    prune_half(home, log)
    path = home.audit / "pruned.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"client":"codex"', b'"client":"other"'))
    return 0


@case(FAILED, UNCHECKED, UNCHECKED)
def take_a_session_out_of_the_pruned(home: Home, log: Editor) -> int:
    prune_half(home, log)
    path = home.audit / "pruned.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    return 0


@case(*BROKEN)
def make_up_a_pruning(home: Home, log: Editor) -> int:
    """Remove the first segment and write a prune record for it, with a key of one's own."""
    first = log.segments.pop(0)
    (home.audit / log.names.pop(0)).unlink()
    starts = [line for line in first if record.glimpse(line).kind == "session.start"]
    state = json.loads(first[-1])["body"]["data"]["state"]
    session = record.glimpse(starts[0]).session
    following = record.glimpse(log.get(0))
    boundary = {"hash": following.prev, "seq": following.seq, "state": state}
    frontier = record.parse_state(state, following.seq - 1).frontier
    frontier.append(bytes.fromhex(following.prev))
    boundary["state"]["tree"] = [peak.hex() for peak in frontier.peaks]
    data: dict[str, object] = {"boundary": boundary, "sessions": [session]}
    place = place_after(log.lines()[-1], session)
    line = forged("prune", data, place, SigningKey())
    (home.audit / "pruned.jsonl").write_bytes(b"".join([first[0], *starts, line]))
    log.segments[-1].append(line)
    return place.seq


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 35


@pytest.mark.claim("audit.tamper-evident")
@pytest.mark.parametrize(("act", "expected"), CASES, ids=[act.__name__ for act, _ in CASES])
def test_tampering_shows(home: Home, act: Case, expected: tuple[str, str, str]) -> None:
    log = Editor(home.audit)
    first_bad = act(home, log)
    log.save()
    report = check(home)
    assert verdicts(report) == expected, report
    if expected[0] == FAILED:
        assert report.bad is not None
        assert report.bad.seq == first_bad
        assert report.size == first_bad, "the last good record is the one before"


def test_without_signatures_a_recomputed_log_passes_and_says_so(home: Home) -> None:
    log = Editor(home.audit)
    edit_and_recompute_every_hash(home, log)
    log.save()
    report = verify.verify(str(home.path), home.keychain, signatures=False)
    # The chain is whole, so only what is remembered elsewhere shows it.
    assert verdicts(report) == (OK, FAILED, FAILED) or verdicts(report) == (OK, FAILED, UNCHECKED)
