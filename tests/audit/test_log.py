"""Appending: what must hold when processes die, disks fill and keychains are locked."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nono_mcp.audit import files, ratchet, record, syncing, verify
from nono_mcp.audit import heads as heads_module
from nono_mcp.audit import session as session_module
from nono_mcp.audit.create import restart
from nono_mcp.audit.end import AuditTamperedError, AuditWriteError
from nono_mcp.audit.files import AuditPathError
from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.walk import Report
from tests.audit.adversary import Editor, Home, copy_tree, fill, replace_tree

CALL = {"call": "c1", "tool": "run", "decision": "allow"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


def verified(home: Home) -> Report:
    report = verify.verify(str(home.path), home.keychain)
    report.require()
    return report


def kinds(home: Home) -> list[str]:
    return [record.glimpse(line).kind for line in Editor(home.audit).lines()]


def test_what_is_appended_is_in_the_log_before_append_returns(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        receipt = session.append("call.start", CALL)
        line = Editor(home.audit).lines()[receipt.seq]
    assert b'"call":"c1"' in line
    assert verified(home).size == 4


def test_a_record_that_lacks_what_its_kind_needs_is_refused(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        with pytest.raises(ValueError, match="'decision' is missing"):
            session.append("call.start", {"call": "c1", "tool": "run"})
        with pytest.raises(ValueError, match="not one of"):
            session.append("call.start", {**CALL, "decision": "perhaps"})
        with pytest.raises(TypeError, match="type int"):
            session.append("call.start", {**CALL, "call": 1})
        with pytest.raises(ValueError, match="no such kind"):
            session.append("log.create", {})
        with pytest.raises(TypeError, match="no place"):
            session.append("call.start", {**CALL, "x": object()})
    assert verified(home).size == 3


@pytest.mark.parametrize("cut", [1, 50, 300])
def test_a_torn_tail_is_set_aside_and_recorded(home: Home, cut: int) -> None:
    home.write_history()
    log_files = Editor(home.audit)
    torn = log_files.lines()[-1][:-cut]
    last = home.audit / log_files.names[-1]
    with last.open("ab") as file:
        file.write(torn)
    with home.open() as log, log.session({}) as session:
        # Whether it says anything or is killed before.
        assert kinds(home)[-2:] == ["session.start", "recovery"]
        session.append("call.start", CALL)
    assert kinds(home)[-4:] == ["session.start", "recovery", "call.start", "session.end"]
    data = record.parse(Editor(home.audit).lines()[-3]).data
    aside = home.audit / "torn" / str(data["sha256"])
    assert aside.read_bytes() == torn
    assert data["bytes"] == len(torn)
    verified(home)


def test_a_tail_of_zeros_is_a_torn_tail(home: Home) -> None:
    """What a file system may leave after a loss of power."""
    home.write_history()
    name = Editor(home.audit).names[-1]
    with (home.audit / name).open("ab") as file:
        file.write(bytes(700))
    verified(home)
    with home.open() as log, log.session({}):
        pass
    verified(home)


def test_another_process_torn_write_is_recovered_by_the_next_append(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        session.append("call.start", CALL)
        with (home.audit / Editor(home.audit).names[-1]).open("ab") as file:
            file.write(b'{"body":{"data')
        session.append("call.end", {"call": "c1", "outcome": "exit"})
    assert verified(home).size == 6


@pytest.mark.parametrize("created", [False, True])
def test_a_writer_that_dies_between_two_segments_does_no_harm(
    home: Home, *, created: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def die(_: object) -> None:
        raise KilledError

    with home.open() as log:
        session = log.session({})
        with monkeypatch.context() as patch:
            patch.setattr("nono_mcp.audit.end.End._open_next", die)
            with pytest.raises(KilledError):
                fill(session, 50, "a")
        size = len(Editor(home.audit).lines())
        if created:
            (home.audit / f"{size:016d}.jsonl").touch(0o600)
        assert verify.verify(str(home.path), home.keychain).integrity.status == "ok"
        with home.open() as other, other.session({}) as second:
            fill(second, 3, "b")
        fill(session, 3, "c")
        session.close()
    assert verified(home).size > size


def test_a_full_disk_refuses_and_leaves_no_trace(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        session.append("call.start", CALL)
        size = (home.audit / Editor(home.audit).names[-1]).stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The kernel writes what fits and then refuses: as on a full disk.
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            with pytest.raises(AuditWriteError, match="can't be written"):
                session.append("call.start", CALL)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, old)
        assert (home.audit / Editor(home.audit).names[-1]).stat().st_size == size
        session.append("call.start", CALL)
    verified(home)


def test_a_locked_keychain_at_start_is_declared_and_no_alarm(home: Home) -> None:
    home.write_history()
    home.backend.locked = True
    with home.open() as log, log.session({}) as session:
        session.append("call.start", CALL)
    locked = verify.verify(str(home.path), home.keychain)
    assert locked.integrity.status == "ok"
    assert locked.completeness.status == "unchecked"
    home.backend.locked = False
    report = verified(home)
    assert any("introduced by the key file" in warning for warning in report.warnings)
    with home.open() as log, log.session({}):
        pass
    starts = [line for line in Editor(home.audit).lines() if b'"kind":"session.start"' in line]
    assert b'"ratchet":"keyring"' in starts[-1]
    verified(home)


def test_a_keychain_that_is_not_asked_leaves_two_verdicts_open(home: Home) -> None:
    home.write_history()
    for keychain in (None, Home(home.path).keychain):
        report = verify.verify(str(home.path), keychain)
        assert report.integrity.status == "ok"
        assert report.completeness.status == report.trust.status == "unchecked"
        assert verify.verify(str(home.path), keychain, root=report.root).trust.status == "ok"


def test_a_lock_that_is_never_let_go_refuses(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0.05)
    with home.open() as log, log.session({}) as session:
        fd = os.open(home.audit, os.O_RDONLY)
        with files.locked(fd), pytest.raises(AuditWriteError, match="another process"):
            session.append("call.start", CALL)
        os.close(fd)
        session.append("call.start", CALL)
    verified(home)


@pytest.mark.linux
def test_a_stopped_holder_of_the_lock_is_named_and_not_waited_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_WAIT_S", 3600.0)
    with home.open() as log, log.session({}) as session:
        code = (
            "import fcntl, os, signal, sys; fd = os.open(sys.argv[1], os.O_RDONLY);"
            "fcntl.flock(fd, fcntl.LOCK_EX); os.kill(os.getpid(), signal.SIGSTOP)"
        )
        holder = subprocess.Popen([sys.executable, "-I", "-S", "-c", code, str(home.audit)])
        try:
            os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
            with pytest.raises(AuditWriteError, match=f"process {holder.pid} .* is stopped"):
                session.append("call.start", CALL)
        finally:
            holder.kill()
            holder.wait()
        session.append("call.start", CALL)
    verified(home)


def test_a_log_without_keychain_says_so(home: Home) -> None:
    with AuditLog.open(str(home.path), None) as log, log.session({}):
        pass
    first = record.parse(Editor(home.audit).lines()[0]).data
    assert first["keystores"] == {"file": "0600 file beside the log"}
    report = verify.verify(str(home.path), None)
    report.require()
    assert "only a file beside the log" in report.warnings[0]


def test_a_keychain_locked_at_the_very_beginning_is_named_in_the_first_record(home: Home) -> None:
    home.backend.locked = True
    with home.open() as log, log.session({}):
        pass
    first = record.parse(Editor(home.audit).lines()[0]).data
    assert first["ratchets"].keys() == {"file"}  # type: ignore[attr-defined]
    assert "KeyringLocked" in str(first["keystores"])


@pytest.mark.parametrize("kill", ["begin", "put", "finish"])
def test_dying_in_a_turn_of_the_ratchet_loses_no_key(
    home: Home, kill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def die(*_: object) -> None:
        raise KilledError

    target = {"begin": "nono_mcp.audit.log.AuditLog._put", "put": "nono_mcp.audit.files.durable",
              "finish": "nono_mcp.audit.ratchet.finish"}[kill]  # fmt: skip
    home.write_history()
    log = home.open()
    with monkeypatch.context() as patch:
        patch.setattr(target, die)
        with pytest.raises(KilledError):
            log.session({})
    with home.open() as after, after.session({}) as session:
        session.append("call.start", CALL)
    log.close()
    assert b'"fallback"' not in b"".join(Editor(home.audit).lines())
    verified(home)


def test_used_keys_are_erased(home: Home) -> None:
    home.write_history()
    secrets = home.backend.stored("ratchet")["secrets"]
    assert isinstance(secrets, list)
    assert len(secrets) == 1


def test_a_lost_log_is_not_replaced_silently(home: Home) -> None:
    home.write_history()
    for path in home.audit.glob("*.jsonl"):
        path.unlink()
    with pytest.raises(AuditTamperedError, match="the log is gone"):
        home.open()
    restart(str(home.path), home.keychain, "the disk was lost")
    with home.open() as log, log.session({}):
        pass
    after = record.parse(Editor(home.audit).lines()[0]).data["after"]
    assert isinstance(after, dict)
    assert after["reason"] == "the disk was lost"
    assert after["size"] > 40
    verified(home)


def test_a_writer_of_a_log_that_was_set_aside_does_no_harm_to_the_new_one(home: Home) -> None:
    with home.open() as old:
        session = old.session({})
        aside = restart(str(home.path), home.keychain, "a person wanted to")
        with home.open() as log, log.session({}):
            pass
        session.append("call.start", CALL)
        session.close()
    assert old.heads.failure is not None
    verified(home)
    assert verify.verify_files(aside).integrity.status == "ok"


def test_a_log_that_was_cut_is_not_written_on(home: Home) -> None:
    home.write_history()
    log_files = Editor(home.audit)
    del log_files.segments[-1][-2:]
    log_files.save()
    with pytest.raises(AuditTamperedError, match="2 records are missing"):
        home.open()


def test_a_log_that_differs_from_what_is_remembered_is_not_written_on(home: Home) -> None:
    """As long as it was or longer, but forked before."""
    copy = Home(home.path.parent / "copy")
    home.write_history()
    copy_tree(home.path, copy.path)
    (copy.audit / "keys" / "head").unlink()
    with home.open() as log, log.session({}) as session:
        fill(session, 3, "mine")
    with copy.open() as log, log.session({}) as session:
        fill(session, 9, "forked")
    replace_tree(copy.audit, home.audit)
    (home.audit / "keys" / "head").unlink()
    with pytest.raises(AuditTamperedError, match="isn't the one that test keychain remembers"):
        home.open()


def test_a_log_of_another_beginning_is_not_written_on(home: Home) -> None:
    home.write_history()
    other = Home(home.path.parent / "other")
    other.write_history()
    replace_tree(other.audit, home.audit)
    (home.audit / "keys" / "head").unlink()
    with pytest.raises(AuditTamperedError, match="isn't the log that test keychain remembers"):
        home.open()


def test_a_log_cut_while_it_is_open_refuses_the_next_append(home: Home) -> None:
    with home.open() as log:
        session = log.session({})
        session.append("call.start", CALL)
        path = home.audit / Editor(home.audit).names[-1]
        whole = path.read_bytes()
        os.truncate(path, len(whole) - 20)
        with pytest.raises(AuditTamperedError, match="shorter"):
            session.append("call.start", CALL)
        path.unlink()
        with pytest.raises(AuditTamperedError, match="removed"):
            session.append("call.start", CALL)
        path.write_bytes(whole)
        with pytest.raises(AuditWriteError):
            log.close()


@pytest.mark.parametrize("what", ["mode", "symlink", "file mode", "hard link", "fifo"])
def test_a_directory_that_is_not_safely_ours_is_refused(home: Home, what: str) -> None:
    home.write_history()
    segment = home.audit / Editor(home.audit).names[-1]
    if what == "mode":
        home.audit.chmod(0o755)
    elif what == "symlink":
        home.audit.rename(home.path / "real")
        home.audit.symlink_to(home.path / "real")
    elif what == "file mode":
        segment.chmod(0o644)
    elif what == "hard link":
        (home.path / "other").hardlink_to(segment)
    else:
        segment.unlink()
        os.mkfifo(segment, 0o600)
    with pytest.raises(AuditPathError):
        home.open()


def test_a_directory_of_another_user_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_history()
    if os.geteuid() == 0:
        os.chown(home.audit, 65534, 65534)
    else:
        # Only root can give a directory away; anybody else becomes somebody else.
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(AuditPathError, match="belongs to uid"):
        home.open()


def test_files_and_directories_are_for_their_owner_alone(home: Home) -> None:
    home.write_history()
    for path in home.path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_forked_copy_of_a_writer_cannot_write(home: Home) -> None:
    with home.open() as log:
        session = log.session({})
        child = os.fork()
        if child == 0:
            try:
                session.append("call.start", CALL)
            except AuditWriteError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        session.close()
    verified(home)


def test_threads_share_a_log_and_an_fsync(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    durable, last = files.durable, 161

    def counting(fd: int) -> None:
        deadline = time.monotonic() + 60
        # Whoever comes while this one is on its way shares the next.
        while log._sync._asked < last and time.monotonic() < deadline:  # noqa: SLF001 - as above
            time.sleep(0.001)
        synced.append(fd)
        durable(fd)

    def write() -> None:
        for number in range(20):
            session.append("call.start", CALL, sync=number == 19)

    with home.open() as log, log.session({}) as session:
        log.segment_bytes_max = 10**9
        with monkeypatch.context() as patched:
            patched.setattr(syncing, "files", SimpleNamespace(durable=counting))
            threads = [threading.Thread(target=write) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(synced) in (1, 2)
    assert verified(home).size == last + 2


def test_flooding_pushes_nothing_out(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        log.segment_bytes_max = 200_000
        first = session.append("denial", {"code": "N1", "target": "/etc/shadow"})
        for number in range(3000):
            session.append("limit", {"limit": "output", "value": number})
    assert b"/etc/shadow" in Editor(home.audit).lines()[first.seq]
    assert verified(home).size > 3000


def test_the_head_is_told_while_a_session_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "HEAD_LAG_S", 0.01)
    told = threading.Event()
    put = home.backend.set_password

    def watching(service: str, username: str, password: str) -> None:
        put(service, username, password)
        if username.startswith("head:") and '"size": 3' in password:
            told.set()

    monkeypatch.setattr(home.backend, "set_password", watching)
    with home.open() as log:
        session = log.session({})
        session.append("call.start", CALL)
        assert told.wait(20)
        session.close()


def test_a_huge_record_becomes_commitments_and_is_never_lost(home: Home) -> None:
    with home.open() as log, log.session({}) as session:
        session.append("call.start", {**CALL, "argv": ["x" * 100_000] * 60})
        session.append("call.start", {**CALL, "command": "y" * 10_000_000})
    lines = Editor(home.audit).lines()
    assert b"too_large" in lines[2]
    assert b"$commit" in lines[2]
    assert b'"head":"yyyy' in lines[-2]
    verified(home)


def test_what_even_its_commitments_are_too_long_for_is_not_written(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "DATA_BYTES_MAX", 1000)
    much = {"code": "files", "target": ["x" * 100] * 11}
    with home.open() as log, log.session({}) as session:
        with pytest.raises(AuditWriteError, match="too many for a record"):
            session.append("denial", much)
        session.append("call.start", {**CALL, "argv": much["target"]})
    assert b"too_large" in Editor(home.audit).lines()[2]
    assert verified(home).size == 4


def test_a_session_that_was_closed_says_nothing_more(home: Home) -> None:
    with home.open() as log:
        session = log.session({})
        session.close()
        with pytest.raises(AuditWriteError, match="has ended"):
            session.append("call.start", CALL)
    assert verified(home).size == 3


def test_what_a_key_signed_is_on_the_disk_before_it_is_erased_and_a_head_before_it_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a loss of power leaves a log that asks for a key that's gone, or looks cut."""
    durable, finish, write_head = files.durable, ratchet.finish, heads_module.write_head
    sizes: list[int] = []

    def noted(fd: int) -> None:
        durable(fd)
        sizes.append(os.fstat(fd).st_size)

    def size() -> int:
        return sum(len(line) for line in Editor(home.audit).lines())

    def finished(*arguments: Any) -> None:  # noqa: ANN401 - passed on
        assert sizes[-1] == size()
        sizes.clear()
        finish(*arguments)

    def told(*arguments: Any) -> None:  # noqa: ANN401 - passed on
        assert size() in sizes
        write_head(*arguments)

    with home.open() as log:
        monkeypatch.setattr(files, "durable", noted)
        monkeypatch.setattr(ratchet, "finish", finished)
        monkeypatch.setattr(heads_module, "write_head", told)
        log.session({}).close()
    assert verified(home).size == 3


WRITER = """
import sys, os
from pathlib import Path
from tests.audit.adversary import Home, fill
home = Home(Path(sys.argv[1]))
from nono_mcp.audit.log import AuditLog
log = AuditLog.open(sys.argv[1], None)
log.segment_bytes_max = 20000
session = log.session({"pid": os.getpid()})
print("ready", flush=True)
number = 0
while number < int(sys.argv[2]):
    fill(session, 1, str(number))
    number += 1
session.close()
log.close()
"""


def spawn(home: Home, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home.path), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.slow
def test_chaos_eight_writers_killed_at_random_leave_a_log_that_verifies(home: Home) -> None:
    """Three rounds; half of the writers are killed at whatever they are doing."""
    for round_number in range(3):
        writers = [spawn(home, 10**9 if number % 2 else 25) for number in range(8)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        # While all of them write: no false alarm.
        verify.verify(str(home.path), None, signatures=False).require(trust=False)
        for number, writer in enumerate(writers):
            if number % 2:
                writer.send_signal(signal.SIGKILL)
        for number, writer in enumerate(writers):
            with writer:
                assert writer.wait(120) == (-signal.SIGKILL if number % 2 else 0)
        report = verify.verify(str(home.path), None)
        report.require()
        starts = sum(b'"kind":"session.start"' in line for line in Editor(home.audit).lines())
        assert starts == 8 * (round_number + 1)


def test_two_open_logs_interleave(home: Home) -> None:
    with home.open() as one, home.open() as two:
        first, second = one.session({}), two.session({})
        for number in range(30):
            fill(first, 1, f"a{number}")
            fill(second, 1, f"b{number}")
        second.close()
        first.close()
    assert len(Editor(home.audit).names) > 3
    verified(home)
