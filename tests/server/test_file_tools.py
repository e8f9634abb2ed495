"""The file tools act with a confined worker's rights, and with no others."""

import base64
import os
import stat
from typing import Any

import anyio
import pytest

from nono_mcp.policy.document import Document, FilesystemSection, NetworkSection
from nono_mcp.policy.errors import quoted
from nono_mcp.server import file_answers
from tests.sandbox.builtin.test_reading import PNG
from tests.server.conftest import ERAS, SECRET, Agent, Connect, Machine, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

EDIT: dict[str, Any] = {"edits": [{"old": "a", "new": "b"}]}


async def told(agent: Agent, tool: str, **arguments: object) -> str:
    answer = await agent.call(tool, **arguments)
    assert not answer.is_error, text_of(answer)
    # That what it changed is told as well, test_undo sees to.
    return text_of(answer).partition("\n[nono] changed: ")[0]


async def test_a_file_is_written_read_edited_found_and_listed(
    connect: Connect, machine: Machine
) -> None:
    path = machine.workspace / "src" / "file.py"
    async with connect() as agent:
        assert await told(agent, "write_file", path="src/file.py", content="one\ntwo\n") == (
            f"made {path}, 8 bytes"
        )
        assert await told(agent, "read_file", path="src/file.py") == (
            f"{path}: lines 1-2 of 2, 8 bytes\none\ntwo"
        )
        assert await told(agent, "read_file", path=str(path), limit=1) == (
            f"{path}: line 1 of 2, 8 bytes\none\n[nono] more: offset 2"
        )
        edits = [{"old": "two", "new": "2"}]
        diff = "@@ -1,2 +1,2 @@\n one\n-two\n+2"
        planned = await told(agent, "edit_file", path=str(path), edits=edits, dry_run=True)
        assert planned == f"{path}: 1 replacement (dry run: nothing is changed)\n{diff}"
        assert path.read_text() == "one\ntwo\n"
        assert await told(agent, "edit_file", path=str(path), edits=edits) == (
            f"{path}: 1 replacement\n{diff}"
        )
        assert path.read_text() == "one\n2\n"
        assert await told(agent, "list_directory", depth=2) == (
            f"{machine.workspace}: 2 entries\nsrc/\nsrc/file.py  6"
        )
        for pattern in ("^one", "^o(?=n)"):
            found = await agent.call("search_files", pattern=pattern)
            # The second is an expression that Python knows and ripgrep doesn't.
            assert found.is_error or text_of(found) == (
                f"in {machine.workspace}:\nsrc/file.py:1:one"
            )
        assert await told(agent, "search_files", globs=["*.py"], path="src") == (
            f"in {machine.workspace}/src:\nfile.py"
        )


async def test_a_search_is_the_same_without_ripgrep(connect: Connect, machine: Machine) -> None:
    for name in ("a.py", "b.txt", "sub/a.py"):
        path = machine.workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("zero\none\ntwo\n")
    (machine.workspace / "dos.txt").write_bytes(b"zero\r\ntwelve\r\n" + b"\r\n" * 5 + b"twelve")
    asked: list[dict[str, Any]] = [
        {"pattern": "one"},
        {"pattern": "ONE", "ignore_case": True, "context": 1},
        {"pattern": "o", "globs": ["*.py"], "names_only": True},
        {"globs": ["!*.py"]},
        {"pattern": "e.o", "literal": True},
        {"pattern": "one", "path": "a.py"},
        {"pattern": "twelve$", "context": 1},
        {"globs": ["*.{py,rs}"]},
        {"globs": ["sub/*"], "path": "sub"},
    ]
    async with connect() as agent:
        answers = [await told(agent, "search_files", **one) for one in asked]
    async with connect(environ={**machine.environ, "PATH": "/usr/share"}) as agent:
        assert [await told(agent, "search_files", **one) for one in asked] == answers
        assert "No such file" in await agent.refused("search_files", pattern="x", path="missing")
        assert "pattern: " in await agent.refused("search_files", pattern="(")
        assert "glob '[a'" in await agent.refused("search_files", globs=["[a"])
    assert answers[1].startswith(f"in {machine.workspace}:\na.py-1-zero\na.py:2:one\n")


@pytest.mark.parametrize("era", ERAS[1:], indirect=True)
async def test_what_is_no_file_is_told_so_at_once(connect: Connect, machine: Machine) -> None:
    """Where one waits for somebody at the other end of a pipe, or reads on, it takes a minute."""
    os.mkfifo(machine.workspace / "fifo")
    os.mknod(machine.workspace / "socket", stat.S_IFSOCK | 0o600)
    (machine.workspace / "link").symlink_to("fifo")
    asked: dict[str, dict[str, Any]] = {
        "read_file": {},
        "write_file": {"content": "x"},
        "edit_file": {"edits": [{"old": "x", "new": "y"}]},
        "search_files": {"pattern": "x"},
        "list_directory": {},
    }
    async with connect() as agent:
        for path in ("fifo", "link", "socket", "/dev/zero"):
            for tool, arguments in asked.items():
                why = await agent.refused(tool, path=path, **arguments)
                kind = "Not a directory" if tool == "list_directory" else "no regular file"
                assert kind in why, (tool, path)
        assert "fifo|" in await told(agent, "list_directory")
        assert "nothing" in await told(agent, "search_files", pattern="x")


@pytest.mark.claim("files.tools-confined")
async def test_no_program_or_setting_of_a_calls_searches_for_us(
    connect: Connect, machine: Machine
) -> None:
    (machine.workspace / ".git").mkdir()
    (machine.workspace / "a.py").write_text("one\n")
    bins = [machine.home / "bin", machine.workspace / "bin"]
    path = ":".join((*map(str, bins), machine.environ["PATH"]))
    plant = "mkdir -p ~/bin bin; for d in ~/bin bin; do for p in rg readlink; do "
    plant += "printf '#!/bin/sh\nexit 1\n' > $d/$p; chmod +x $d/$p; done; done; "
    plant += "mkdir -p ~/.config/git; echo '*' > ~/.config/git/ignore"
    async with connect(environ={**machine.environ, "PATH": path}) as agent:
        assert "exit status 0" in await agent.run(plant)
        assert await told(agent, "search_files", pattern="one") == (
            f"in {machine.workspace}:\na.py:1:one"
        )
        assert "allowed" in await agent.explain(path="a.py")
        (machine.workspace / "link").symlink_to(machine.home / "notes.txt")
        assert "notes.txt" in await agent.explain(path="link")


async def test_an_image_is_shown(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "shot.png").write_bytes(PNG)
    async with connect() as agent:
        text, image = (await agent.call("read_file", path="shot.png")).content
    assert text.type == "text"
    assert text.text == f"{quoted(str(machine.workspace / 'shot.png'))}: image/png, 264 bytes"
    assert image.type == "image"
    assert (image.mime_type, base64.b64decode(image.data)) == ("image/png", PNG)


@pytest.mark.claim("files.tools-confined")
async def test_no_secret_is_read_by_any_way(connect: Connect, machine: Machine) -> None:
    key, workspace = machine.home / ".ssh" / "id_ed25519", machine.workspace
    (workspace / "link").symlink_to(key)
    (workspace / "up").symlink_to(machine.home)
    ways = [str(key), "link", "up/.ssh/id_ed25519", "up/notes.txt", "~/.ssh/id_ed25519"]
    ways += [f"../home/{name}" for name in (".ssh/id_ed25519", "notes.txt")]
    ways += [f"/proc/self/root{key}", "/proc/1/environ", "/proc/self/environ"]
    async with connect() as agent:
        assert "fs.protected: " in await agent.refused("read_file", path=str(key))
        assert "fs.protected: " in await agent.refused("read_file", path="link")
        for way in ways:
            for tool in ("read_file", "list_directory", "search_files"):
                more = {"pattern": ".", "everything": True} if tool == "search_files" else {}
                answer = await agent.call(tool, path=way, **more)
                assert SECRET not in text_of(answer)
            writing: dict[str, dict[str, Any]] = {"edit_file": EDIT, "write_file": {"content": "x"}}
            for tool, more in writing.items():
                assert SECRET not in text_of(await agent.call(tool, path=way, **more))
        for path in (workspace, machine.root):
            answer = await agent.call("search_files", path=str(path), pattern="correct")
            assert SECRET not in text_of(answer)
    assert key.read_text() == SECRET
    assert (machine.home / "notes.txt").read_text() == SECRET


@pytest.mark.claim("files.tools-confined")
async def test_nothing_is_written_where_the_policy_lets_nothing_be_written(
    connect: Connect, machine: Machine
) -> None:
    outside, data = machine.root / "outside", machine.root / "data"
    for directory in (outside, data):
        directory.mkdir()
        (directory / "file").write_text("a")
    (machine.workspace / "out").symlink_to(outside)
    (machine.workspace / "file").symlink_to(data / "file")
    flags = Document(filesystem=FilesystemSection(read=(str(data),)))
    async with connect(flags=flags) as agent:
        for path in ("out/new", "out/file"):
            answer = await agent.call("write_file", path=path, content="x")
            # In the first tier that leads to a place in the sandbox's own /tmp.
            assert "fs." in text_of(answer)
        for path in ("file", str(data / "new")):
            refused = await agent.refused("write_file", path=path, content="x")
            assert refused.startswith("fs."), refused
            assert "you may write: " in refused
        assert (await agent.refused("edit_file", path="file", **EDIT)).startswith("fs.read-only")
    for directory in (outside, data):
        assert [entry.name for entry in directory.iterdir()] == ["file"]
        assert (directory / "file").read_text() == "a"


@pytest.mark.claim("files.tools-confined")
async def test_a_name_that_leads_elsewhere_by_turns_leads_to_no_secret(
    connect: Connect, machine: Machine
) -> None:
    (machine.workspace / "mine").write_text("mine")
    script = (
        "while :; do ln -sfn mine x; ln -sfn ../home/notes.txt x; "
        "rm -f y; mkdir y; rmdir y; ln -s ../home y; rm y; done"
    )
    acts: dict[str, dict[str, Any]] = {
        "read_file": {},
        "edit_file": EDIT,
        "write_file": {"content": "mine"},
    }
    async with connect() as agent:
        swapper = await anyio.open_process(["sh", "-c", script], cwd=machine.workspace)
        try:
            for _ in range(25):
                for tool, more in acts.items():
                    assert SECRET not in text_of(await agent.call(tool, path="x", **more))
                answer = await agent.call("write_file", path="y/notes.txt", content="x")
                assert SECRET not in text_of(answer)
        finally:
            swapper.kill()
            await swapper.aclose()
    assert (machine.home / "notes.txt").read_text() == SECRET


@pytest.mark.claim("guard.put-right")
async def test_a_file_that_doesnt_stay_is_said_not_to(connect: Connect, machine: Machine) -> None:
    path = machine.workspace / ".envrc"
    (machine.workspace / "link").symlink_to(".envrc")
    async with connect() as agent:
        for name in (".envrc", "link"):
            answer = await told(agent, "write_file", path=name, content="a")
            assert f"[nono] taken away again: {path} " in answer
            assert not path.exists()


async def test_a_file_that_is_granted_alone_is_written_where_it_stands(
    connect: Connect, machine: Machine
) -> None:
    (machine.root / "data").mkdir()
    path = machine.root / "data" / "file"
    path.write_text("a longer text")
    flags = Document(filesystem=FilesystemSection(allow_file=(str(path),)))
    async with connect(flags=flags) as agent:
        answer = await told(agent, "write_file", path=str(path), content="short")
        assert "not in one step: " in answer
    assert path.read_text() == "short"


async def test_what_only_reads_is_all_that_a_read_only_policy_offers(connect: Connect) -> None:
    async with connect(profile="read-only") as agent:
        offered = {tool.name: tool.annotations for tool in (await agent.client.list_tools()).tools}
    assert {"read_file", "list_directory", "search_files"} <= set(offered)
    assert not {"write_file", "edit_file"} & set(offered)
    async with connect(flags=Document(network=NetworkSection("open"))) as agent:
        for tool in (await agent.client.list_tools()).tools:
            if tool.name in ("read_file", "list_directory", "search_files"):
                assert tool.annotations is not None
                assert tool.annotations.read_only_hint
                assert not tool.annotations.open_world_hint


WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("read_file", {"path": "missing"}, "missing: No such file or directory"),
    ("read_file", {"path": "."}, "list_directory"),
    ("read_file", {"path": ""}, "bad arguments: path"),
    ("read_file", {}, "bad arguments: path"),
    ("read_file", {"path": "x", "limit": 0}, "bad arguments: limit"),
    ("read_file", {"path": "x" * 300}, "File name too long"),
    ("read_file", {"path": "a\0b"}, "NUL"),
    ("list_directory", {"path": "missing"}, "No such file"),
    ("list_directory", {"path": "file"}, "Not a directory"),
    ("write_file", {"path": "file/x", "content": ""}, "file: it is no directory"),
    ("write_file", {"path": ".", "content": ""}, "its end names a directory"),
    ("write_file", {"path": "new/", "content": ""}, "new/: its end names a directory"),
    ("read_file", {"path": "/proc/1/root/x"}, "/proc/1/root"),
    ("edit_file", {"path": "file", "edits": []}, "bad arguments: edits"),
    (
        "edit_file",
        {"path": "file", "edits": [{"old": "", "new": "x"}]},
        "edits[0].old: must have at least 1 characters",
    ),
    ("edit_file", {"path": "missing", **EDIT}, "No such file"),
    ("search_files", {"pattern": "("}, "("),
    ("search_files", {"pattern": "x{999}{9999}"}, "size limit"),
    ("search_files", {"pattern": "a\nb"}, "not allowed"),
    ("search_files", {"globs": ["[a"]}, "[a"),
    ("search_files", {"pattern": "x", "path": "/etc/shadow"}, "/etc/shadow"),
    ("search_files", {"pattern": "x", "context": 100}, "bad arguments: context"),
)


async def test_what_is_wrong_is_told_on_one_line(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "file").write_text("text")
    async with connect() as agent:
        for tool, arguments, text in WRONG:
            refused = await agent.refused(tool, **arguments)
            assert text in refused
            assert len(refused) < 2000
            assert (machine.workspace / "file").read_text() == "text"


async def test_output_is_bounded(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "long").write_text("needle in a line\n" * 5000)
    (machine.workspace / "many").mkdir()
    for number in range(1500):
        (machine.workspace / "many" / f"a-name-that-is-not-short-{number}").touch()
    async with connect() as agent:
        for tool, arguments, note in (
            ("read_file", {"path": "long"}, "more: offset "),
            ("search_files", {"pattern": "needle"}, "narrow the search"),
            ("list_directory", {"path": "many"}, "1500 entries, the first "),
            ("search_files", {"path": "many"}, "narrow the search"),
        ):
            answer = await told(agent, tool, **arguments)
            assert len(answer) <= 10_000
            assert note in answer
        assert len(await told(agent, "read_file", path="long", limit=2000)) > 30_000


async def test_a_file_of_holes_is_no_trouble(connect: Connect, machine: Machine) -> None:
    with (machine.workspace / "holes").open("wb") as stream:
        stream.truncate(60 * 1024 * 1024)
    async with connect() as agent:
        assert "isn't in the file" in await agent.refused("edit_file", path="holes", **EDIT)
        assert "binary" in await told(agent, "read_file", path="holes")


async def test_a_name_that_isnt_utf8_is_told_as_a_shell_takes_it(
    connect: Connect, machine: Machine
) -> None:
    for link, target in (("link", b"odd\xff"), ("nowhere", b"none\xff")):
        (machine.workspace / link).symlink_to(os.fsdecode(target))
    odd = f"$'{machine.workspace}/odd\\xff'"
    async with connect() as agent:
        assert await told(agent, "write_file", path="link", content="a") == f"made {odd}, 1 bytes"
        assert (await told(agent, "edit_file", path="link", **EDIT)).startswith(f"{odd}: 1 repl")
        listed = await told(agent, "list_directory")
        assert "\nlink -> $'odd\\xff'\n" in listed
        assert listed.endswith("\n$'odd\\xff'  1")
        assert "none\\xff': No such" in await agent.refused("read_file", path="nowhere")
    assert (machine.workspace / os.fsdecode(b"odd\xff")).read_text() == "b"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no JSON",
        b"[" * 1_000_000,
        b'{"error": "x"',
        b'{"error": 1}',
        b'{"path": "/x", "total": 1, "entries": [["a", "", "1", ""]]}',
        b'{"path": "/x", "total": 1, "entries": [["a", "", 1]]}',
        b'{"path": "/x", "total": 1, "entries": [], "more": 1}',
        b'{"path": null, "total": 1, "entries": []}',
        b'{"path": "/x", "total": %s, "entries": []}' % (b"1" * 10_000),
    ],
)
def test_an_answer_that_is_none_is_taken_for_none(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        file_answers.parse(file_answers.Listing, line + b"\nbody")
