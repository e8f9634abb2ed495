"""Reading: pages, filters, figures, proofs and exports; hostile strings can't act."""

import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from nono_mcp.audit import display, export, files, notes, prove, reading, record, verify
from nono_mcp.audit.end import AuditTamperedError
from nono_mcp.audit.keys import Checker
from nono_mcp.audit.merkle import verify_consistency
from nono_mcp.audit.prune import prune
from nono_mcp.audit.reading import Filters
from tests.audit.adversary import Editor, Home, fill, flip

HOSTILE = "\x1b]0;x\x07\x1b[2J\u202egnp.exe\x00\r\nFAKE denied\x9b31m\u2028\u200b\U000e0041"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "state")
    home.write_history()
    return home


def test_a_page_is_the_last_records_oldest_first(home: Home) -> None:
    page = reading.tail(str(home.path), Filters(), 5)
    last = len(Editor(home.audit).lines()) - 1
    assert [r.seq for r in page.records] == list(range(last - 4, last + 1))
    assert page.chained == (last - 4, last)
    assert page.broken is None


def test_pages_follow_each_other_to_the_beginning(home: Home) -> None:
    seen: list[int] = []
    cursor: int | None = None
    while True:
        page = reading.tail(str(home.path), Filters(), 7, cursor)
        seen = [r.seq for r in page.records] + seen
        if page.cursor is None:
            break
        cursor = page.cursor
    assert seen == list(range(len(Editor(home.audit).lines())))


def test_the_files_are_listed_and_opened_while_nobody_writes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one is removed in between, or half a line is read."""
    segments = files.segments
    found: list[str] = []

    def listed(dir_fd: int) -> list[str]:
        writer = os.open(home.audit, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(writer)
        found.extend(segments(dir_fd))
        return found

    monkeypatch.setattr(files, "segments", listed)
    assert reading.tail(str(home.path), Filters(), 5).broken is None
    assert found


def test_filters_choose(home: Home) -> None:
    def kinds(**wanted: str) -> set[str]:
        page = reading.tail(str(home.path), Filters(**wanted), 1000)
        assert page.records, wanted
        return {r.kind for r in page.records}

    assert kinds(tool="run") == {"call.start"}
    assert kinds(decision="allow") == {"call.start"}
    assert kinds(kind="session") == {"session.start", "session.end"}
    assert kinds(call="a1") == {"call.start", "call.end"}
    assert kinds(grep="MAKE A1") == {"call.start"}
    session = record.glimpse(Editor(home.audit).get(1)).session
    page = reading.tail(str(home.path), Filters(session=session[:6]), 1000)
    assert {r.session for r in page.records} == {session}
    assert not reading.tail(str(home.path), Filters(since="2999"), 10).records
    assert not reading.tail(str(home.path), Filters(decision="deny"), 10).records


def test_a_page_looks_at_so_many_records_and_says_where_to_go_on(home: Home) -> None:
    page = reading.tail(str(home.path), Filters(grep="no such thing"), 10, scan_max=8)
    last = len(Editor(home.audit).lines()) - 1
    assert page.records == ()
    assert page.cursor == last - 7


def test_a_page_says_where_the_chain_breaks(home: Home) -> None:
    log = Editor(home.audit)
    last = len(log.lines()) - 1
    log.put(last - 3, flip(log.get(last - 3), 40))
    log.save()
    page = reading.tail(str(home.path), Filters(), 50)
    assert page.broken == last - 2
    assert "WARNING" in reading.tail_text(str(home.path), Filters()).text


def test_the_text_for_a_model_is_bounded_and_says_how_far_it_was_checked(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        for number in range(40):
            session.append("denial", {"code": "N1", "target": f"/{number}/" + "x" * 5000})
    page = reading.tail_text(str(home.path), Filters(), limit=200)
    assert len(page.text) < 11_000
    assert "signatures not checked" in page.text
    assert page.cursor is not None
    older = reading.tail_text(str(home.path), Filters(), cursor=page.cursor, limit=3)
    first_shown = int(page.text.split(" ", 1)[0])
    assert f"\n{first_shown - 1} " in older.text


@pytest.mark.parametrize(
    ("cursor", "limit"), [("x", 5), ("-1", 5), ("\u0663", 5), (None, 0), (None, 201)]
)
def test_a_bad_cursor_or_limit_is_refused(home: Home, cursor: str | None, limit: int) -> None:
    with pytest.raises(ValueError, match=r"cursor|limit"):
        reading.tail_text(str(home.path), Filters(), cursor, limit)


def test_hostile_strings_reach_no_reader(home: Home) -> None:
    with home.open() as log, log.session({"client": HOSTILE}) as session:
        session.append("call.start", {"call": HOSTILE, "tool": HOSTILE, "decision": "allow",
                                      "argv": [HOSTILE], HOSTILE: HOSTILE})  # fmt: skip
    page = reading.tail(str(home.path), Filters(), 10)
    text = reading.tail_text(str(home.path), Filters()).text
    assert all(line.isprintable() for line in text.split("\n"))
    assert all(display.one_line(r).isprintable() for r in page.records)
    for form in export.FORMATS:
        for line in export.export(page.records, form):
            assert line.isascii()
            assert line.isprintable()
    assert "\\u202e" in text


def test_one_record_and_its_line(home: Home) -> None:
    shown = reading.show(str(home.path), 20)
    assert shown is not None
    assert shown.seq == 20
    assert reading.raw_line(str(home.path), 20) == Editor(home.audit).get(20)
    assert reading.show(str(home.path), 10**6) is None
    assert reading.show(str(home.path), -1) is None


def test_figures(home: Home) -> None:
    found = reading.stats(str(home.path))
    lines = Editor(home.audit).lines()
    assert found.records == len(lines)
    assert found.sessions == 3
    assert found.kinds["call.start"] == found.kinds["call.end"] == 28
    assert found.size_bytes == sum(map(len, lines))


def test_what_comes_after(home: Home) -> None:
    last = len(Editor(home.audit).lines()) - 1
    assert reading.since(str(home.path), Filters(), last).records == ()
    with home.open() as log, log.session({}) as session:
        fill(session, 1, "new")
    news = reading.since(str(home.path), Filters(kind="call"), last)
    assert [r.kind for r in news.records] == ["call.start", "call.end"]


def test_a_proof_shows_a_record_to_who_has_the_key_alone(home: Home) -> None:
    with home.open() as log:
        evidence = prove.prove(log, 12)
        vkey = prove.verifier_key(log)
        log_id = log.log_id
    key = json_key(home)
    found = prove.check_proof(evidence.line, evidence.proof, log_id, key)
    assert found.seq == 12
    name, key_id, _ = vkey.split("+", 2)
    assert name == f"nono-audit/{log_id}"
    assert bytes.fromhex(key_id) == notes.key_id(name, key)
    other = Editor(home.audit).get(13)
    with pytest.raises(notes.NoteError):
        prove.check_proof(other, evidence.proof, log_id, key)
    with pytest.raises(notes.NoteError):
        prove.check_proof(evidence.line, evidence.proof, "ab" * 16, key)


def json_key(home: Home) -> bytes:
    first = record.parse(Editor(home.audit).get(0)).data
    return record.base64_bytes(first["note"], 32)


def test_proofs_and_consistency_hold_after_pruning(home: Home) -> None:
    with home.open() as log:
        before = notes.parse_checkpoint(prove.anchor(log))
        with log.session({}) as session:
            log.clock = lambda: 4_000_000_000 * 10**9
            assert prune(log, session, keep_days=1).records
        with pytest.raises(LookupError):
            prove.prove(log, 3)
        held = reading.tail(str(home.path), Filters(), 3).records[0].seq
        evidence = prove.prove(log, held)
        request = prove.request(log, before.size)
    head, _, new = request.partition(b"\n\n")
    old, *hashes = head.decode().split("\n")
    after = notes.parse_checkpoint(new)
    assert old == f"old {before.size}"
    proof = [record.base64_bytes(line, 32) for line in hashes]
    assert verify_consistency(before.size, after.size, before.root, after.root, proof)
    found = notes.parse_proof(evidence.proof)
    first = (home.audit / "pruned.jsonl").read_bytes().splitlines(keepends=True)[0]
    key = record.base64_bytes(record.parse(first).data["note"], 32)
    notes.require_signed(found.checkpoint, log.log_id, key, Checker())


def test_pruning_forgets_salts_and_keeps_open_sessions(home: Home) -> None:
    salts = {path.name for path in (home.audit / "salts").iterdir()}
    with home.open() as log:
        running = log.session({"client": "still here"})
        fill(running, 12, "r")
        with log.session({}) as session:
            log.clock = lambda: 4_000_000_000 * 10**9
            prune(log, session, keep_days=1)
        fill(running, 20, "s")
        running.close()
    left = {path.name for path in (home.audit / "salts").iterdir()}
    assert running.name in left
    assert not salts & left, "ended before the boundary"
    with home.open() as log, log.session({}) as session:
        log.clock = lambda: 5_000_000_000 * 10**9
        assert prune(log, session, keep_days=1).records, "a second time"


def test_nothing_is_pruned_before_its_time_nor_what_does_not_verify(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        assert prune(log, session).records == 0
        first = home.audit / Editor(home.audit).names[0]
        text = first.read_bytes()
        first.write_bytes(text.replace(b"make a1", b"fake a1"))
        log.clock = lambda: 4_000_000_000 * 10**9
        with pytest.raises(AuditTamperedError, match="doesn't verify"):
            prune(log, session, keep_days=1)
        first.write_bytes(text)
    assert not (home.audit / "pruned.jsonl").exists()


def test_exports_name_what_proves_them(home: Home) -> None:
    records = list(reading.read_all(str(home.path), Filters(kind="call")))
    for form in export.FORMATS:
        lines = [json.loads(line) for line in export.export(records, form)]
        assert len(lines) == len(records)
    event = json.loads(next(export.export(records, "ocsf")))
    assert event["class_uid"] == 1007
    assert event["type_uid"] == 100701
    assert event["process"]["cmd_line"] == "sh -c make a0"
    assert event["metadata"]["sequence"] == records[0].seq
    logs = json.loads(next(export.export(records, "otlp")))["resourceLogs"][0]["scopeLogs"][0]
    entry = logs["logRecords"][0]
    names = {pair["key"]: pair["value"] for pair in entry["attributes"]}
    assert names["gen_ai.tool.name"] == {"stringValue": "run"}
    assert re.fullmatch("[0-9a-f]{32}", entry["traceId"])
    assert int(entry["timeUnixNano"]) > 10**18
    with pytest.raises(ValueError, match="no such format"):
        next(export.export(records, "xml"))


@pytest.mark.parametrize("step", ["put", "replace", "remove", "forget"])
def test_pruning_that_is_killed_leaves_a_log_that_verifies(
    home: Home, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def die(*_: object) -> None:
        raise KilledError

    unlink = os.unlink

    def unlink_one(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        raise KilledError

    targets = {
        "put": ("nono_mcp.audit.log.AuditLog.make_durable", die),
        "replace": ("nono_mcp.audit.files.replace_file", die),
        "remove": ("nono_mcp.audit.prune.os.unlink", unlink_one),
        "forget": ("nono_mcp.audit.prune._forget_salts", die),
    }
    with home.open() as log:
        session = log.session({})
        log.clock = lambda: 4_000_000_000 * 10**9
        with monkeypatch.context() as patch:
            patch.setattr(*targets[step])
            with pytest.raises(KilledError):
                prune(log, session, keep_days=1)
        verify.verify(str(home.path), home.keychain).require()
        # The next one finishes what that left.
        with log.session({}) as again:
            fill(again, 20, "more")
            assert prune(log, again, keep_days=-1).records
        session.close()
    assert (home.audit / "pruned.jsonl").exists()
    boundary = min(path.name for path in home.audit.glob("0*.jsonl"))
    assert int(boundary[:16]) > 0
    report = verify.verify(str(home.path), home.keychain)
    report.require()
    assert report.first == int(boundary[:16])
