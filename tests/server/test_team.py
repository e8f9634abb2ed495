"""The team's file: what it says, and what is none."""

import pytest

from nono_mcp.policy.errors import PolicyError
from nono_mcp.server import team

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
GOOD = f"""
sessions_max = 4
idle_s = 60
metrics_tokens_sha256 = ["{C}"]

[principals.alice]
tokens_sha256 = ["{A}"]
workspace = "/srv/alice"
profile = "python"
calls_max = 3

[principals.bob]
tokens_sha256 = ["{B}"]
workspace = "/srv/bob"
"""
OAUTH = """
[oauth]
issuer = "https://id.example"
resource = "https://nono.example/mcp"
introspection = "https://id.example/introspect"
client_id = "nono"
secret = "env://NONO_OAUTH_SECRET"
"""


def test_a_file_says_who_and_how_much() -> None:
    found = team.parse(GOOD + OAUTH, "team.toml")
    assert list(found.principals) == ["alice", "bob"]
    assert (found.sessions_max, found.idle_s) == (4, 60.0)
    alice, bob = found.principals.values()
    assert (alice.profile, alice.calls_max, alice.workspace) == ("python", 3, "/srv/alice")
    assert (bob.profile, bob.calls_max) == (None, 16)
    assert found.oauth is not None
    assert found.oauth.issuer == "https://id.example"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("sessions_max = 4", "sessions_max = 0"), "team.toml:2: sessions_max"),
        (("sessions_max = 4", 'sessions_max = "4"'), "team.toml:2: sessions_max"),
        (("sessions_max = 4", "session_max = 4"), "did you mean sessions_max?"),
        (("profile =", "profil ="), "team.toml:9: unknown key principals.alice.profil"),
        (("calls_max = 3", "calls_max = true"), "calls_max"),
        (("calls_max = 3", "calls_max = 3.5"), "calls_max"),
        ((A, A.upper()), "tokens_sha256"),
        ((A, A[:-1]), "tokens_sha256"),
        ((f'"{A}"', f'"{A}\\n"'), "tokens_sha256"),
        ((B, A), "a token of bob's is somebody else's too"),
        ((C, A), "a token of alice's is somebody else's too"),
        ((f'"{B}"', ""), "bob has no token"),
        (("/srv/bob", "/srv/alice"), "bob's workspace overlaps alice's"),
        (("/srv/bob", "/srv"), "bob's workspace overlaps alice's"),
        (("/srv/bob", "/srv/alice/sub"), "bob's workspace overlaps alice's"),
        (("/srv/bob", "srv/bob"), "workspace"),
        (('workspace = "/srv/bob"', ""), "workspace"),
        (("[principals.bob]", '[principals."../bob"]'), "isn't a name"),
        (("[principals.bob]", '[principals."Bob\\n"]'), "isn't a name"),
        (("idle_s = 60", "idle_s = 0"), "idle_s"),
        (("idle_s = 60", "idle_s = nan"), "idle_s"),
        (("idle_s = 60", "idle_s ="), "not TOML"),
    ],
)
def test_what_is_no_team_is_told(change: tuple[str, str], told: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(PolicyError) as caught:
        team.parse(GOOD.replace(*change), "team.toml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_is_no_team() -> None:
    for text in ("", "[principals]", OAUTH):
        with pytest.raises(PolicyError, match="principals"):
            team.parse(text, "team.toml")


def test_a_subject_is_a_way_in_where_there_is_somebody_to_ask() -> None:
    by_subject = GOOD.replace(f'tokens_sha256 = ["{B}"]', 'subject = "bob@example"')
    with pytest.raises(PolicyError, match="bob has no token"):
        team.parse(by_subject, "team.toml")
    assert team.parse(by_subject + OAUTH, "team.toml").principals["bob"].subject == "bob@example"
    twice = by_subject.replace('profile = "python"', 'subject = "bob@example"')
    with pytest.raises(PolicyError, match="subject is somebody else's too"):
        team.parse(twice + OAUTH, "team.toml")
