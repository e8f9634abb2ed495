"""`nono run --audit`: what it leaves in the log, and what it refuses for the log's sake."""

import shutil
from pathlib import Path

import pytest

from nono_mcp.audit import verify
from nono_mcp.audit.reading import Filters, tail
from nono_mcp.audit.record import Record
from nono_sandbox.confinement import NAMESPACES

from .conftest import Person

pytestmark = pytest.mark.linux


def state(person: Person) -> Path:
    return person.home / ".local" / "state" / "nono"


def records(person: Person, kind: str) -> list[Record]:
    return list(tail(str(state(person)), Filters(kind=kind), 100).records)


@pytest.mark.claim("audit.runs-recorded")
def test_a_run_is_recorded_before_and_after(person: Person, tier: str) -> None:
    options = ["--audit", "--allow-cwd", "--tier", tier, "-q"]
    done = person.nono("run", *options, "--", "sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "")
    (policy,) = records(person, "policy")
    start, end = records(person, "call")
    assert (start.data["tool"], start.data["argv"]) == ("run", ["sh", "-c", "echo out; exit 3"])
    assert start.data["tier"] == policy.data["tier"] == tier
    assert start.data["policy_sha256"] == policy.data["sha256"]
    assert (end.data["outcome"], end.data["exit_status"]) == ("exit", 3)
    killed = person.nono("run", *options, "--timeout", "1", "--", "sleep", "60")
    assert killed.returncode == 124
    assert records(person, "call.end")[-1].data["outcome"] == "timeout"
    verify.verify(str(state(person)), None).require()


@pytest.mark.claim("audit.runs-recorded")
def test_a_run_that_cannot_be_recorded_is_not_made(person: Person, tier: str) -> None:
    options = ["--audit", "--allow-cwd", "--tier", tier]
    assert person.nono("run", *options, "--", "true").returncode == 0
    for path in (state(person) / "audit").glob("0*.jsonl"):
        path.unlink()
    done = person.nono("run", *options, "--", "touch", "ran")
    assert done.returncode == 126
    assert done.stderr.startswith("REFUSED the run can't be recorded: the log is gone")
    assert not (person.workspace / "ran").exists()


def test_without_being_asked_a_run_begins_no_log(person: Person, tier: str) -> None:
    assert person.nono("run", "--allow-cwd", "--tier", tier, "--", "true").returncode == 0
    assert not (state(person) / "audit").exists()


@pytest.mark.claim("audit.runs-recorded")
@pytest.mark.parametrize(
    ("options", "policy", "tools"),
    [
        ((), "[audit]\nruns = true\n", ["run"]),
        (("--allow-domain", "a.test"), "", ["run"]),
        (("--allow-domain", "a.test"), "[audit]\nruns = false\n", []),
        (("--audit",), "[audit]\nruns = false\n", ["run"]),
    ],
    ids=["by-policy", "with-a-way-out", "not-by-policy", "by-flag"],
)
def test_which_runs_are_recorded(
    person: Person, options: tuple[str, ...], policy: str, tools: list[str]
) -> None:
    profile = person.home / "profile.toml"
    profile.write_text(policy)
    done = person.nono("run", "-q", "--profile", str(profile), *options, "--", "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert (state(person) / "audit").exists() == bool(tools)
    if tools:
        assert [one.data["tool"] for one in records(person, "call.start")] == tools


@pytest.mark.claim("audit.out-of-reach")
def test_the_log_and_its_keys_are_out_of_a_programs_reach(person: Person, tier: str) -> None:
    """Under a grant of the whole home: masked in the first tier, refused in the second."""
    options = ["--audit", "--allow", str(person.home), "--tier", tier, "--unsafe-broad-workspace"]
    audit = state(person) / "audit"
    assert person.nono("run", "--audit", "--tier", tier, "--", "true").returncode == 0
    before = {path.name: path.read_bytes() for path in audit.rglob("*") if path.is_file()}
    assert {"ratchet", "head", "note"} <= before.keys()
    script = f"""
        cd {person.home} && echo in-home
        cat {audit}/*.jsonl {audit}/keys/* && echo read
        ls {audit}/keys && echo listed
        for file in {audit}/0*.jsonl {audit}/keys/ratchet; do echo x >> $file && echo wrote; done
        echo x > {audit}/keys/head && echo wrote
        rm {audit}/0*.jsonl && echo removed
        mv {audit} {audit}.old && echo moved
        mv {person.home}/.local/state {person.home}/state && echo moved
        ln -s /tmp {audit}/link && echo linked
        exit 0
    """
    done = person.nono("run", *options, "--", "sh", "-c", script)
    said = {"in-home"} if tier == NAMESPACES or done.returncode == 0 else set()
    assert set(done.stdout.split()) == said, done.stdout
    after = {path.name: path.read_bytes() for path in audit.rglob("*") if path.is_file()}
    for name, text in before.items():
        assert after[name].startswith(text) or name in {"head", "ratchet"}
    verify.verify(str(state(person)), None).require()


@pytest.mark.claim("audit.out-of-reach")
def test_what_a_program_leaves_for_the_log_to_follow_is_refused(
    person: Person, tmp_path: Path
) -> None:
    """A link where the log's directory should be, as whoever restores a home might leave it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    state(person).mkdir(parents=True, mode=0o700)
    (state(person) / "audit").symlink_to(elsewhere)
    done = person.nono("run", "--audit", "--", "true")
    assert done.returncode == 126
    assert "symlink" in done.stderr
    assert list(elsewhere.iterdir()) == []
    shutil.rmtree(elsewhere)
