from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy.addresses import NEVER, choose, verify
from nono_proxy.authority import Authority, literal
from nono_proxy.config import HostRule
from nono_proxy.errors import AuthorityError, RuleError

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("api.example.com", "api.example.com", 443),
        ("API.Example.COM.:8443", "api.example.com", 8443),
        ("xn--bcher-kva.example:1", "xn--bcher-kva.example", 1),
        ("a-b.c0:65535", "a-b.c0", 65535),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:443", "[::1]", 443),
        ("[2606:4700::1111]", "[2606:4700::1111]", 443),
        ("1e100.net", "1e100.net", 443),
    ],
)
def test_one_spelling_comes_out(text: str, host: str, port: int) -> None:
    assert Authority.parse(text) == Authority(host, port)


@pytest.mark.parametrize(
    "text",
    [
        ":443",
        "host:",
        "host:0",
        "host:00443",
        "host:+443",
        "host:65536",
        "host:4_43",
        "host:443:443",
        "host:0x1bb",
        "host:https",
        "a..b",
        ".a",
        "a..",
        "-a",
        "a-",
        "a-.b",
        "a_b",
        "a%2eb",
        "a%00b",
        "user@a",
        "user:pass@a",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a;b",
        "a,b",
        "*.a",
        "*",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "127.0.0.1.",
        "1.2.3.256",
        "127.0.0.0x1",
        "1.2.3.4.5",
        "999",
        "a.1",
        "a.0x",
        "a.0x7f",
        "1.2.3",
        "00.0.0.0",
        "1.2.3.4.",
        "::1",
        "[::1",
        "::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::0001]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1%eth0]",
        "[::1%25lo]",
        "[::1]a",
        "[]",
        "[127.0.0.1]",
        "[::G]",
        "[::127.0.0.1]",
        "\uff3b::1\uff3d",
        "\uff11\uff12\uff17.0.0.1",
        "\u24d4xample.com",
        "examp\u2024le.com",
        "\uff45xample.com",
        "exa\xadmple.com",
        "b\u00fccher.example",
        "fa\u00df.de",
        "\u0130.com",
        "\u212a.com",
        "example\u3002com",
    ],
)
def test_every_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(AuthorityError):
        Authority.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\r\nHost: b",
        "a\t",
        "a\0",
        "a:44 3",
        "a:443\n",
        "a" * 64,
        ".".join(["a" * 60] * 5),
    ],
)
def test_octets_that_no_name_has_are_refused(text: str) -> None:
    with pytest.raises(AuthorityError):
        Authority.parse(text)


@given(st.text(max_size=40) | st.text("a.-:[]0127x%@ ", max_size=20))
def test_what_is_accepted_is_a_fixed_point(text: str) -> None:
    try:
        authority = Authority.parse(text)
    except AuthorityError:
        return
    assert Authority.parse(str(authority)) == authority
    assert str(authority).isascii()
    assert authority.host == authority.host.lower()
    assert len(authority.host) <= 253


@given(st.ip_addresses())
def test_a_literal_is_read_as_the_address_it_is(address: object) -> None:
    text = str(address)
    try:
        found = Authority.parse(f"[{text}]" if ":" in text else text)
    except AuthorityError:
        assert text.startswith("::ffff:")
        return
    assert literal(found.host) == address


@pytest.mark.parametrize(
    ("rule", "target", "covers"),
    [
        ("example.com", "example.com:443", True),
        ("example.com", "example.com:80", False),
        ("example.com:80", "example.com:80", True),
        ("example.com", "a.example.com:443", False),
        ("*.example.com", "a.example.com:443", True),
        ("*.example.com", "a.b.example.com:443", True),
        ("*.example.com", "example.com:443", False),
        ("*.example.com", "aexample.com:443", False),
        ("*.example.com:8443", "a.example.com:443", False),
        ("example.com", "example.com.evil.net:443", False),
        ("Example.COM.", "EXAMPLE.com.:443", True),
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("[::1]:1", "[::1]:1", True),
    ],
)
def test_rules_compare_whole_labels_and_ports(rule: str, target: str, *, covers: bool) -> None:
    assert HostRule.parse(rule).matches(Authority.parse(target)) is covers


@pytest.mark.parametrize(
    "text",
    ["*", "*.", "**.a", "a.*", "*a.b", "*.*.a", "*.127.0.0.1", "*.[::1]", "https://a", "a:*"],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        HostRule.parse(text)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - judged, not bound to
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
        "5f00::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "4000::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.1.2.3",
        "64:ff9b:1::192.168.0.1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:a00:1::f5ff:fffe",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:127.0.0.1",
    ],
)
def test_special_addresses_are_refused_until_granted(address: str) -> None:
    assert verify(ip_address(address), ()) is not None
    assert verify(ip_address(address), EVERYTHING) is None


@pytest.mark.parametrize("address", [str(address) for address in NEVER])
def test_metadata_services_are_never_dialled(address: str) -> None:
    assert verify(ip_address(address), EVERYTHING) == "metadata service"


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "::169.254.169.254",
        "::ffff:0:100.100.100.200",
        "2001:0:a9fe:a9fe::1",
        "fe80::5efe:169.254.169.254",
    ],
)
def test_metadata_services_are_never_dialled_in_disguise(address: str) -> None:
    assert verify(ip_address(address), EVERYTHING) == "metadata service"


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450::1", "64:ff9b::1.1.1.1"]
)
def test_public_addresses_may_be_dialled(address: str) -> None:
    assert verify(ip_address(address), ()) is None


def test_of_mixed_answers_only_the_public_ones_are_kept() -> None:
    kept, _ = choose(["10.0.0.1", "93.184.216.34", "::1", "fe80::1%eth0", "junk"], ())
    assert [str(address) for address in kept] == ["93.184.216.34"]


def test_no_answer_that_may_be_dialled_says_why() -> None:
    assert choose(["127.0.0.1"], ()) == ([], "loopback address")
    assert choose([], ()) == ([], "no address")
