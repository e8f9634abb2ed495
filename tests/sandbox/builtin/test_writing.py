"""Files replaced whole, or not at all."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nono_sandbox import builtin
from nono_sandbox.builtin import editing, writing


def write(path: Path, content: str) -> dict[str, Any]:
    return builtin.answer("write_file", {"path": str(path), "content": content})[0]


def edit(path: Path, *edits: tuple[str, str], dry_run: bool = False, all_: bool = False) -> Any:  # noqa: ANN401 - JSON
    wanted = [{"old": old, "new": new, "all": all_} for old, new in edits]
    request = {"path": str(path), "edits": wanted, "dry_run": dry_run}
    header, body = builtin.answer("edit_file", request)
    return header.get("error") or body.decode("utf-8", "surrogateescape")


def nothing_else_in(directory: Path, *names: str) -> bool:
    return sorted(entry.name for entry in directory.iterdir()) == sorted(names)


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files written without a name, or as where there are none without."""
    if request.param == "named":
        monkeypatch.setattr(writing, "_nameless", lambda *_: False)


@pytest.mark.usefixtures("way")
def test_a_file_is_made_with_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert write(path, "é\n")["created"]
    assert path.read_text() == "é\n"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert nothing_else_in(path.parent, "file")


@pytest.mark.usefixtures("way")
def test_a_file_keeps_its_mode_and_who_reads_the_old_one_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o750)
    with path.open() as reader:
        assert write(path, "new") == {
            "path": str(path),
            "size_bytes": 3,
            "created": False,
            "in_place": "",
        }
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert nothing_else_in(tmp_path, "file")


def test_a_reader_sees_the_old_or_the_new_and_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = {"a" * 300_000, "b" * 200_000}
    path.write_text("a" * 300_000)
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(50):
        for content in sorted(contents):
            write(path, content)
    done.set()
    reader.join()
    assert seen <= contents


def test_a_symlink_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    (tmp_path / "dangling").symlink_to("made")
    write(tmp_path / "dangling", "x")
    assert (tmp_path / "made").read_text() == "x"


@pytest.mark.linux
def test_hard_links_and_attributes_are_kept_by_writing_in_place(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("a longer text")
    other.hardlink_to(path)
    assert write(path, "new")["in_place"] == "it has other hard links"
    assert other.read_text() == "new"
    other.unlink()
    os.setxattr(path, "user.note", b"kept")
    assert write(path, "newer")["in_place"] == "it has attributes"
    assert os.getxattr(path, "user.note") == b"kept"
    assert path.read_text() == "newer"


@pytest.mark.parametrize(
    ("made", "told"),
    [(os.mkdir, "a directory: name a file in it"), (os.mkfifo, "no regular file")],
    ids=["directory", "fifo"],
)
def test_what_is_no_file_is_left_alone(
    tmp_path: Path, made: Callable[[Path], None], told: str
) -> None:
    made(tmp_path / "thing")
    assert write(tmp_path / "thing", "x")["error"] == f"it is {told}"
    assert nothing_else_in(tmp_path, "thing")


@pytest.mark.parametrize("end", ["/", "/.", "/..", "//"])
def test_a_path_that_names_a_directory_makes_no_file(tmp_path: Path, end: str) -> None:
    (tmp_path / "file").write_text("as it was")
    for name in ("new", "file", "new/er"):
        request = {"path": f"{tmp_path}/{name}{end}", "content": "x"}
        header, _ = builtin.answer("write_file", request)
        assert header["error"] == "its end names a directory: name a file"
    edit = {"path": f"{tmp_path}/file{end}", "edits": [{"old": "as", "new": "is"}]}
    assert "names a directory" in str(builtin.answer("edit_file", edit)[0]["error"])
    assert (tmp_path / "file").read_text() == "as it was"
    assert nothing_else_in(tmp_path, "file")


class Meanwhile:
    """Somebody who acts in the moment before a file takes its place."""

    def __init__(self, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
        from nono_sandbox import _uapi  # noqa: PLC0415  # it's Linux's alone

        self._act: Callable[[], object] | None = act
        for module, name in ((_uapi, "rename_in"), (os, "link")):
            monkeypatch.setattr(module, name, self._after(getattr(module, name)))

    def _after(self, do: Callable[..., object]) -> Callable[..., object]:
        def act_and_do(*args: object, **options: object) -> object:
            act, self._act = self._act, None
            if act is not None:
                act()
            return do(*args, **options)

        return act_and_do


@pytest.mark.linux
@pytest.mark.usefixtures("way")
def test_a_change_made_meanwhile_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("one two")
    Meanwhile(lambda: path.write_text("somebody else's"), monkeypatch)
    assert "changed meanwhile" in edit(path, ("one", "1"))
    assert path.read_text() == "somebody else's"
    assert nothing_else_in(tmp_path, "file")
    replacement = tmp_path / "replacement"
    replacement.write_text("theirs.")
    Meanwhile(lambda: replacement.rename(path), monkeypatch)
    assert "changed meanwhile" in edit(path, ("else", "x"))
    assert path.read_text() == "theirs."
    made = tmp_path / "made"
    Meanwhile(lambda: made.write_text("theirs"), monkeypatch)
    assert "meanwhile" in write(made, "ours")["error"]
    assert made.read_text() == "theirs"
    assert nothing_else_in(tmp_path, "file", "made")


@pytest.mark.usefixtures("way")
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    assert write(path, "new")["errno"] == 28
    assert path.read_text() == "old"
    assert nothing_else_in(tmp_path, "file")


KILLED = """
import os, signal, sys
from nono_sandbox import _uapi, builtin
path, number = sys.argv[1:]
left = int(number)
def killed_around(do):
    def act(*args, **options):
        count()
        try:
            return do(*args, **options)
        finally:
            count()
    return act
def count():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
for name in ("open", "fchmod", "link", "unlink"):
    setattr(os, name, killed_around(getattr(os, name)))
_uapi.rename_in = killed_around(_uapi.rename_in)
print(builtin.answer("write_file", {"path": path, "content": "new" * 1000})[0])
"""
LAST = 40
"""More steps than there are: what isn't killed there has done its work."""


@pytest.mark.linux
@pytest.mark.parametrize("old", ["", "old"], ids=["made", "replaced"])
def test_a_write_that_is_killed_leaves_nothing_but_between_two_renames(
    tmp_path: Path, old: str
) -> None:
    left: list[list[str]] = []
    for number in range(LAST):
        directory = tmp_path / str(number)
        directory.mkdir()
        path = directory / "file"
        if old:
            path.write_text(old)
        command = [sys.executable, "-I", "-c", KILLED, str(path), str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        others = [each for each in directory.iterdir() if each != path]
        assert path.exists() or not old
        assert not path.exists() or path.read_text() in (old, "new" * 1000)
        assert all(each.read_text() in (old, "new" * 1000) for each in others)
        if done.returncode == 0:
            assert (path.read_text(), others) == ("new" * 1000, [])
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        left.append([each.name for each in others])
    else:
        pytest.fail("it doesn't end")
    # A new file is there whole or not at all. One that is replaced is beside the other after it
    # was linked, swapped, and until it's removed.
    assert len(list(filter(None, left))) == (4 if old else 0), left


def test_edits_are_exact_and_all_or_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\ntwo\nthree\n")
    assert "edit 2: old is there 2 times (lines 2, 3)" in edit(path, ("one", "1"), ("two", "2"))
    assert "edit 2: old isn't in the file" in edit(path, ("one", "1"), ("four", "4"))
    assert "change nothing" in edit(path, ("one", "one"))
    assert path.read_text() == "one\ntwo\ntwo\nthree\n"
    # The second edit sees what the first one made.
    diff = edit(path, ("one", "1"), ("1\ntwo", "1\n2"), dry_run=True)
    assert diff == "@@ -1,4 +1,4 @@\n-one\n-two\n+1\n+2\n two\n three\n"
    assert path.read_text() == "one\ntwo\ntwo\nthree\n"
    assert edit(path, ("one", "1"), ("1\ntwo", "1\n2")) == diff
    assert path.read_text() == "1\n2\ntwo\nthree\n"
    edit(path, ("t", "T"), all_=True)
    assert path.read_text() == "1\n2\nTwo\nThree\n"


def test_an_edit_that_cant_be_shown_for_want_of_memory_isnt_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("one\n")

    def full(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(editing, "unified", full)
    with pytest.raises(MemoryError):
        edit(path, ("one", "1"))
    assert path.read_text() == "one\n"


def test_what_isnt_utf8_and_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"caf\xe9\r\none\r\ntwo\r\n")
    edit(path, ("one\ntwo", "1\n2"))
    assert path.read_bytes() == b"caf\xe9\r\n1\r\n2\r\n"
    edit(path, ("1", "1\n1.5"))
    assert path.read_bytes() == b"caf\xe9\r\n1\r\n1.5\r\n2\r\n"
    path.write_bytes(b"some\r\none\ntwo\n")
    edit(path, ("one", "one\n1.5"))
    assert path.read_bytes() == b"some\r\none\n1.5\ntwo\n"
    path.write_bytes(b"\0\xff binary \xfe")
    edit(path, ("binary", "still"))
    assert path.read_bytes() == b"\0\xff still \xfe"


def test_a_text_that_was_copied_badly_is_pointed_at(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("def f():\n    one\n    two\n")
    assert "at line 2 but for spaces or line ends" in edit(path, ("one\n  two", "x"))
    assert "first line is at line 2, and then" in edit(path, ("one\n    three", "x"))
    path.write_bytes("one\n".encode("utf-16"))
    assert "UTF-16" in edit(path, ("one", "x"))


@pytest.mark.parametrize("change", [(3, 4), (0, 1), (9_000, 9_001), (4_000, 9_000)])
def test_a_diff_can_be_applied(tmp_path: Path, change: tuple[int, int]) -> None:
    lines = [f"line {n}" for n in range(9_001)]
    before = "\n".join(lines)
    path, patched = tmp_path / "file", tmp_path / "patched"
    for one in (path, patched):
        one.write_text(before)
    start, end = change
    old = "\n".join(lines[start:end])
    diff = edit(path, (old + "\n" if end < 9_001 else old, "new\n" * (end - start)))
    text = f"--- a/patched\n+++ b/patched\n{diff}"
    subprocess.run(["git", "apply", "-"], input=text, text=True, cwd=tmp_path, check=True)
    assert patched.read_text() == path.read_text()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12).map("\n".join),
    st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12).map("\n".join),
)
def test_what_a_diff_says_went_and_came_is_what_did(old: str, new: str) -> None:
    diff = editing.unified(old.encode(), new.encode()).decode()
    gone, come = old.split("\n"), new.split("\n")
    at = 0
    # Applied by hand: a hunk's place in the new file is what it says.
    found: list[str] = []
    for line in diff.splitlines():
        if line.startswith("@@"):
            place = int(re.findall(r"-(\d+)", line)[0])
            start = place - 1 if re.findall(r"-\d+(,0)? ", line) != [",0"] else place
            found += gone[at:start]
            at = start
        elif line.startswith("+"):
            found.append(line[1:])
        elif not line.startswith("\\"):
            assert gone[at] == line[1:]
            found += [line[1:]] if line.startswith(" ") else []
            at += 1
    found += gone[at:]
    assert [one for one in found if one] == [one for one in come if one]


@pytest.mark.claim("files.bounded-diff")
def test_a_diff_of_very_many_lines_costs_little(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\n" * 30_000_000 + b"one\n" + b"\n" * 2_000_000)
    script = (
        "import resource, sys; from nono_sandbox import builtin; "
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20)); "
        "edits = [{'old': sys.argv[2].replace('N', chr(10)), 'new': sys.argv[3], 'all': True}]; "
        "request = {'path': sys.argv[1], 'edits': edits, 'dry_run': True}; "
        "header, body = builtin.answer('edit_file', request); print(header, len(body), body[:40])"
    )
    for old, new, told in (("one", "two", "@@ -29999998,7"), ("N", "x", "@@ -1,32000001 +1,1 ")):
        command = [sys.executable, "-c", script, str(path), old, new]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert told in done.stdout, done
        assert "MemoryError" not in done.stderr
