"""Who is let in by their headers."""

import pytest

from nono_mcp.server.http_access import HttpAccess, Refused, digest_of, knows

OWNERS = {digest_of(b"token-123"): "alice", digest_of(b"token-456"): "bob"}
ACCESS = HttpAccess.of(["127.0.0.1", "localhost"], 8080, OWNERS)
GOOD = {b"host": b"127.0.0.1:8080", b"authorization": b"Bearer token-123"}


def status(headers: list[tuple[bytes, bytes]], access: HttpAccess = ACCESS) -> int | None:
    refused = access.refusal(headers) or access.owner(access.token(headers))
    return refused.status if isinstance(refused, Refused) else None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, None),
        ({b"host": b"localhost:8080"}, None),
        ({b"host": b"LOCALHOST:8080"}, None),
        ({b"host": b"127.0.0.1:8081"}, 421),
        ({b"host": b"127.0.0.1"}, 421),
        ({b"host": b""}, 421),
        ({b"host": b"evil.example:8080"}, 421),
        ({b"host": b"127.0.0.1:8080.evil.example"}, 421),
        ({b"host": b"localhost:8080@evil.example"}, 421),
        ({b"host": b"127.0.0.1:8080 "}, 421),
        ({b"host": b"\xff"}, 421),
        ({b"origin": b"http://127.0.0.1:8080"}, None),
        ({b"origin": b"http://localhost:8080"}, None),
        ({b"origin": b"https://127.0.0.1:8080"}, 403),
        ({b"origin": b"http://evil.example"}, 403),
        ({b"origin": b"http://127.0.0.1:8080.evil.example"}, 403),
        ({b"origin": b"null"}, 403),
        ({b"origin": b"file://"}, 403),
        ({b"authorization": b"bearer token-123"}, None),
        ({b"authorization": b"Bearer token-124"}, 401),
        ({b"authorization": b"Bearer token-1234"}, 401),
        ({b"authorization": b"Bearer token-12"}, 401),
        ({b"authorization": b"Bearer "}, 401),
        ({b"authorization": b"Bearer"}, 401),
        ({b"authorization": b""}, 401),
        ({b"authorization": b"Basic token-123"}, 401),
        ({b"authorization": b"Bearer  token-123"}, 401),
        ({b"authorization": b"Bearer \xe9"}, 401),
        # What is asked first: a page of another origin learns nothing of tokens.
        ({b"host": b"evil.example", b"authorization": b""}, 421),
        ({b"origin": b"http://evil.example", b"authorization": b""}, 403),
    ],
)
def test_a_request_is_let_in_or_refused(changed: dict[bytes, bytes], expected: int | None) -> None:
    assert status(list((GOOD | changed).items())) == expected


@pytest.mark.parametrize("name", [b"host", b"origin", b"authorization"])
def test_a_header_that_stands_twice_lets_nobody_in(name: bytes) -> None:
    value = GOOD.get(name, b"http://127.0.0.1:8080")
    assert (
        status([*((k, v) for k, v in GOOD.items() if k != name), (name, value), (name, value)])
        == 400
    )


def test_a_length_that_is_told_in_two_ways_lets_nobody_in() -> None:
    one, other = (b"content-length", b"5"), (b"transfer-encoding", b"chunked")
    assert status([*GOOD.items(), one]) is None
    assert status([*GOOD.items(), other]) is None
    assert status([*GOOD.items(), one, other]) == 400


@pytest.mark.parametrize("missing", [b"host", b"authorization"])
def test_host_and_token_are_needed(missing: bytes) -> None:
    assert status([(k, v) for k, v in GOOD.items() if k != missing]) in (401, 421)


def test_an_ipv6_server_is_asked_for_in_brackets() -> None:
    access = HttpAccess.of(["::1"], 9, {digest_of(b"t"): "x"})
    assert status([(b"host", b"[::1]:9"), (b"authorization", b"Bearer t")], access) is None
    assert status([(b"host", b"::1:9"), (b"authorization", b"Bearer t")], access) == 421


def test_the_usual_port_may_be_left_out() -> None:
    access = HttpAccess.of(["127.0.0.1", "localhost"], 80, {digest_of(b"t"): "x"})
    assert status([(b"host", b"localhost"), (b"authorization", b"Bearer t")], access) is None


def test_a_token_is_its_owners() -> None:
    assert ACCESS.owner(b"token-123") == "alice"
    assert ACCESS.owner(b"token-456") == "bob"
    for token in (
        b"",
        b"token-12",
        b"token-123\n",
        b"TOKEN-123",
        *(key.encode() for key in OWNERS),
    ):
        assert isinstance(ACCESS.owner(token), Refused)


def test_a_certificates_names_are_ours_and_their_pages_speak_https() -> None:
    access = HttpAccess.of(["nono.example", "192.0.2.1"], 443, OWNERS, "https")
    known = [(b"authorization", b"Bearer token-123")]
    for host in (b"nono.example", b"nono.example:443", b"192.0.2.1:443"):
        assert status([(b"host", host), *known], access) is None
        assert status([(b"host", host), (b"origin", b"https://" + host), *known], access) is None
        assert status([(b"host", host), (b"origin", b"http://" + host), *known], access) == 403
    assert status([(b"host", b"other.example"), *known], access) == 421


def test_no_token_is_nobodys_though_its_digest_is_known() -> None:
    assert isinstance(HttpAccess.of(["x"], 1, {digest_of(b""): "x"}).owner(b""), Refused)


@pytest.mark.parametrize("token", [b"token-123", b"token-456", b"token-789"])
def test_every_token_is_compared_whichever_it_is(
    monkeypatch: pytest.MonkeyPatch, token: bytes
) -> None:
    """And by what takes as long for each, so that the time tells nothing."""
    compared: list[str] = []

    def compare(known: str, given: str) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr("hmac.compare_digest", compare)
    ACCESS.owner(token)
    assert compared == list(OWNERS)
    compared.clear()
    assert knows(OWNERS, token) == (token != b"token-789")
    assert compared == list(OWNERS)
