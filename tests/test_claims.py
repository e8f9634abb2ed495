import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


# Elsewhere most proofs aren't collected.
@pytest.mark.linux
def test_every_claim_has_a_proof_and_every_proof_a_claim(proven: set[str]) -> None:
    claims = re.findall(r"^\| `([a-z.-]+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert proven == set(claims)
    assert sorted(set(claims)) == claims
