"""What programs say, or end with, when they couldn't reach a host."""

import pytest

from nono_mcp.policy import unreachable


@pytest.mark.parametrize(
    ("status", "argv"),
    [
        (6, ("curl", "https://a")),
        (7, ("/usr/bin/curl",)),
        (4, ("wget", "-q", "a")),
        (255, ("ssh", "a", "true")),
        (6, ("sh", "-c", "curl -s https://a/b")),
        (7, ("/bin/bash", "-c", "curl -s a")),
    ],
)
def test_a_status_of_its_own_tells(status: int, argv: tuple[str, ...]) -> None:
    assert unreachable.is_told_by(status, argv)


@pytest.mark.parametrize(
    ("status", "argv"),
    [
        (22, ("curl",)),
        (8, ("wget", "-q", "a")),
        (6, ("curly",)),
        (6, ("sh", "-c", "exit 6 && curl a")),
        (6, ("sh", "-c", "x=curl; $x a")),
        (6, ("sh", "-c", "curl a", "more")),
        (6, ("sh", "-c", "")),
        (6, ()),
    ],
)
def test_another_tells_nothing(status: int, argv: tuple[str, ...]) -> None:
    assert not unreachable.is_told_by(status, argv)


def test_words_of_programs_are_known() -> None:
    for text in (
        "curl: (6) Could not resolve host: a",
        "dial tcp: lookup proxy.golang.org: no such host",
        "Err:1 http://deb.debian.org Temporary failure resolving 'deb.debian.org'",
        "cause: Error: getaddrinfo EAI_AGAIN a",
        "java.net.UnknownHostException: a",
    ):
        assert unreachable.says(text)
    for text in ("cat: a: No such file or directory", "HTTP 404"):
        assert not unreachable.says(text)
