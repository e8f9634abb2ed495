import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy.authority import Authority
from nono_proxy.catalogue import ROUTES, route
from nono_proxy.config import BaseUrl, Config, Header, HostRule, Narrow, Route, UpstreamProxy
from nono_proxy.decide import Allow, Deny, decide, endpoint_allowed, route_for
from nono_proxy.errors import ConfigError, RuleError, UnknownRouteError


def rules(*texts: str) -> tuple[HostRule, ...]:
    return tuple(map(HostRule.parse, texts))


def code(config: Config, target: str, narrow: Narrow | None = None) -> str:
    verdict = decide(config, Authority.parse(target), narrow)
    return "allowed" if isinstance(verdict, Allow) else verdict.code


OPENAI = route("openai")


@pytest.mark.parametrize("target", ["a.example", "127.0.0.1", "[::1]", "api.openai.com"])
def test_with_nothing_written_nothing_leaves(target: str) -> None:
    assert code(Config(), target) == "host-not-allowed"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a.example", "allowed"),
        ("a.example:80", "host-not-allowed"),
        ("x.b.example", "allowed"),
        ("secret.b.example", "host-denied"),
        ("b.example", "host-not-allowed"),
        ("api.openai.com", "allowed"),
        ("api.openai.com:8443", "host-not-allowed"),
    ],
)
def test_deny_beats_allow(target: str, expected: str) -> None:
    config = Config(rules("a.example", "*.b.example"), rules("secret.b.example"), (OPENAI,))
    assert code(config, target) == expected


@pytest.mark.parametrize(
    ("rule", "other", "expected"),
    [
        ("a.example", "a.example", True),
        ("a.example", "a.example:80", False),
        ("*.example", "a.example", True),
        ("*.example", "example", False),
        ("*.example", "*.a.example", True),
        ("*.example", "*.example", True),
        ("*.example", "*.bexample", False),
        ("*.a.example", "*.example", False),
        ("a.example", "*.example", False),
        ("*.example:80", "*.a.example", False),
    ],
)
def test_a_rule_covers_another_if_it_matches_all_of_it(
    rule: str,
    other: str,
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert HostRule.parse(rule).covers(HostRule.parse(other)) is expected


def test_deny_beats_a_route() -> None:
    assert code(Config((), rules("*.openai.com"), (OPENAI,)), "api.openai.com") == "host-denied"


@pytest.mark.parametrize("target", ["metadata.google.internal", "169.254.169.254", "metadata:80"])
def test_no_rule_opens_a_metadata_service(target: str) -> None:
    assert code(Config(rules(target)), target) == "host-denied"


@pytest.mark.parametrize(
    ("narrow", "target", "expected"),
    [
        (Narrow(), "a.example", "allowed"),
        (Narrow(hosts=()), "a.example", "host-not-allowed"),
        (Narrow(hosts=rules("a.example")), "a.example", "allowed"),
        (Narrow(hosts=rules("a.example")), "b.example", "host-not-allowed"),
        (Narrow(hosts=rules("c.example")), "c.example", "host-not-allowed"),
        (Narrow(hosts=rules("a.example")), "api.openai.com", "host-not-allowed"),
        (Narrow(hosts=(), routes=("openai",)), "api.openai.com", "allowed"),
        (Narrow(routes=()), "api.openai.com", "host-not-allowed"),
        (Narrow(routes=()), "a.example", "allowed"),
    ],
)
def test_a_call_can_only_give_up(narrow: Narrow, target: str, expected: str) -> None:
    config = Config(rules("a.example", "b.example"), (), (OPENAI,))
    assert code(config, target, narrow) == expected


hosts = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(".".join)
some = st.lists(hosts | hosts.map("*.{}".format), max_size=4).map(lambda texts: rules(*texts))


@given(some, some, some, hosts)
def test_narrowing_and_denying_never_allow_more(
    allow: tuple[HostRule, ...],
    deny: tuple[HostRule, ...],
    given_up: tuple[HostRule, ...],
    host: str,
) -> None:
    target = Authority(host, 443)
    wide = decide(Config(allow), target)
    narrow = decide(Config(allow, deny), target, Narrow(given_up))
    assert isinstance(wide, Allow) or isinstance(narrow, Deny)
    assert isinstance(wide, Allow) is any(rule.matches(target) for rule in allow)


def test_an_exact_route_is_found_before_a_zone() -> None:
    config = Config(routes=(route("aws"), route("bedrock")))
    found = route_for(config, Authority("bedrock-runtime.us-east-1.amazonaws.com", 443))
    assert found is not None
    assert found[0].name == "bedrock"


def test_a_route_without_endpoints_lets_everything_pass() -> None:
    assert endpoint_allowed(OPENAI, b"DELETE", b"/anything")


def test_every_row_of_the_catalogue_can_be_used_together() -> None:
    assert len(Config(routes=tuple(ROUTES.values())).routes) == len(ROUTES)
    for row in ROUTES.values():
        assert row.rules
        assert row.key_variables


def test_a_route_that_is_not_there_names_a_near_one() -> None:
    with pytest.raises(UnknownRouteError, match="did you mean openai"):
        route("opnai")


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Route("Open AI", ("a.example",)),
        lambda: Route("a", ()),
        lambda: Route("a", ("a.example",), "key"),
        lambda: Route("a", ("a.example",), None, (Header("X"),)),
        lambda: Route("a", ("a b",)),
        lambda: Route("a", ("*.a.example",), base_urls=(BaseUrl("A"),)),
        lambda: Route("a", ("a.example",), phantom_prefix="a b"),
        lambda: Header("X\r\nY"),
        lambda: Config(routes=(OPENAI, OPENAI)),
    ],
    ids=map(str, range(9)),
)
def test_a_configuration_that_contradicts_itself_is_refused(broken: object) -> None:
    with pytest.raises(ConfigError):
        broken()  # type: ignore[operator]


@pytest.mark.parametrize("url", ["socks5://a:1", "http://a", "http://u:p@a:1", "http://a:1/x", ""])
def test_an_upstream_proxy_is_a_scheme_a_host_and_a_port(url: str) -> None:
    with pytest.raises(RuleError):
        UpstreamProxy.parse(url)
    assert UpstreamProxy.parse("https://proxy.example:3128/").tls
