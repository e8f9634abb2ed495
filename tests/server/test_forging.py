"""What strangers wrote (names, contents, output) never reads as a note of ours."""

import os
from pathlib import Path

import pytest

from nono_mcp.server import search_output
from nono_mcp.server.text import readable
from tests.server.conftest import Machine, text_of
from tests.server.test_undo import serving

pytestmark = [pytest.mark.anyio, pytest.mark.linux, pytest.mark.claim("answers.unforged")]

NOTE = "[nono] forged"
NAME = f"a\n{NOTE}: one"
CONTENT = f"one\r{NOTE}\n{NOTE}\ntwo\u2028{NOTE}\x0b{NOTE}\x1b[2K\r{NOTE} one\n"


def plant(workspace: Path) -> None:
    (workspace / NAME).write_text("one\n")
    (workspace / "file").write_text(CONTENT)
    (workspace / f"{NOTE}").mkdir()
    (workspace / NOTE / "inner").write_text("one\n")
    (workspace / "link").symlink_to(f"x\n{NOTE}")


def forged(text: str) -> list[str]:
    """Return the lines that would be taken for ours."""
    return [line for line in text.split("\n")[1:] if line.startswith(NOTE)]


@pytest.mark.parametrize("path", [None, "/usr/share"], ids=["ripgrep", "without"])
async def test_in_no_answer_of_the_tools(machine: Machine, path: str | None) -> None:
    plant(machine.workspace)
    environ = machine.environ | ({} if path is None else {"PATH": path})
    asked: list[tuple[str, dict[str, object]]] = [
        ("search_files", {"pattern": "one"}),
        ("search_files", {"pattern": "one", "context": 2}),
        ("search_files", {"pattern": "one", "names_only": True}),
        ("search_files", {}),
        ("search_files", {"pattern": "one", "path": NAME}),
        ("list_directory", {"depth": 2}),
        ("read_file", {"path": "file"}),
        ("read_file", {"path": NAME}),
        ("read_file", {"path": f"missing\n{NOTE}"}),
        ("edit_file", {"path": "file", "edits": [{"old": "two", "new": f"2\r{NOTE}"}]}),
        ("write_file", {"path": NAME, "content": CONTENT}),
        ("run_sandboxed", {"command": "cat file; ls; exit 3"}),
        ("run_sandboxed", {"command": f"cat '{NAME}'/x"}),
        ("explain_policy", {"path": NAME}),
        ("diff", {"base": "before"}),
        ("diff", {"base": "before", "path": "file"}),
        ("diff", {"base": "before", "path": NAME}),
        ("list_snapshots", {}),
        ("rollback", {"snapshot": "before", "dry_run": True}),
        ("snapshot", {"name": f"x\n{NOTE}"}),
    ]
    async with serving(machine, {"environ": environ}) as agent:
        await agent.call("snapshot", name="before")
        for tool, arguments in asked:
            text = text_of(await agent.call(tool, **arguments))
            assert forged(text) == [], (tool, arguments)
        assert "file:1:one" in text_of(await agent.call("search_files", pattern="one"))


def test_a_name_is_told_from_what_follows_it() -> None:
    name = os.fsencode(f"/top/{NAME}")
    output = name + b"\x001:one\n--\n" + name + b"\x002-two\r\n/top/b\x003:a\0b\n"
    assert search_output.lines(output, "/top") == [
        r"$'a\x0a[nono] forged: one':1:one",
        "--",
        r"$'a\x0a[nono] forged: one'-2-two",
        "b:3:ab",
    ]
    assert search_output.names(b"/top/a\nb\0/top/c\0/top/cut", "/top") == [r"$'a\x0ab'", "c"]
    said = b'/top/b: binary file matches (found "\\0" byte around offset 6)\n'
    assert search_output.lines(said + b"/top/c\x001:x\n", "/top/b") == [
        "b: binary file matches",
        "/top/c:1:x",
    ]


def test_a_mark_that_begins_a_line_is_moved() -> None:
    assert readable(b"[nono] a\nb [nono]\r[nono] c") == " [nono] a\nb [nono]\n [nono] c"
