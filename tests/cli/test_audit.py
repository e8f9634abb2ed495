"""`nono audit`: what it prints and the status it exits with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nono_mcp.audit import record
from nono_mcp.audit.log import AuditLog
from nono_mcp.cli import audit
from tests.audit import authority


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log without keychain, in the state directory that is looked for."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    # No bus: this machine has no keychain, whatever it has.
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/nobody")
    path = tmp_path / "nono"
    with AuditLog.open(str(path), None) as log, log.session({"client": "test"}) as session:
        for number in range(5):
            call = {"call": f"c{number}", "tool": "run", "decision": "allow"}
            session.append("call.start", {**call, "argv": ["make", "\x1b[31mred"]})
            session.append("denial", {"code": "N1", "target": f"/etc/{number}"})
        session.append(
            "call.end", {"call": "c0", "outcome": "exit", "output": session.commit(b"output")}
        )
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = audit.main(list(argv))
    out, err = capsys.readouterr()
    return status, out, err


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, object]]:
    status, out, _ = run(capsys, *argv, "--json")
    value = json.loads(out)
    assert isinstance(value, dict)
    return status, value


def test_tail_shows_the_last_records(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "tail", "-n", "4")
    assert status == 0
    assert len(out.splitlines()) == 4
    assert "session.end" in out.splitlines()[-1]
    status, out, _ = run(capsys, "tail", "--decision", "deny", "--state-dir", str(state))
    assert len(out.splitlines()) == 5
    status, value = as_json(capsys, "tail", "-n", "2", "--tool", "run")
    assert [r["kind"] for r in value["records"]] == ["call.start"] * 2  # type: ignore[attr-defined]


def test_nothing_reaches_the_terminal_raw(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert state.exists()
    for argv in (["tail"], ["show", "2"], ["export"], ["export", "--format", "otlp"]):
        _, out, _ = run(capsys, *argv)
        assert "\x1b" not in out
        assert "[31mred" in out


def test_verify_says_ok_and_what_it_rests_on(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert state.exists()
    status, out, _ = run(capsys, "verify")
    assert status == 0
    assert out.startswith("integrity:    ok")
    assert "only a file beside the log" in out
    status, value = as_json(capsys, "verify")
    assert (status, value["ok"]) == (0, True)
    assert run(capsys, "verify", "--no-signatures")[0] == 0
    assert run(capsys, "verify", "--root", "ab" * 32)[0] == 1


def test_verify_fails_and_names_the_record(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state / "audit" / "0000000000000000.jsonl"
    path.write_bytes(path.read_bytes().replace(b"/etc/2", b"/etc/9"))
    status, out, _ = run(capsys, "verify")
    assert status == 1
    assert "first bad:    record 7, 0000000000000000.jsonl:8" in out
    assert "last good:    record 6" in out
    status, value = as_json(capsys, "verify")
    assert (status, value["ok"]) == (1, False)
    assert value["bad"]["seq"] == 7  # type: ignore[index]


def test_verify_with_nothing_to_compare_with_is_not_ok(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "audit" / "keys" / "head").unlink()
    status, out, _ = run(capsys, "verify")
    assert status == 3
    assert "completeness: unchecked" in out


def test_an_anchor_holds_the_log_to_what_it_was(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    assert run(capsys, "anchor", "-o", str(checkpoint))[0] == 0
    status, out, _ = run(capsys, "anchor")
    assert checkpoint.read_text() == out
    assert "+" in run(capsys, "anchor", "--key")[1]
    assert run(capsys, "verify", "--anchor", str(checkpoint))[0] == 0
    path = state / "audit" / "0000000000000000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    (state / "audit" / "keys" / "head").unlink()
    status, out, _ = run(capsys, "verify", "--anchor", str(checkpoint))
    assert status == 1
    assert "anchor remembers" in out
    checkpoint.write_bytes(b"nonsense")
    assert run(capsys, "verify", "--anchor", str(checkpoint))[0] == 1


def test_a_copy_is_verified_by_what_is_given(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(capsys, "anchor", "-o", str(tmp_path / "checkpoint"))
    root = as_json(capsys, "verify")[1]["root"]
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (state / "audit").glob("*.jsonl"):
        (copy / path.name).write_bytes(path.read_bytes())
    given = ["--directory", str(copy), "--root", str(root)]
    assert run(capsys, "verify", *given)[0] == 3
    assert run(capsys, "verify", *given, "--anchor", str(tmp_path / "checkpoint"))[0] == 0


def test_a_proof_is_checked_by_the_key_alone(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    proven = str(tmp_path / "r")
    key = run(capsys, "anchor", "--key")[1].strip()
    assert run(capsys, "prove", "3", "-o", proven)[0] == 0
    shutil.rmtree(state)
    status, out, _ = run(capsys, "check", proven, "--key", key)
    assert status == 0
    assert "denial" in out
    assert as_json(capsys, "check", proven, "--key", key)[1]["seq"] == 3
    for wrong in (key[:-4] + "AAA=", key.replace("+", "-"), key.replace("nono-audit/", ""), ""):
        assert run(capsys, "check", proven, "--key", wrong)[0] == 1
    line = Path(proven).read_bytes()
    Path(proven).write_bytes(line.replace(b"/etc/", b"/usr/"))
    assert run(capsys, "check", proven, "--key", key)[0] == 1


def test_a_witness_is_told_what_follows_from_what_it_has_seen(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert state.exists()
    status, out, _ = run(capsys, "anchor", "--since", "5")
    assert status == 0
    assert out.startswith("old 5\n")
    assert "\n\nnono-audit/" in out
    assert run(capsys, "anchor", "--since", "999")[0] == 1


def test_show_prove_stats_export(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert state.exists()
    status, value = as_json(capsys, "show", "3")
    assert value["record"]["kind"] == "denial"  # type: ignore[index]
    assert run(capsys, "show", "999")[0] == 1
    assert run(capsys, "prove", "3", "-o", str(tmp_path / "r"))[0] == 0
    assert record.parse((tmp_path / "r").read_bytes()).seq == 3
    assert (tmp_path / "r.tlog-proof").read_text().startswith("c2sp.org/tlog-proof@v1\nindex 3\n")
    status, out, _ = run(capsys, "stats")
    assert "14 records" in out
    assert as_json(capsys, "stats")[1]["kinds"]["denial"] == 5  # type: ignore[index]
    status, out, _ = run(capsys, "export", "--kind", "denial")
    assert [json.loads(line)["data"]["target"] for line in out.splitlines()] == [
        f"/etc/{number}" for number in range(5)
    ]
    assert run(capsys, "prune")[1] == "removed 0 records, 0 bytes\n"
    assert as_json(capsys, "prune")[1] == {
        "ok": True,
        "records": 0,
        "segments": [],
        "size_bytes": 0,
    }
    assert "checkpoint" in as_json(capsys, "anchor")[1]
    assert "proof" in as_json(capsys, "prove", "2")[1]
    assert status == 0


def test_a_value_can_be_shown_to_be_the_recorded_one(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert state.exists()
    (tmp_path / "value").write_bytes(b"output")
    status, value = as_json(capsys, "show", "12", "--check-value", str(tmp_path / "value"))
    assert (status, value["opened"]) == (0, ["/output"])
    (tmp_path / "value").write_bytes(b"other")
    assert run(capsys, "show", "12", "--check-value", str(tmp_path / "value"))[0] == 1


def test_no_log_is_an_error_and_begins_none(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert state.exists()
    for argv in (["tail"], ["stats"], ["anchor"], ["prove", "1"], ["prune"], ["export"]):
        status, _, err = run(capsys, *argv, "--state-dir", str(tmp_path / "none"))
        assert status == 1
        assert "no log in" in err
    assert run(capsys, "verify", "--state-dir", str(tmp_path / "none"))[0] == 3
    assert not (tmp_path / "none").exists()


def test_a_lost_log_is_restarted_by_a_person(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "audit" / "0000000000000000.jsonl").unlink()
    status, _, err = run(capsys, "anchor")
    assert status == 1
    assert "nono audit restart" in err
    assert run(capsys, "restart", "--reason", "I removed it")[0] == 0
    assert run(capsys, "verify")[0] == 0


@pytest.mark.parametrize(
    "argv",
    [[], ["nonsense"], ["tail", "-n", "0"], ["tail", "-n", "x"], ["show", "-1"], ["show", "x"],
     ["tail", "--decision", "maybe"], ["export", "--format", "xml"], ["restart"]],
)  # fmt: skip
def test_wrong_usage_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        audit.main(argv)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_follow_goes_on_as_records_come(state: Path) -> None:
    code = "import sys; from nono_mcp.cli import audit; sys.exit(audit.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "tail", "-n", "1", "-f", "--state-dir", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as follower:
        assert follower.stdout is not None
        assert "session.end" in follower.stdout.readline()
        with AuditLog.open(str(state), None) as log, log.session({"client": "late"}):
            pass
        assert "session.start" in follower.stdout.readline()
        assert "session.end" in follower.stdout.readline()
        follower.terminate()


def test_an_authority_stamps_a_checkpoint_and_its_stamp_is_checked(
    state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert state.exists()
    checkpoint, other = tmp_path / "checkpoint", tmp_path / "other"
    for place in (tmp_path / "tsa", tmp_path / "elsewhere"):
        place.mkdir()
    with authority.served(tmp_path / "tsa") as url:
        status, _, err = run(capsys, "anchor", "-o", str(checkpoint), "--time-stamp", url)
        assert (status, err) == (0, "")
        assert run(capsys, "anchor", "--time-stamp", url)[0] == 1
    roots = str(tmp_path / "tsa" / "ca.pem")
    given = ["verify", "--anchor", str(checkpoint), "--tsa-ca"]
    status, out, err = run(capsys, *given, roots)
    assert status == 0, err
    assert f"time stamp:   {checkpoint} was there at 20" in out
    stamps = as_json(capsys, *given, roots)[1]["time_stamps"]
    assert isinstance(stamps, list)
    assert len(stamps) == 1
    with authority.served(tmp_path / "elsewhere"):
        assert run(capsys, *given, str(tmp_path / "elsewhere" / "ca.pem"))[0] == 1
    # The stamp of another checkpoint, cut, changed, refused, or none at all.
    stamp = Path(f"{checkpoint}.tsr").read_bytes()
    run(capsys, "prune")
    assert run(capsys, "anchor", "-o", str(other))[0] == 0
    for text in (stamp, stamp[:-30], stamp[:-1] + b"\xff", b"0\x03\x02\x01\x02", b""):
        Path(f"{other}.tsr").write_bytes(text)
        assert run(capsys, "verify", "--anchor", str(other), "--tsa-ca", roots)[0] == 1
    assert run(capsys, "verify", "--tsa-ca", roots)[0] == 1
    refused = "http://127.0.0.1:9/"
    assert run(capsys, "anchor", "-o", str(other), "--time-stamp", refused)[0] == 1
    assert run(capsys, "anchor", "-o", str(other), "--time-stamp", "file:///etc/passwd")[0] == 1
