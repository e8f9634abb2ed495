"""What is said of a head before anything is sent anywhere, and whether its connection goes on."""

from base64 import b64encode
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from nono_proxy import grammar, head_verdict
from nono_proxy.config import Config, Header, HostRule, Route
from nono_proxy.errors import Refusal
from nono_proxy.head_verdict import Refused
from nono_proxy.judge import Judge
from nono_proxy.plan import Plan
from nono_proxy.tokens import Ledger

if TYPE_CHECKING:
    from nono_proxy.state import State


@pytest.mark.parametrize(
    ("head", "code", "closes"),
    [
        ("TRACE / HTTP/1.1\r\nHost: x", "method-refused", False),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nContent-Length: 0", "method-refused", False),
        # What is a body to one is the next request to another.
        ("TRACE / HTTP/1.1\r\nHost: x\r\nContent-Length: 9", "method-refused", True),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked", "method-refused", True),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close", "method-refused", True),
        ("TRACE / HTTP/1.0\r\nHost: x", "method-refused", True),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9, 9", "bad-request", True),
        ("GET / HTTP/1.1\r\nHost: x\r\n folded", "bad-request", True),
    ],
)
def test_where_what_follows_may_be_a_body_nothing_follows(
    head: str, code: str, *, closes: bool
) -> None:
    state = cast("State", SimpleNamespace(verify_open=lambda: None))
    verdict = head_verdict.judge(state, None, (None, f"{head}\r\n\r\n".encode()), 0.0)
    assert isinstance(verdict, Refused)
    assert (verdict.code, verdict.closes) == (code, closes)


def asked(config: Config, ledger: Ledger, text: str) -> Plan:
    plan = Plan()
    Judge(config, ledger).request(plan, grammar.parse_request(text.encode()), 0.0, None)
    return plan


def test_a_request_is_known_for_as_long_as_its_password_lasts() -> None:
    ledger = Ledger()
    secret = b64encode(f"nono:{ledger.mint('call', (), None, 7.0).secret}".encode()).decode()
    head = f"GET http://x/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {secret}\r\n\r\n"
    assert asked(Config((HostRule.parse("x:80"),)), ledger, head).until == 7.0


@pytest.mark.parametrize(
    ("upstream", "code"),
    [("model.example", "token-missing"), ("*.example", "route-unknown")],
)
def test_what_is_asked_of_the_proxy_itself_leads_to_one_host(upstream: str, code: str) -> None:
    model = Route("model", (upstream,), "model", (Header("Authorization", "bearer"),))
    with pytest.raises(Refusal) as refused:
        asked(Config((), routes=(model,)), Ledger(), "GET /model/v1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert refused.value.code == code
