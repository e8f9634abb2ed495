"""Names that are guarded by how they end, and names that are in some directories alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import names

if TYPE_CHECKING:
    from tests.guard.conftest import Bench

pytestmark = [
    pytest.mark.linux,
    pytest.mark.claim("guard.put-right"),
    pytest.mark.claim("guard.beneath"),
]

GUARDED = (
    "a.code-workspace .code-workspace x.y.sublime-project mise.dev.toml .mise.ci.local.toml "
    ".githooks .huskyrc.js lint-staged.config.mjs captainhook.json .run .theia .iex.exs .perldb "
    ".Renviron .bundle .amazonq .junie .trae .kilocode crush.json"
)
NOT = "a.code-workspace.md code-workspace mise..md misedev.toml mise.toml.bak hooks hgrc config"


@pytest.mark.parametrize("name", GUARDED.split())
def test_a_name_is_guarded_by_its_ends(name: str) -> None:
    assert names.what(name)


@pytest.mark.parametrize("name", NOT.split())
def test_a_name_that_is_like_one_isnt(name: str) -> None:
    assert not names.what(name)


def test_a_star_stands_for_something_once() -> None:
    found = [name for each in names.TABLE.values() for name in each.split() if "*" in name]
    assert found
    assert all(name.count("*") == 1 for name in found)
    assert not names.what("mise.toml"[:-1])
    assert names.what("mise.toml")


def test_files_that_a_name_of_any_length_ends_are_taken_away(bench: Bench) -> None:
    made = "a.code-workspace d/b.code-workspace mise.x.toml d/.mise.x.toml d/c.sublime-project"
    found = bench.run(f"mkdir d; for n in {made}; do echo evil > $n; done")
    assert found == sorted(f"removed {name}" for name in made.split())


INNER = {
    ".github/hooks": "mkdir -p .github/hooks; echo evil > .github/hooks/a.json",
    ".config/mise.toml": "mkdir .config; echo evil > .config/mise.toml",
    ".config/mise": "mkdir -p .config/mise; echo evil > .config/mise/config.toml",
    ".hg/hgrc": "mkdir .hg; echo evil > .hg/hgrc",
    ".hg/sharedpath": "mkdir -p x; echo evil > x/sharedpath; mv x .hg",
    ".hg": "mkdir -p x; echo evil > x/hgrc; ln -s x .hg",
    ".github": "mkdir -p x/hooks; echo evil > x/hooks/a.json; ln -s x .github",
    ".sl/config": "mkdir -p x; echo evil > y; mkdir .sl; ln y .sl/config",
    ".pijul/config": "mkdir .pijul; echo evil > .pijul/config; chmod 0 .pijul",
}


@pytest.mark.parametrize("top", ["", "d/"])
def test_what_is_guarded_in_some_directories_is_taken_away(bench: Bench, top: str) -> None:
    """Each by a call of its own, in the top directory and beneath it."""
    if top:
        (bench.workspace / top).mkdir()
    # What they leave behind isn't in the next one's way.
    tidy = "chmod -R u+rwX .; rm -rf .github .config .hg .sl .pijul x y"
    scripts = [s for one in INNER.values() for s in (f"cd ./{top}; {one}", f"cd ./{top}; {tidy}")]
    assert bench.run(*scripts) == sorted(f"removed {top}{path}" for path in INNER)
    quarantined = [path for path in bench.quarantine.rglob("*") if path.is_file()]
    assert len(quarantined) >= len(INNER) - 2, "symlinks aside"


def test_the_rest_of_such_directories_is_the_agents(bench: Bench) -> None:
    (bench.workspace / ".hg").mkdir()
    (bench.workspace / ".hg" / "hgrc").write_text("[ui]")
    (bench.workspace / "d" / ".github" / "hooks").mkdir(parents=True)
    (bench.workspace / "d" / ".github" / "hooks" / "a.json").write_text("{}")
    script = (
        "mkdir -p .github/workflows d/.hg/store; echo a > .github/workflows/ci.yml; "
        "echo a > .hg/dirstate; echo a > d/.hg/store/a; echo CONFIG_X=y > .config; "
        "echo b > d/.config; echo c > d/.github/CODEOWNERS"
    )
    assert bench.run(script, "rm .config d/.config; mkdir .config; echo a > .config/a") == []
    assert (bench.workspace / ".hg" / "hgrc").read_text() == "[ui]"
    assert os.path.lexists(bench.workspace / ".github" / "workflows" / "ci.yml")


def test_the_persons_own_is_put_back(bench: Bench) -> None:
    (bench.workspace / "d" / ".hg").mkdir(parents=True)
    (bench.workspace / "d" / ".hg" / "hgrc").write_text("[ui]")
    (bench.workspace / "a.code-workspace").write_text("{}")
    attack = "mv d/.hg x; mkdir d/.hg; echo evil > d/.hg/hgrc; echo evil > t; mv t a.code-workspace"
    found = bench.run(f"{attack} || :")
    assert "restored d/.hg/hgrc" in found
    assert (bench.workspace / "d" / ".hg" / "hgrc").read_text() == "[ui]"
    assert (bench.workspace / "a.code-workspace").read_text() == "{}"
