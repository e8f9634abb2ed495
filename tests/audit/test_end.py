"""What a writer doesn't go on from: an end of the log that isn't where its own rules lead."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_mcp.audit import record
from nono_mcp.audit.end import AuditTamperedError
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.log import AuditLog
from tests.audit.adversary import Editor, Home, forged, place_after

CALL = {"call": "c1", "tool": "run", "decision": "allow"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


@pytest.fixture
def log(home: Home) -> Iterator[AuditLog]:
    log = home.open()
    yield log
    # Nor is it remembered at the end.
    with pytest.raises(AuditTamperedError, match="doesn't follow"):
        log.close()


def add(home: Home, *lines: bytes) -> None:
    with (home.audit / Editor(home.audit).names[-1]).open("ab") as file:
        file.write(b"".join(lines))


@pytest.mark.parametrize("wrong", ["prev", "seq"])
def test_what_somebody_appended_and_does_not_follow_is_not_followed(
    home: Home, log: AuditLog, wrong: str
) -> None:
    session = log.session({})
    place = place_after(Editor(home.audit).lines()[-1], session.name)
    place = place._replace(prev="ab" * 32) if wrong == "prev" else place._replace(seq=9)
    add(home, forged("guard", {}, place, SigningKey()))
    with pytest.raises(AuditTamperedError, match="doesn't follow"):
        session.append("call.start", CALL)


def test_nothing_follows_the_end_of_a_segment_in_its_file(home: Home, log: AuditLog) -> None:
    session = log.session({})
    place = place_after(Editor(home.audit).lines()[-1], session.name)
    ending: dict[str, object] = {
        "next": f"{place.seq + 1:016d}.jsonl",
        "state": {"ratchets": {}, "tree": []},
    }
    last = forged(record.SEGMENT_END, ending, place, SigningKey())
    add(home, last, forged("guard", {}, place_after(last, session.name), SigningKey()))
    with pytest.raises(AuditTamperedError, match="doesn't follow"):
        session.append("call.start", CALL)


def test_a_segment_behind_one_that_was_not_ended_is_not_passed_by(home: Home) -> None:
    home.write_history()
    (home.audit / f"{9999:016d}.jsonl").touch(0o600)
    with pytest.raises(AuditTamperedError, match="isn't ended, yet"):
        home.open()


def test_what_is_torn_and_not_the_last_stays_as_it_is(home: Home) -> None:
    """Nobody who was killed left that: it's for a person to look at, and not to be set aside."""
    home.write_history()
    torn = home.audit / Editor(home.audit).names[-1]
    add(home, b"torn")
    before = torn.read_bytes()
    (home.audit / f"{9999:016d}.jsonl").touch(0o600)
    with pytest.raises(AuditTamperedError, match="torn, and not the last"):
        home.open()
    assert torn.read_bytes() == before


@pytest.mark.parametrize("act", ["first segment gone", "first record torn"])
def test_a_log_without_its_beginning_is_none_to_begin_anew(home: Home, act: str) -> None:
    home.write_history()
    first = home.audit / f"{0:016d}.jsonl"
    if act == "first segment gone":
        first.unlink()
    else:
        os.truncate(first, 100)
    with pytest.raises(AuditTamperedError, match="beginning is missing"):
        home.open()


def test_a_log_that_is_only_looked_for_is_not_begun(home: Home) -> None:
    home.audit.mkdir(0o700, parents=True)
    home.path.chmod(0o700)
    with pytest.raises(FileNotFoundError, match="no log"):
        AuditLog.open(str(home.path), home.keychain, create=False)
    assert not list(home.audit.glob("*.jsonl"))
    home.write_history()
    for path in home.audit.glob("*.jsonl"):
        path.unlink()
    with pytest.raises(AuditTamperedError, match="the log is gone"):
        AuditLog.open(str(home.path), home.keychain, create=False)
