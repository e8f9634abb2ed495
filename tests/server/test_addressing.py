"""What a request's path and headers say of the session that it's for."""

import pytest

from nono_mcp.server.addressing import Asked, Who, asked


def said(path: str) -> Asked | None:
    return asked({"path": path, "headers": [], "method": "GET"})


@pytest.mark.parametrize("name", ["a", "A9", "one.two-three_4", "x" * 64])
def test_a_name_is_a_sessions(name: str) -> None:
    assert said(f"/mcp/{name}") == Asked(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-a", "a-", "a/b", "a\n", "a b", "\xe9", "\u0661", "x" * 65, "#" + "0" * 32],
)
def test_nothing_else_is(name: str) -> None:
    assert said(f"/mcp/{name}") is None


@pytest.mark.parametrize("path", ["/", "/mcpa", "/MCP/a", "//mcp/a", "/a/mcp"])
def test_there_is_nothing_elsewhere(path: str) -> None:
    assert said(path) is None


def test_no_name_makes_anothers_snapshots_its_own() -> None:
    """A protocol session's, which are told by what nobody is told."""
    theirs = Who.anew("alice")
    assert said(f"/mcp/{theirs.owner.rpartition('/')[2]}") is None
