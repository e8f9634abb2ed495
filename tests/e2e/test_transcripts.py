"""The transcripts in integrations/ are what the real clients do."""

from pathlib import Path

import pytest

from tests.e2e.agents import CODEX_OWN, SECRET
from tests.e2e.conftest import CLIENTS
from tests.e2e.transcripts import CHECK, agent_in, git, path_of, transcript

pytestmark = [pytest.mark.linux, pytest.mark.slow]


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_a_transcript_is_what_happens(name: str, tmp_path: Path) -> None:
    agent = agent_in(name, tmp_path)
    made = transcript(agent)
    assert SECRET not in made
    # Where what we answer has changed: python -m tests.e2e.transcripts
    assert made == path_of(name).read_text(encoding="utf-8")
    _, others = agent.offered()
    assert others <= (CODEX_OWN if name == "codex" else set())
    # From outside: the fix is committed, nothing is missing, and nothing else was changed.
    assert git(agent.project, "log", "--format=%s") == "Take the mean of the middle two\nBegin\n"
    tracked = [line[3:] for line in git(agent.project, "status", "--short").splitlines()]
    assert set(tracked) <= {".mcp.json"}
    assert (agent.project / "test_stats.py").exists()
    assert CHECK in made
