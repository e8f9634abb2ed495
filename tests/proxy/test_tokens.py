from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy import environment, placements, tokens
from nono_proxy.catalogue import ROUTES, route
from nono_proxy.config import Header, Narrow, Path, Query, Route
from nono_proxy.errors import Refusal
from nono_proxy.placements import Parts
from nono_proxy.tokens import Ledger

PHANTOM = b"sk-nono" + b"A" * 57
REAL = b"sk-real-credential"


def test_a_token_opens_its_own_route_until_it_is_revoked() -> None:
    ledger = Ledger()
    lease = ledger.mint("call-1", (route("openai"), route("github")), None, 100.0)
    token = lease.tokens["openai"].encode()
    entry = ledger.find(token, 50.0)
    assert entry is not None
    assert (entry.route, entry.lease) == ("openai", lease)
    assert ledger.find(token, 100.0) is None
    assert ledger.revoke(lease)
    assert not ledger.revoke(lease)
    assert ledger.find(token, 50.0) is None


@pytest.mark.parametrize(
    "change",
    [bytes.upper, bytes.swapcase, lambda t: t[:-1], lambda t: t + b"x"],
    ids=["upper", "swapped", "shorter", "longer"],
)
def test_a_token_that_is_changed_opens_nothing(change: object) -> None:
    ledger = Ledger()
    token = ledger.mint("c", (route("openai"),), None, 1.0).tokens["openai"].encode()
    assert ledger.find(change(token), 0.0) is None  # type: ignore[operator]


@pytest.mark.parametrize("row", ROUTES.values(), ids=ROUTES)
def test_a_token_has_its_providers_shape(row: Route) -> None:
    first, second = tokens.mint(row), tokens.mint(row)
    assert first != second
    assert first.startswith(row.phantom_prefix)
    assert tokens.count_shapes(first.encode()) == 1
    assert len(first) >= len(row.phantom_prefix) + 47


def test_a_narrowed_call_gets_no_token_for_what_it_gave_up() -> None:
    lease = Ledger().mint("c", (route("openai"), route("github")), Narrow(routes=("github",)), 1.0)
    assert set(lease.tokens) == {"github"}
    assert "OPENAI_API_KEY" not in lease.environment("127.0.0.1", 1, "/ca")


def test_nothing_secret_is_printed() -> None:
    ledger = Ledger()
    lease = ledger.mint("c", (route("openai"),), None, 1.0)
    for text in (repr(lease), repr(ledger)):
        assert lease.secret not in text
        assert lease.tokens["openai"] not in text


def test_the_environment_leads_to_the_proxy_and_holds_tokens() -> None:
    lease = Ledger().mint("c", tuple(ROUTES.values()), None, 1.0)
    found = lease.environment("127.0.0.1", 8080, "/ca.pem")
    assert found["HTTPS_PROXY"] == f"http://nono:{lease.secret}@127.0.0.1:8080"
    assert found["https_proxy"] == found["HTTPS_PROXY"]
    assert found["NO_PROXY"] == found["no_proxy"] == ""
    assert found["OPENAI_API_KEY"] == lease.tokens["openai"]
    assert found["OPENAI_BASE_URL"] == "http://127.0.0.1:8080/openai/v1"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    assert found["AWS_ACCESS_KEY_ID"] == lease.tokens["aws"]
    assert found["GIT_CONFIG_COUNT"] == "4"
    keys = {key for row in ROUTES.values() for key in row.key_variables}
    urls = {url.variable for row in ROUTES.values() for url in row.base_urls}
    numbered = {name for name in found if name.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))}
    assert set(found) - keys - urls - numbered <= environment.OWNED


def parts(line: bytes = b"", target: bytes = b"/v1") -> Parts:
    path, mark, query = target.partition(b"?")
    name = line.partition(b":")[0].lower()
    return Parts([(name, line)] if line else [], path, query if mark else None)


def live(token: bytes) -> bool:
    return token == PHANTOM


def basic(user: bytes, password: bytes) -> bytes:
    return b"Authorization: Basic " + b64encode(user + b":" + password)


GITHUB, STRIPE, GEMINI = route("github"), route("stripe"), route("gemini")
BOT = Route("bot", ("api.example",), "bot", (Path("bot"),))


@pytest.mark.parametrize(
    ("row", "before", "after"),
    [
        (
            GITHUB,
            parts(b"Authorization: Bearer " + PHANTOM),
            parts(b"Authorization: Bearer " + REAL),
        ),
        (
            GITHUB,
            parts(b"authorization: bearer  " + PHANTOM),
            parts(b"Authorization: bearer " + REAL),
        ),
        (GITHUB, parts(b"Authorization: token " + PHANTOM), parts(b"Authorization: token " + REAL)),
        (GITHUB, parts(basic(b"u", PHANTOM)), parts(basic(b"x-access-token", REAL))),
        (STRIPE, parts(basic(PHANTOM, b"")), parts(basic(REAL, b""))),
        (route("linear"), parts(b"Authorization: " + PHANTOM), parts(b"Authorization: " + REAL)),
        (route("anthropic"), parts(b"X-API-Key: " + PHANTOM), parts(b"x-api-key: " + REAL)),
        (GEMINI, parts(target=b"/v1?a=b&key=" + PHANTOM), parts(target=b"/v1?a=b&key=" + REAL)),
        (BOT, parts(target=b"/bot" + PHANTOM + b"/x"), parts(target=b"/bot" + REAL + b"/x")),
    ],
)
def test_a_token_is_replaced_in_its_place(row: Route, before: Parts, after: Parts) -> None:
    found = placements.find(placements.where(row), before, live)
    assert [each.token for each in found] == [PHANTOM]
    swapped = placements.swap(before, found, REAL)
    assert swapped == after or [(name, line.lower()) for name, line in swapped.fields] == [
        (name, line.lower()) for name, line in after.fields
    ]


@pytest.mark.parametrize(
    "before",
    [
        Parts([(b"authorization", b"Authorization: Bearer x")] * 2, b"/", None),
        parts(b"Authorization: Digest x"),
        parts(b"Authorization: Basic !!!"),
        parts(b"Authorization: Basic " + b64encode(b"no colon")),
        parts(b"Authorization: Bearer"),
    ],
)
def test_an_authorization_that_holds_no_token_is_refused(before: Parts) -> None:
    with pytest.raises(Refusal):
        placements.find(placements.where(GITHUB), before, live)


def test_two_tokens_in_a_query_are_refused() -> None:
    with pytest.raises(Refusal):
        placements.find(placements.where(GEMINI), parts(target=b"/?key=a&key=b"), live)


@pytest.mark.parametrize(
    "before",
    [
        parts(b"X-Other: " + PHANTOM),
        parts(target=b"/v1?other=" + PHANTOM),
        parts(target=b"/v1?KEY=" + PHANTOM),
        parts(target=b"/" + PHANTOM),
    ],
)
def test_a_token_elsewhere_is_not_found(before: Parts) -> None:
    assert placements.find(placements.where(GEMINI), before, live) == []


@given(st.binary(min_size=1, max_size=30))
def test_a_credential_cannot_break_out_of_a_query(credential: bytes) -> None:
    before = parts(target=b"/v1?key=" + PHANTOM + b"&z=1")
    after = placements.swap(
        before, placements.find(placements.where(GEMINI), before, live), credential
    )
    assert after.query is not None
    assert len(after.query.split(b"&")) == 2
    assert not set(after.query) & set(b" \r\n#/?")


def test_rows_say_where_a_token_may_stand() -> None:
    assert Query("key") in GEMINI.placements
    assert Header("x-api-key") in route("anthropic").placements
