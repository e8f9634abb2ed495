import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_every_claim_has_a_proof_and_every_proof_a_claim(request: pytest.FixtureRequest) -> None:
    if request.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        pytest.skip("only a run of every test can tell")
    claimed = re.findall(r"^\| `([a-z.-]+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    proven = {mark.args[0] for item in request.session.items for mark in item.iter_markers("claim")}
    assert proven == set(claimed)
    assert len(claimed) == len(set(claimed))
