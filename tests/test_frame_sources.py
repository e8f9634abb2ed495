import re
from pathlib import Path

import pytest

import nono_mcp

SOURCES = Path(__file__).parents[1]


@pytest.mark.parametrize("text", sorted(SOURCES.glob("*.md")), ids=lambda path: path.name)
def test_documents_point_at_what_exists(text: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text.read_text(encoding="utf-8"))
    assert [target for target in targets if not (SOURCES / target).exists()] == []


def test_ci_runs_the_commands_the_readme_opens_with() -> None:
    opening = (SOURCES / "README.md").read_text(encoding="utf-8").split("```")[1]
    check = (SOURCES / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"^\./dev \w+", opening, re.MULTILINE)
    assert len(commands) == 2
    assert [command for command in commands if command not in check] == []


def test_the_launcher_is_python_without_a_warning() -> None:
    launcher = SOURCES / "bin" / "nono"
    compile(launcher.read_text(encoding="utf-8"), launcher, "exec")


def test_what_is_developed_in_place_has_none() -> None:
    assert not list(Path(*nono_mcp.__path__).glob("__pycache__/bundle.*"))
