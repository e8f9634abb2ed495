"""Snapshots and rollbacks at the command line, as a person has them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Person

pytestmark = pytest.mark.linux


def answer(person: Person, *words: str, status: int = 0) -> dict[str, Any]:
    finished = person.nono(*words, "--json")
    assert finished.returncode == status, (finished.stdout, finished.stderr)
    document: dict[str, Any] = json.loads(finished.stdout)
    assert document["ok"] is (status == 0)
    return document


def furnish(person: Person) -> None:
    (person.workspace / "src").mkdir()
    (person.workspace / "src" / "a.c").write_text("int a;\n")
    (person.workspace / "README").write_text("read me\n")


def harm(person: Person) -> None:
    (person.workspace / "src" / "a.c").write_text("int b;\n")
    (person.workspace / "README").unlink()
    (person.workspace / "planted").write_text("new\n")


def test_what_came_and_went_is_not_the_last_change(person: Person) -> None:
    furnish(person)
    person.nono("snapshot", "create", "good")
    (person.workspace / "README").unlink()
    person.nono("snapshot", "create", "bad")
    (person.workspace / ".README.swp").touch()
    (person.workspace / ".README.swp").unlink()
    assert person.nono("rollback", "-y").returncode == 0
    assert (person.workspace / "README").read_text() == "read me\n"


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else ""
        for path in root.rglob("*")
    }


def test_what_was_kept_is_listed_shown_and_compared(person: Person) -> None:
    furnish(person)
    made = answer(person, "snapshot", "create", "before the upgrade")["snapshot"]
    harm(person)
    listed = answer(person, "snapshot", "list")["snapshots"]
    assert [one["id"] for one in listed] == [made["id"]]
    assert (made["reason"], made["name"]) == ("named", "before the upgrade")
    shown = person.nono("snapshot", "show", "before the upgrade")
    assert f"root {made['root']}" in shown.stdout
    diff = answer(person, "snapshot", "diff", "before the upgrade")
    assert (diff["added"], diff["modified"], diff["deleted"]) == (1, 1, 1)
    text = person.nono("snapshot", "diff", "before the upgrade", "--path", "src/a.c")
    assert "-int a;" in text.stdout
    assert "+int b;" in text.stdout
    # `latest` is what was there before the look itself.
    assert "no difference" in person.nono("snapshot", "diff", "latest").stdout
    (person.workspace / "src" / "a.c").write_text("int c;\n")
    later = person.nono("snapshot", "diff", "latest", "--path", "src/a.c")
    assert "+int c;" in later.stdout


@pytest.mark.claim("undo.exact")
def test_a_rollback_by_name_and_its_undo(person: Person) -> None:
    furnish(person)
    before = contents(person.workspace)
    person.nono("snapshot", "create", "good")
    harm(person)
    harmed = contents(person.workspace)
    planned = answer(person, "rollback", "good", "--dry-run")
    assert contents(person.workspace) == harmed
    assert planned["difference"]["deleted"] == 1
    done = answer(person, "rollback", "good", "--yes")
    assert contents(person.workspace) == before
    assert (done["restored_count"], done["removed_count"], done["verified"]) == (2, 1, True)
    answer(person, "rollback", done["safety"]["id"], "--yes")
    assert contents(person.workspace) == harmed


def test_without_an_id_it_is_the_last_change_that_goes(person: Person) -> None:
    furnish(person)
    before = contents(person.workspace)
    person.nono("snapshot", "create")
    harm(person)
    person.nono("snapshot", "create")
    finished = person.nono("rollback", "-y")
    assert finished.returncode == 0, finished.stderr
    assert "verified" in finished.stdout
    assert contents(person.workspace) == before


def test_only_the_paths_that_were_named(person: Person) -> None:
    furnish(person)
    person.nono("snapshot", "create", "good")
    harm(person)
    assert person.nono("rollback", "good", "-y", "--paths", "*.c").returncode == 0
    assert (person.workspace / "src" / "a.c").read_text() == "int a;\n"
    assert not (person.workspace / "README").exists()


def test_nothing_is_put_back_without_a_yes(person: Person) -> None:
    furnish(person)
    person.nono("snapshot", "create", "good")
    harm(person)
    harmed = contents(person.workspace)
    finished = person.nono("rollback", "good")
    assert finished.returncode == 2
    assert "--yes" in finished.stderr
    assert contents(person.workspace) == harmed


def test_nothing_to_put_back_is_an_error(person: Person) -> None:
    furnish(person)
    person.nono("snapshot", "create", "good")
    finished = person.nono("rollback", "good", "--yes")
    assert finished.returncode == 1
    assert "nothing" in finished.stderr
    assert person.nono("rollback", "nowhere", "--yes").returncode == 1


@pytest.mark.parametrize(
    "words",
    [
        ("snapshot",),
        ("snapshot", "creat"),
        ("snapshot", "show"),
        ("snapshot", "list", "x"),
        ("snapshot", "list", "--limit", "0"),
        ("snapshot", "prune", "--quota", "many"),
        ("rollback", "a", "b"),
        ("rollback", "--scope", "all"),
        ("rollback", "--scope", "agent", "--paths", "x"),
    ],
)
def test_what_isnt_understood_does_nothing(person: Person, words: tuple[str, ...]) -> None:
    finished = person.nono(*words)
    assert finished.returncode == 2
    assert finished.stderr
    assert not (person.home / ".local" / "state" / "nono" / "snapshots").exists()


def test_a_home_isnt_kept_unless_it_is_meant(person: Person) -> None:
    finished = person.nono("snapshot", "create", "--workspace", str(person.home))
    assert finished.returncode == 126
    added = finished.stderr.partition("(add ")[2].partition(",")[0]
    allowed = person.nono("snapshot", "create", "--workspace", str(person.home), added)
    assert allowed.returncode == 0, allowed.stderr


def test_the_store_is_verified_thinned_and_measured(person: Person) -> None:
    furnish(person)
    made = answer(person, "snapshot", "create", "good")["snapshot"]
    used = answer(person, "snapshot", "usage")
    assert used["snapshots_count"] == 1
    assert used["workspaces"][0]["path"] == str(person.workspace)
    assert answer(person, "snapshot", "prune")["removed"] == []
    assert answer(person, "snapshot", "verify")["damage"] == []
    store = person.home / ".local" / "state" / "nono" / "snapshots"
    (pack, *_) = [path for path in store.rglob("*") if path.is_file() and "pack" in path.name]
    pack.write_bytes(bytes(len(pack.read_bytes())))
    damaged = answer(person, "snapshot", "verify", status=1)["damage"]
    assert damaged
    harm(person)
    refused = person.nono("rollback", made["id"], "--yes")
    assert refused.returncode == 1
    assert (person.workspace / "planted").exists()


def test_what_was_named_stays_until_it_is_deleted(person: Person) -> None:
    (person.workspace / "big").write_bytes(os.urandom(1 << 20))
    made = answer(person, "snapshot", "create", "big")["snapshot"]
    (person.workspace / "big").unlink()
    assert answer(person, "snapshot", "create", "good")["snapshot"]
    full = answer(person, "snapshot", "prune", "--quota", "500K", status=1)
    assert full["over_quota"]
    assert answer(person, "snapshot", "delete", "big")["deleted"] == made["id"]
    assert answer(person, "snapshot", "prune", "--quota", "500K")["freed_bytes"] > 1 << 20
    assert [one["name"] for one in answer(person, "snapshot", "list")["snapshots"]] == ["good"]
    records = answer(person, "audit", "tail")["records"]
    deleted = [one["data"] for one in records if one["data"].get("reason") == "deleted"]
    assert [one["id"] for one in deleted] == [made["id"]]
    assert person.nono("snapshot", "delete", "big").returncode == 1


def test_what_cant_be_recorded_isnt_deleted(person: Person) -> None:
    assert answer(person, "snapshot", "create", "good")["snapshot"]
    log = person.home / ".local/state/nono/audit"
    log.rename(log.with_name("away"))
    log.touch()
    refused = person.nono("snapshot", "delete", "good")
    assert (refused.returncode, "log can't be written" in refused.stderr) == (1, True)
    log.unlink()
    log.with_name("away").rename(log)
    assert [one["name"] for one in answer(person, "snapshot", "list")["snapshots"]] == ["good"]


@pytest.mark.claim("undo.recorded")
def test_a_rollback_stands_in_the_log(person: Person) -> None:
    furnish(person)
    made = answer(person, "snapshot", "create", "good")["snapshot"]
    harm(person)
    person.nono("rollback", "good", "-y")
    told = person.nono("audit", "tail", "--kind", "rollback", "--json").stdout
    assert made["root"] in told
    assert "verified" in told
    assert person.nono("audit", "verify", "--no-keychain").returncode in (0, 1)
