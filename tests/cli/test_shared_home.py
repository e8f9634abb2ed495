"""A run whose private home another of the workspace shares, which hasn't got its grant."""

from __future__ import annotations

import json

import pytest

from nono_mcp.policy.errors import quoted
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from tests.cli.conftest import LONG_ENOUGH_S, Person, eventually

pytestmark = [
    pytest.mark.linux,
    pytest.mark.claim("fs.own-home-shared"),
    pytest.mark.parametrize("tier", [NAMESPACES], indirect=True),
]


@pytest.mark.usefixtures("tier")
def test_a_run_that_another_led_astray_says_so_and_fails(person: Person) -> None:
    docs = person.home / "a" / "docs"
    docs.mkdir(parents=True)
    homes = person.home / ".local/state/nono/homes"
    write = f"until [ -e stop ]; do echo x >> '{docs}/written'; done 2>&-"
    run = ("run", "--json", "--allow-cwd", "--allow", str(docs), "--", "sh", "-c")
    with person.start(*run, write) as victim:
        assert eventually((docs / "written").exists)
        assert person.nono("run", "--", "sh", "-c", "mv ~/a ~/b; mkdir -p ~/a/docs").returncode == 0
        assert eventually(lambda: victim.poll() is not None or bool(list(homes.rglob("written"))))
        (person.workspace / "stop").touch()
        _, told = victim.communicate(timeout=LONG_ENOUGH_S)
    report = json.loads(told.splitlines()[-1])
    assert victim.returncode == 125
    assert (report["ok"], report["status"], report["limit"]) == (False, 125, "grant-moved")
    (docs / "written").unlink()
    (person.workspace / "stop").unlink()
    before = list(homes.rglob("written"))
    again = person.nono(*run, f"echo x >> '{docs}/written'")
    assert again.returncode == 0
    assert (docs / "written").read_text() == "x\n"
    assert list(homes.rglob("written")) == before


@pytest.mark.usefixtures("tier")
def test_a_run_that_was_led_astray_says_where_its_writes_may_lie(person: Person) -> None:
    docs = person.home / "docs"
    docs.mkdir()
    waits = f"touch '{docs}/written'; sleep {LONG_ENOUGH_S}"
    run = ("run", "--allow-cwd", "--allow", str(docs), "--", "sh", "-c")
    with person.start(*run, waits) as victim:
        assert eventually((docs / "written").exists)
        assert person.nono("run", "--", "rmdir", str(docs)).returncode == 0
        _, told = victim.communicate(timeout=LONG_ENOUGH_S)
    assert victim.returncode == 125
    (line,) = told.splitlines()
    assert line.startswith("nono: ended: what leads to a grant beneath the home was moved")
    assert f"{quoted(str(docs))} may lie in " in line
    assert f"{person.home}/.local/state/nono/homes/" in line


def test_a_run_in_the_one_tier_leads_none_in_the_other_astray(person: Person, tier: str) -> None:
    docs = person.home / "docs"
    docs.mkdir()
    for number, each in enumerate((tier, LANDLOCK, tier)):
        run = ("run", "--tier", each, "--allow", str(docs), "--", "sh", "-c")
        assert person.nono(*run, f"echo x > ~/docs/{number}").returncode == 0
    assert {path.name for path in docs.iterdir()} == {"0", "1", "2"}
