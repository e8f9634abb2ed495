"""A table of a TOML document, edited in its text."""

import tomllib

import pytest

from nono_mcp.install import tables
from nono_mcp.install.errors import InstallError

PATH = ("mcp_servers", "nono")
VALUES = {"command": "nono", "args": ["serve", "."], "required": True, "tool_timeout_sec": 3660}
THEIRS = """\
# mine
model = "x"   # the good one

[mcp_servers.other]
command = "y"

# about the next one
[features]
shell_tool = false
"""


def test_a_table_is_put_in_and_comes_out_again() -> None:
    changed = tables.with_table(THEIRS, PATH, VALUES)
    assert changed.startswith(THEIRS)
    assert tomllib.loads(changed)["mcp_servers"]["nono"] == VALUES
    assert tables.with_table(changed, PATH, VALUES) == changed
    assert tables.without_table(changed, PATH) == THEIRS
    assert tables.without_table(THEIRS, PATH) == THEIRS
    assert tables.without_table(tables.with_table("", PATH, VALUES), PATH) == ""


def test_a_table_that_the_person_wrote_stays_when_it_is_empty() -> None:
    for text in ("[mcp_servers]\n", "[mcp_servers] # mine\n\n[features]\nshell_tool = false\n"):
        assert tables.without_table(tables.with_table(text, PATH, VALUES), PATH) == text


@pytest.mark.parametrize("text", ["mcp_servers = 1", 'mcp_servers = "nono"', "mcp_servers = []"])
def test_nothing_comes_out_of_what_holds_no_tables(text: str) -> None:
    assert tables.without_table(text, PATH) == text


def test_what_else_is_in_the_table_stays() -> None:
    text = (
        '[mcp_servers.nono] # ours\ncommand = "old"\nenabled = false # for now\n\n'
        '[mcp_servers.nono.env]\nA = "1"\n\n' + THEIRS.partition("\n\n")[2]
    )
    changed = tables.with_table(text, PATH, VALUES)
    found = tomllib.loads(changed)
    assert found["mcp_servers"]["nono"] == {**VALUES, "enabled": False, "env": {"A": "1"}}
    assert "enabled = false # for now\n" in changed
    assert "# about the next one\n[features]" in changed
    removed = tables.without_table(changed, PATH)
    assert tomllib.loads(removed) == tomllib.loads(THEIRS.partition("\n\n")[2])
    assert "# about the next one\n[features]" in removed


@pytest.mark.parametrize(
    "text",
    [
        'mcp_servers = { nono = { command = "x" } }',
        '[mcp_servers]\nnono.command = "x"',
        '[mcp_servers.nono]\nargs = [\n  "a",\n]',
        'text = """\n[mcp_servers.nono]\n"""\n[mcp_servers]\nnono = {command = "x"}',
        "[mcp_servers",
        "mcp_servers = 1",
    ],
)
def test_what_is_written_otherwise_is_left_alone(text: str) -> None:
    with pytest.raises(InstallError):
        tables.with_table(text, PATH, VALUES)
