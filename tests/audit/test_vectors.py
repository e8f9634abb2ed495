"""Two verifiers that share no code, the vectors, and the recipe that FORMAT.md prints."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nono_mcp import audit
from nono_mcp.audit import notes, verify
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.prove import anchor
from nono_mcp.audit.walk import Reference
from tests.audit import authority
from tests.audit.adversary import Editor, Home, fill
from tests.audit.test_tampering import CASES, Case

ROOM = Path(audit.__file__).parent
VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "audit").iterdir())


def load_standalone() -> ModuleType:
    spec = importlib.util.spec_from_file_location("standalone_copy", ROOM / "standalone.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


standalone = load_standalone()


def expectations(vector: Path) -> dict[str, str]:
    lines = (vector / "expect").read_text().splitlines()
    return {key: value for key, _, value in (line.partition(": ") for line in lines)}


def statuses(report: dict[str, Any]) -> list[str]:
    return [report[name][0] for name in ("integrity", "completeness", "trust")]


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 20


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector(vector: Path) -> None:
    expect = expectations(vector)
    size, _, last = expect["head"].partition(" ")
    reference = Reference("vector", int(size), hash=last)
    report = verify.verify_files(str(vector / "log"), root=expect["root"], references=[reference])
    assert report.integrity.status == expect["integrity"]
    assert report.completeness.status == expect["completeness"]
    assert report.trust.status == expect["trust"]
    assert report.size == int(expect["size"])
    assert str(report.bad.seq if report.bad else "") == expect.get("bad", "")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_the_standalone_verifier_agrees_on_the_vector(vector: Path) -> None:
    expect = expectations(vector)
    size, _, last = expect["head"].partition(" ")
    report = standalone.verify(vector / "log", root=expect["root"], heads=[(int(size), last)])
    assert statuses(report) == [expect["integrity"], expect["completeness"], expect["trust"]]
    assert report["size"] == int(expect["size"])


@pytest.mark.parametrize(("act", "expected"), CASES, ids=[act.__name__ for act, _ in CASES])
def test_the_standalone_verifier_agrees_on_tampering(
    tmp_path: Path, act: Case, expected: tuple[str, str, str]
) -> None:
    home = Home(tmp_path / "state")
    home.write_history()
    log = Editor(home.audit)
    act(home, log)
    log.save()
    heads = [home.backend.stored("head")]
    beside = home.audit / "keys" / "head"
    if beside.exists():
        heads.append(json.loads(beside.read_bytes()))
    report = standalone.verify(
        home.audit,
        root=heads[0]["root"],
        heads=[(head["size"], head["hash"]) for head in heads],
    )
    assert statuses(report) == list(expected), report


def run_copy(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    copy = tmp_path / "elsewhere.py"
    shutil.copy(ROOM / "standalone.py", copy)
    # Isolated and without site-packages: what isn't in the file or the standard library fails.
    command = [sys.executable, "-I", "-S", str(copy), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_copy_of_it_runs_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    home.write_history()
    checkpoint = tmp_path / "checkpoint"
    with home.open() as log:
        checkpoint.write_bytes(anchor(log))
        root = log.root
    arguments = [str(home.audit), "--root", root, "--anchor", str(checkpoint)]
    done = run_copy(tmp_path, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert statuses(json.loads(done.stdout)) == ["ok", "ok", "ok"]
    assert run_copy(tmp_path, str(home.audit)).returncode == 3
    log_files = Editor(home.audit)
    del log_files.segments[-1][-1]
    log_files.save()
    done = run_copy(tmp_path, *arguments)
    assert done.returncode == 1
    assert "completeness: failed" in done.stdout


@pytest.mark.parametrize("forger", ["another key", "another log", "another root", "unsigned"])
def test_an_anchor_that_is_not_the_logs_own_is_refused(tmp_path: Path, forger: str) -> None:
    home = Home(tmp_path / "state")
    home.write_history()
    with home.open() as log:
        note = anchor(log)
        log_id, root = log.log_id, log.root
    held = notes.parse_checkpoint(note)
    key = SigningKey()
    if forger == "another log":
        log_id = "ab" * 16
    tree_root = bytes(32) if forger == "another root" else held.root
    forged = notes.sign_checkpoint(log_id, held.size, tree_root, key.public, key.sign)
    if forger == "unsigned":
        forged = note[:-13] + b"AAAAAAAAAAA=\n"
    path = tmp_path / "forged"
    path.write_bytes(forged)
    report = verify.verify_files(str(home.audit), root=root, anchors=[forged])
    assert report.completeness.status == "failed"
    assert "anchor" in report.completeness.reason
    other = standalone.verify(home.audit, root=root, anchors=[path])
    assert statuses(other) == ["ok", "failed", "ok"]


def recipe(number: int) -> str:
    scripts = re.findall(r"```sh\n(.*?)```", (ROOM / "FORMAT.md").read_text(), re.DOTALL)
    return str(scripts[number])


def test_the_recipe_by_hand(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    home.write_history()
    log = Editor(home.audit)
    env = {"LOG": str(home.audit / log.names[0]), "PATH": os.environ["PATH"], "LC_ALL": "C"}
    command = ["/bin/sh", "-euc", recipe(0)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    root = home.backend.stored("head")["root"]
    assert done.stdout.splitlines() == [
        f"root {root}",
        "chain ok",
        "Signature Verified Successfully",
    ]
    log.replace_in(0, b'"keystores"', b'"keystorez"')
    log.save()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert "Verified Successfully" not in done.stdout
    assert done.returncode


def test_the_recipe_for_time_stamps(tmp_path: Path) -> None:
    """A time-stamping authority of the test's own, by openssl."""
    home = Home(tmp_path / "state")
    home.write_history()
    checkpoint = tmp_path / "checkpoint"
    with home.open() as log:
        checkpoint.write_bytes(anchor(log))
    reply = (
        'openssl ts -reply -config tsa.cnf -queryfile "$CHECKPOINT.tsq" -signer ca.pem '
        '-inkey key.pem -out "$CHECKPOINT.tsr" 2>/dev/null\n'
    )
    query, check = recipe(1).strip().splitlines()
    script = f"{authority.script(tmp_path)}\n{query}\n{reply}\n{check}"
    env = {
        "PATH": os.environ["PATH"],
        "CHECKPOINT": str(checkpoint),
        "TSA_CA": str(tmp_path / "ca.pem"),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Verification: OK" in done.stdout, done.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("log") / "state")
    with home.open() as log, log.session({}) as session:
        log.segment_bytes_max = 2500
        fill(session, 2, "a")
    return home


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_two_verifiers_agree_on_any_damage(written: Home, data: st.DataObject) -> None:
    head = written.backend.stored("head")
    path = written.audit / data.draw(st.sampled_from(Editor(written.audit).names))
    text = path.read_bytes()
    at, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    end = data.draw(st.sampled_from([at, min(at + 1, len(text)), end]))
    pieces = st.binary(max_size=3) | st.sampled_from([b"\n", b"\r\n", b" ", b"0", text[:at]])
    path.write_bytes(text[:at] + data.draw(pieces) + text[end:])
    reference = Reference("x", int(str(head["size"])), hash=str(head["hash"]))
    try:
        one = verify.verify_files(
            str(written.audit), root=str(head["root"]), references=[reference]
        )
        two = standalone.verify(
            written.audit, root=head["root"], heads=[(reference.size, reference.hash)]
        )
    finally:
        path.write_bytes(text)
    ours = [one.integrity.status, one.completeness.status, one.trust.status]
    assert statuses(two) == ours, (one, two)
    assert two["size"] == one.size
