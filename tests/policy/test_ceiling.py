"""What an agent may ask for: the ceiling, as a function of values."""

from __future__ import annotations

import pytest

from nono_mcp.policy.ceiling import above_for_host, above_for_path, mode
from nono_mcp.policy.document import AskSection, Document, merge
from nono_mcp.policy.paths import Place
from nono_mcp.policy.request import Prepared
from nono_sandbox.confinement import NAMESPACES, READ, WRITE, Confinement, Network

HOME = "/home/me"


def prepared(ask: AskSection, askable: tuple[tuple[str, int], ...] = ()) -> Prepared:
    confinement = Confinement(
        cwd="/home/me/work/it", grants=(), tier=NAMESPACES, network=Network("closed")
    )
    return Prepared(confinement, (), Document(ask=ask), HOME, askable=askable)


def place(path: str, kind: str = "directory") -> Place:
    return Place(path, path, kind, (1, 2))


@pytest.mark.claim("ask.ceiling")
@pytest.mark.parametrize(
    ("path", "kind", "may"),
    [
        ("/home/me/other", "directory", True),
        ("/data", "directory", True),
        ("/home/me/work/it", "directory", True),
        ("/home/me/work", "directory", False),
        ("/home/me", "directory", False),
        ("/home", "directory", False),
        ("/", "directory", False),
        ("/etc", "directory", False),
        ("/etc/hosts", "file", True),
        ("/run/docker.sock", "other", False),
    ],
)
def test_whatever_is_no_more_than_one_thing_may_be_asked_for(
    path: str, kind: str, *, may: bool
) -> None:
    assert (above_for_path(prepared(AskSection()), place(path, kind), READ) is None) is may


@pytest.mark.claim("ask.ceiling")
@pytest.mark.parametrize(
    ("path", "access", "may"),
    [
        ("/data", READ, True),
        ("/data/sub", READ, True),
        ("/data/sub", READ | WRITE, False),
        ("/database", READ, False),
        ("/out/sub", READ | WRITE, True),
        ("/out", READ, True),
        ("/", READ, False),
    ],
)
def test_a_list_is_all_that_may_be_asked_for(path: str, access: int, *, may: bool) -> None:
    askable = (("/data", READ), ("/out", READ | WRITE))
    listed = prepared(AskSection("listed"), askable)
    assert (above_for_path(listed, place(path), access) is None) is may


@pytest.mark.claim("ask.ceiling")
@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("a.example.com", True),
        ("a.example.com:80", False),
        ("example.com", False),
        ("badexample.com", False),
        ("one.org:8443", True),
        ("one.org", False),
    ],
)
def test_hosts_are_listed_by_labels_and_port(host: str, *, may: bool) -> None:
    listed = prepared(AskSection(hosts=("*.example.com", "one.org:8443")))
    assert (above_for_host(listed, host) is None) is may
    assert above_for_host(prepared(AskSection()), host) is None


def test_a_list_means_its_mode() -> None:
    assert mode(AskSection()) == "any"
    assert mode(AskSection(hosts=("a.example",))) == "listed"
    assert mode(AskSection("never")) == "never"


def test_a_list_doesnt_open_what_is_forbidden() -> None:
    never, some = Document(ask=AskSection("never")), Document(ask=AskSection(read=("/a",)))
    assert mode(merge(never, some).ask) == "never"
    assert mode(merge(some, never).ask) == "never"
    assert merge(some, Document(ask=AskSection("any"))).ask == AskSection("any")
    both = merge(some, Document(ask=AskSection(read=("/b",))))
    assert both.ask == AskSection(None, ("/a", "/b"))
