"""What whoever has the files, a copy of them or a full disk can do to a log, and who notices."""

import errno
import os
import threading
from pathlib import Path

import pytest

from nono_mcp.audit import ratchet, reading, verify
from nono_mcp.audit.end import AuditTamperedError
from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.prune import prune
from nono_mcp.audit.reading import Filters
from tests.audit.adversary import Backend, Editor, Home, copy_tree, fill


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


def test_who_has_the_files_alone_writes_on_at_the_end_and_is_seen(home: Home) -> None:
    """The keychain isn't in reach: the thief opens the log as if there were none."""
    home.write_history()
    with AuditLog.open(str(home.path), None) as log, log.session({"client": "thief"}) as session:
        fill(session, 2, "forged")
    report = verify.verify(str(home.path), home.keychain)
    report.require()
    assert any("1 sessions were introduced by the key file" in text for text in report.warnings)


def test_who_has_the_files_alone_and_says_nothing_of_the_keychain_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_history()
    size = len(Editor(home.audit).lines())
    with AuditLog.open(str(home.path), None) as log:
        monkeypatch.setattr(log, "_choose", lambda: (log.stores["file"], None))
        with log.session({"client": "thief"}) as session:
            fill(session, 2, "forged")
    report = verify.verify(str(home.path), home.keychain)
    assert report.integrity.status == "failed"
    assert report.bad is not None
    assert report.bad.seq == size


def test_a_copied_home_goes_on_elsewhere_as_what_it_is(home: Home) -> None:
    """Another machine: the files came along, the keychain didn't."""
    home.write_history()
    copy = Home(home.path.parent / "copy")
    copy_tree(home.path, copy.path)
    there = verify.verify(str(copy.path), copy.keychain)
    # It says whose word is missing; nobody is told that all is well, nor that it was tampered with.
    statuses = (there.integrity.status, there.completeness.status, there.trust.status)
    assert statuses == ("ok", "unchecked", "unchecked")
    with copy.open() as log, log.session({}) as session:
        fill(session, 3, "elsewhere")
    there = verify.verify(str(copy.path), copy.keychain)
    assert there.integrity.status == "ok"
    assert any("introduced by the key file" in text for text in there.warnings)
    with home.open() as log, log.session({}) as session:
        fill(session, 3, "here")
    verify.verify(str(home.path), home.keychain).require()
    # Back on the first machine, the copy isn't the log that its keychain remembers.
    back = verify.verify(str(copy.path), home.keychain)
    assert back.completeness.status == "failed"


def test_a_home_with_two_machines_keychains_is_told_apart(home: Home) -> None:
    """A home on a shared disk: each machine has a keychain of its own, one knows the log's key."""
    home.write_history()
    other = Home(home.path)
    other.backend = Backend()
    for _ in range(2):
        with other.open() as log, log.session({}) as session:
            fill(session, 1, "other machine")
        with home.open() as log, log.session({}) as session:
            fill(session, 1, "this machine")
    report = verify.verify(str(home.path), home.keychain)
    report.require()
    assert any("2 sessions were introduced by the key file" in text for text in report.warnings)


def test_the_ratchet_that_was_put_back_cannot_sign(home: Home) -> None:
    """A keychain restored from a backup: its key was used, so the file's is, and says so."""
    home.write_history()
    old = dict(home.backend.entries)
    with home.open() as log, log.session({}) as session:
        fill(session, 1, "a")
    old = {name: text for name, text in old.items() if name[1].startswith(ratchet.ENTRY)}
    home.backend.entries |= old
    with home.open() as log, log.session({}) as session:
        fill(session, 1, "b")
    report = verify.verify(str(home.path), home.keychain)
    report.require()
    assert any("isn't the one that this log asks for" in text for text in report.warnings)


class FullDisk:
    """Takes so many writes, half of the next one, and no more until it's emptied."""

    def __init__(self, writes: int) -> None:
        self._left = writes
        self._write = os.write
        self.full = False

    def write(self, fd: int, data: bytes) -> int:
        if self._left:
            self._left -= 1
            return self._write(fd, data)
        self.full = True
        if len(data) > 1:
            self._write(fd, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


def append_until_refused(home: Home, values: list[int]) -> None:
    with home.open() as log:
        log.segment_bytes_max = 2500
        with log.session({}) as session:
            for number in range(40):
                session.append("limit", {"limit": "output", "value": number, "text": "x" * 300})
                values.append(number)


@pytest.mark.parametrize("writes", range(26))
def test_a_disk_that_is_full_at_any_write_refuses_and_harms_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    disk = FullDisk(writes)
    values: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", disk.write)
        with pytest.raises((AuditError, OSError)):
            append_until_refused(home, values)
    assert disk.full
    with home.open() as log, log.session({}) as session:
        fill(session, 1, "after")
    report = verify.verify(str(home.path), home.keychain)
    report.require()
    kept = [r.data["value"] for r in reading.read_all(str(home.path), Filters(kind="limit"))]
    assert kept == values, "what was acknowledged, all of it, and nothing else"


def test_readers_raise_no_alarm_while_others_write_rotate_and_prune(home: Home) -> None:
    """Verification, pages and figures, each as often as it gets round to it."""
    home.write_history()
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with home.open() as log, log.session({}) as session:
                log.segment_bytes_max = 3000
                for number in range(60):
                    fill(session, 2, f"w{number}")
                    if number % 5 == 4:
                        prune(log, session, keep_days=-1)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    rounds = 0
    while not stop.is_set() or not rounds:
        report = verify.verify(str(home.path), home.keychain, signatures=False)
        # The head that was read may be of a record that was pruned since; that's no alarm.
        assert report.integrity.status == "ok", report
        assert report.completeness.status != "failed", report
        page = reading.tail(str(home.path), Filters(), 10)
        assert page.broken is None
        assert reading.stats(str(home.path)).records
        rounds += 1
    writer.join()
    assert not failures
    verify.verify(str(home.path), home.keychain).require()


def test_after_everything_that_can_be_was_pruned_the_log_is_still_remembered(home: Home) -> None:
    home.write_history()
    with home.open() as log:
        session = log.session({})
        log.heads.stop()
        fill(session, 60, "a")
        assert prune(log, session, keep_days=-1).records > 60
        # As after a kill: nothing more is told to the keychain.
        report = verify.verify(str(home.path), home.keychain)
        assert report.completeness.status == "ok", report
        session.close()


def test_a_writer_whose_log_was_swapped_under_it_stops(home: Home) -> None:
    home.write_history()
    with home.open() as log:
        session = log.session({})
        last = home.audit / Editor(home.audit).names[-1]
        last.write_bytes(last.read_bytes() + last.read_bytes().splitlines(keepends=True)[-1])
        with pytest.raises(AuditTamperedError):
            fill(session, 1, "a")
        with pytest.raises(AuditError):
            session.close()
        with pytest.raises(AuditError):
            log.close()
