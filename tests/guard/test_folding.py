"""What is planted where names aren't told apart by case, and where they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import finding, names, spelling, ways
from nono_mcp.policy.errors import RefusedError
from nono_mcp.policy.resolve import resolve
from tests import folding
from tests.guard.conftest import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.linux,
    pytest.mark.claim("guard.put-right"),
    pytest.mark.claim("guard.beneath"),
]
EVIL = "printf '[core]\\nfsmonitor=evil\\n'"
HEAD = "echo ref: refs/heads/m"


@dataclass
class Folding(Bench):
    """One whose workspace doesn't tell names apart by case."""

    at: Path = Path()

    @property
    def workspace(self) -> Path:
        return self.at


@pytest.fixture(params=folding.DIRECTORIES)
def folds(request: pytest.FixtureRequest, tmp_path: Path, tier: str) -> Iterator[Folding]:
    (tmp_path / "home").mkdir()
    at = Path(tempfile.mkdtemp(prefix="work-", dir=request.param))
    yield Folding(tmp_path, tier, at=at)
    shutil.rmtree(at)


@contextmanager
def refused_where_spellings_are_names(path: Path) -> Iterator[None]:
    is_loose = resolve(str(path)).is_loose
    try:
        yield
    except RefusedError as error:
        assert is_loose
        assert "other spellings" in str(error)  # noqa: PT017 - elsewhere nothing is raised


SPELLED = {
    ".git": ".Git",
    ".vscode": ".V\u017fCode",
    ".Rprofile": ".rprofile",
    ".Renviron": ".Renviron",
    ".github": ".G\u200citHub",
    ".kiro": ".\u212airo",
    ".iflow": ".i\ufb02ow",
    "a B.code-workspace": "a B.Code-Work\u017fpace",
    "mise.Dev.toml": "MISE.Dev.TOML",
    "gro\u00df.code-workspace": "gro\u00df.code-workSPACE",
}
OTHERS = "Git READMe .gitx .VSCODE2 X\u00fc.Txt GIT~1 \u200c MISE.TOML2"


@pytest.mark.parametrize("guarded", SPELLED)
def test_a_name_is_guarded_by_all_that_folds_to_it(guarded: str) -> None:
    assert names.spelled(SPELLED[guarded]) == guarded
    assert names.spelled(guarded) == guarded


@pytest.mark.parametrize("name", OTHERS.split(" "))
def test_what_folds_to_no_guarded_name_is_itself(name: str) -> None:
    assert names.spelled(name) == name


def test_every_guarded_name_is_found_in_capitals() -> None:
    written = [name for each in names.TABLE.values() for name in each.split() if "*" not in name]
    assert [names.spelled(name.upper()) for name in (*written, *names.INNER)] == [
        *written,
        *names.INNER,
    ]
    assert names.spelled_inside(".hg", "HGRC") == "hgrc"


def test_where_names_are_told_apart_none_stands_for_another(tmp_path: Path) -> None:
    for name in (".ENVRC", ".npmrc", "x.CODE-WORKSPACE"):
        (tmp_path / name).touch()
    directory = os.open(tmp_path, ways.DIRECTORY)
    try:
        assert spelling.guarded(directory) == (".npmrc",)
    finally:
        os.close(directory)


def test_where_they_arent_what_is_planted_is_looked_at_by_its_guarded_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As such a directory would answer; what it finds is looked at by that name from then on."""
    monkeypatch.setattr(spelling, "is_one", lambda *_: True)
    for name in (".ENVRC", ".npmrc", "x.CODE-WORKSPACE", "READ"):
        (tmp_path / name).touch()
    for name in (".GIT", ".Hg", "SRC", "Objects", "REFS", "head"):
        (tmp_path / name).mkdir()
    directory = os.open(tmp_path, ways.DIRECTORY)
    level = finding.Level(("d",), directory)
    level.take_in()
    found = {(one.kind, one.name) for one in level.take_found()}
    seen = set(spelling.guarded(directory))
    level.close()
    assert seen == {".envrc", ".npmrc", "x.code-workspace", ".hg"}
    assert {name for kind, name in found if kind in (finding.NAME, finding.AROUND)} == seen
    assert {(finding.GIT, ""), (finding.BARE, "")} <= found
    assert {".git", ".GIT"}.isdisjoint(level.below)


@pytest.mark.parametrize("at", [".", "d"])
def test_what_is_another_name_where_names_are_told_apart_stays(bench: Bench, at: str) -> None:
    """And what is guarded within it is guarded."""
    script = f"mkdir -p {at} && cd {at} && echo 1 > .ENVRC && mkdir .GIT && {HEAD} > .GIT/HEAD"
    more = f"{EVIL} > .GIT/config && mkdir .GIT/.vscode && echo 1 > .GIT/.vscode/tasks.json"
    found = bench.run(f"{script} && {more}")
    lead = "" if at == "." else f"{at}/"
    assert found == [f"removed {lead}.GIT/.vscode"]
    assert (bench.workspace / at / ".GIT" / "config").exists()
    assert (bench.workspace / at / ".ENVRC").exists()


WAYS = {
    "d/.VSCODE/x": "d/.vscode/x",
    ".Git/CONFIG": ".git/config",
    ".GITHUB/Hooks": ".github/hooks",
    "SRC/x": "SRC/x",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_way_is_found_as_the_guard_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / way).parent.mkdir(parents=True)
    (tmp_path / way).touch()
    assert spelling.way_as_guarded(str(tmp_path), way.split("/")) == way.split("/")
    monkeypatch.setattr(spelling, "is_one", lambda *_: True)
    assert spelling.way_as_guarded(str(tmp_path), way.split("/")) == WAYS[way].split("/")


def test_the_name_of_another_hard_link_gives_up_no_guarded_one(tmp_path: Path) -> None:
    (tmp_path / ".envrc").touch()
    (tmp_path / ".ENVRC").hardlink_to(tmp_path / ".envrc")
    assert spelling.way_as_guarded(str(tmp_path), [".ENVRC"]) == [".ENVRC"]


@pytest.mark.folding
@pytest.mark.parametrize("top", [".", "d"])
@pytest.mark.parametrize("written", [".envrc", ".EnvRC", ".ENVRC"])
@pytest.mark.parametrize("given", [".envrc", ".EnvRC", ".ENVRC"])
def test_what_is_given_up_by_any_spelling_may_be_changed(
    folds: Folding, top: str, written: str, given: str
) -> None:
    mine = folds.workspace / top / written
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    bypass = (str(folds.workspace / top / given),)
    assert folds.run(f"echo theirs > {top}/.Envrc", bypass=bypass) == []
    assert mine.read_text() == "theirs\n"


PLANTED = {
    ".vscode": "mkdir .VSCODE && echo '{}' > .VSCODE/tasks.json",
    ".envrc": "echo evil > t && mv t .EnvRC",
    ".Rprofile": "echo evil > .RPROFILE",
    "x.code-workspace": "echo '{}' > x.CODE-workspace",
    ".git/config": f"mkdir -p .GIT/objects .GIT/refs && {HEAD} > .GIT/HEAD && {EVIL} > .GIT/CONFIG",
    ".git/hooks/pre-commit": (
        f"mkdir -p .GIT/OBJECTS .GIT/refs .GIT/Hooks && {HEAD} > .GIT/head && "
        "echo evil > .GIT/Hooks/PRE-commit"
    ),
    ".github/hooks": "mkdir -p .GITHUB/HOOKS && echo evil > .GITHUB/HOOKS/a.json",
    ".hg/hgrc": "mkdir .HG && echo evil > .Hg/HGRC",
}
UNICODE = {
    ".claude": "mkdir '.c\u200claude' && echo evil > '.c\u200claude/settings.json'",
    ".cursor": "mkdir '.cur\u017for' && echo evil > '.cur\u017for/x'",
    ".husky": "mkdir '.hus\u212ay' && echo evil > '.hus\u212ay/x'",
}


@pytest.mark.folding
@pytest.mark.parametrize("top", ["", "d/"])
def test_what_is_planted_in_another_case_is_taken_away(folds: Folding, top: str) -> None:
    scripts = [f"mkdir -p ./{top} && cd ./{top} && {one}" for one in PLANTED.values()]
    found = folds.run(
        *(word for one in scripts for word in (one, f"cd ./{top} && rm -rf .[a-zA-Z]*"))
    )
    left = [path for path in PLANTED if os.path.lexists(folds.workspace / top / path)]
    assert left == []
    # What a hook is called is nowhere guarded, so it's told as it's written.
    assert sorted(one.casefold() for one in found) == sorted(
        f"removed {top}{path}".casefold() for path in PLANTED
    )


@pytest.mark.folding
def test_what_is_denied_is_closed_by_every_spelling(folds: Folding) -> None:
    """By sibling grants, too, whatever name the kernel remembers it by; or it's refused."""
    at = folds.workspace.parent / f"{folds.workspace.name}-denied"
    at.mkdir()
    (at / ".ENV").write_text("secret")
    (at / "open").write_text("open")
    attack = f"cd {at} && cat open; ! cat .env .ENV .Env ENV~1 .env. 2>&1 | grep secret"
    try:
        for asked in (".env", ".ENV", "ENV~1"):
            # FAT remembers a file by the name that it was asked for by last.
            (at / asked).exists()
            for granted, denied in (
                (at, at / ".env"),
                (at.with_name(at.name.upper()), at / ".Env"),
            ):
                with refused_where_spellings_are_names(denied):
                    folds.run(attack, read=(str(granted),), deny=(str(denied),))
    finally:
        shutil.rmtree(at)


@pytest.mark.folding
def test_a_directory_that_is_denied_is_closed_by_every_spelling(folds: Folding) -> None:
    at = folds.workspace.parent / f"{folds.workspace.name}-denied"
    (at / "Secrets").mkdir(parents=True)
    (at / "Secrets" / "key").write_text("secret")
    attack = f"cd {at} && ! cat secrets/key SECRETS/KEY Secrets/key secrets/../SecretS/key | grep ."
    try:
        for denied in ("secrets", "SECRETS"):
            folds.run(attack, read=(str(at),), deny=(str(at / denied),))
    finally:
        shutil.rmtree(at)


@pytest.mark.folding
def test_a_repository_of_names_in_another_case_is_none_afterwards(folds: Folding) -> None:
    made = f"mkdir -p d/OBJECTS d/Refs && {HEAD} > d/head && {EVIL} > d/CONFIG"
    assert folds.run(made) == ["removed d/HEAD"]
    assert not (folds.workspace / "d" / "HEAD").exists()


@pytest.mark.folding
@pytest.mark.parametrize("top", ["", "d/"])
def test_what_the_directory_finds_by_other_letters_is_taken_away(folds: Folding, top: str) -> None:
    """Which it finds by them, and which it tells apart, is for each to say."""
    folds.run(*(f"mkdir -p ./{top} && cd ./{top} && {one}" for one in UNICODE.values()))
    assert [path for path in UNICODE if os.path.lexists(folds.workspace / top / path)] == []


@pytest.mark.folding
@pytest.mark.parametrize("top", [".", "d"])
@pytest.mark.parametrize("written", [".envrc", ".EnvRC"])
def test_what_is_changed_by_another_spelling_is_put_back(
    folds: Folding, top: str, written: str
) -> None:
    mine = folds.workspace / top / written
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    folds.run(f"echo evil > {top}/.ENVRC || true")
    assert (folds.workspace / top / ".envrc").read_text() == "mine"
