"""What a policy says of hosts and credentials, compiled for the proxy."""

import re

import pytest

from nono_mcp.policy import egress
from nono_mcp.policy.document import NetworkSection
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.parse import parse_text


def test_who_names_an_unknown_provider_is_told_what_to_write() -> None:
    with pytest.raises(PolicyError) as caught:
        egress.config(NetworkSection("proxy", credentials=("mine",)), None)
    told = re.fullmatch(r"write (\[\S+\]) with upstreams and placements", caught.value.hint)
    assert told is not None
    text = f'{told[1]}\nupstreams = ["mine.example"]\nplacements = ["bearer"]\n'
    rules = parse_text(text, "policy.toml").network.replace(mode="proxy", credentials=("mine",))
    assert [route.name for route in egress.config(rules, None).routes] == ["mine"]
