"""What a search leaves out and finds, compared with git and, where it is, with ripgrep."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nono_sandbox import builtin
from nono_sandbox.builtin import globs


def raw(
    path: Path, pattern: str | None = None, **changes: object
) -> tuple[dict[str, object], bytes]:
    request: dict[str, object] = {
        "path": str(path),
        "pattern": pattern,
        "globs": [],
        "literal": False,
        "ignore_case": False,
        "context": 0,
        "names_only": False,
        "everything": False,
        "line_max": 100,
        "bytes_max": 100_000,
    }
    return builtin.answer("search_files", request | changes)


def search(path: Path, pattern: str | None = None, **changes: object) -> list[str]:
    header, body = raw(path, pattern, **changes)
    if "error" in header:
        return [str(header["error"])]
    assert header["whole"]
    top = f"{path if path.is_dir() else path.parent}/"
    lines = body.replace(os.fsencode(top), b"").replace(b"\0\n", b"\n")
    if pattern is None or changes.get("names_only"):
        return os.fsdecode(lines).split("\0")[:-1]
    return os.fsdecode(lines.replace(b"\0", b":")).splitlines()


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")


def git_shows(root: Path) -> list[str]:
    """Return the files that git neither ignores nor, for this comparison, calls hidden."""
    command = ["git", "-c", "core.excludesFile=", "ls-files", "-z", "-o", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    found = [name for name in done.stdout.split("\0") if name]
    return sorted(name for name in found if not any(p.startswith(".") for p in name.split("/")))


NAMES = ("a", "b.py", "ab.py", "c/a", "c/d/b.py", "c/d/e/a.txt", "d/c/x", "build/out", "x y", "[z]")
# Stars within a name, as in `a**/b`, are left out: git and ripgrep differ.
PARTS = ["a", "b", "c", "d", "*", "?", "**/", "/", "[ab]", "[!a]", "[a-c]", ".py", "x", "\\*", " "]
LINES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)
LINES = LINES.filter(lambda line: not re.search(r"[^/]\*\*|\*\*[^/]", line.replace("***", "**")))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    make(root, *NAMES)
    return root


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(LINES, min_size=1, max_size=3), st.sampled_from([0, 1]), st.sampled_from(["", "c/"])
)
def test_what_is_ignored_is_what_git_ignores(
    tree: Path,
    lines: list[str],
    negated: int,
    where: str,
) -> None:
    lines = [*lines, f"!{lines[0]}"] if negated else lines
    ignoring = tree / where / ".gitignore"
    ignoring.write_text("\n".join(lines))
    try:
        # What is hidden, and named to be kept, is shown as well.
        found = [name for name in search(tree) if not re.search(r"(^|/)\.", name)]
        assert sorted(found) == git_shows(tree)
    finally:
        ignoring.unlink()


def test_rules_come_from_everywhere_that_git_looks(tmp_path: Path) -> None:
    make(tmp_path, "a", "b", "sub/a", "sub/b", "sub/c", "sub/deep/c", ".hidden", "kept")
    (tmp_path / ".ignore").write_text("kept\n")
    (tmp_path / ".gitignore").write_text("/a\n")
    assert search(tmp_path) == ["a", "b", "sub/a", "sub/b", "sub/c", "sub/deep/c"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("b\n")
    (tmp_path / "sub" / ".gitignore").write_text("c\n!deep/c\n")
    assert search(tmp_path) == ["sub/a", "sub/deep/c"]
    assert search(tmp_path / "sub") == ["a", "deep/c"]
    assert search(tmp_path / "sub" / "deep") == ["c"]
    everything = search(tmp_path, everything=True)
    assert {"a", "b", ".hidden", "kept", "sub/c", ".git/info/exclude"} <= set(everything)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["*.py"], ["a.py", "c/b.py"]),
        (["c/*.py"], ["c/b.py"]),
        (["!*.py"], ["c/d.txt"]),
        (["*.py", "!a.py"], ["c/b.py"]),
        (["c/**"], ["c/b.py", "c/d.txt"]),
        (["*.none"], []),
        (["*.{py,md}"], ["a.py", "c/b.py"]),
        (["{a,c/{b,x}}.py"], ["a.py", "c/b.py"]),
        (["!*.{py,md}"], ["c/d.txt"]),
        (["a{,.py}"], ["a.py"]),
        (["a.{py"], []),
        ([r"*.\{py,md\}"], []),
        (["# not one"], ["a.py", "c/b.py", "c/d.txt"]),
    ],
)
def test_globs_choose_files(
    tmp_path: Path,
    wanted: Sequence[str],
    found: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(tmp_path, "a.py", "c/b.py", "c/d.txt")
    monkeypatch.chdir(tmp_path)
    assert search(tmp_path, globs=wanted) == found


def test_globs_see_names_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "src/a", "src/src/b", "src/c/d")
    monkeypatch.chdir(tmp_path)
    assert search(tmp_path / "src", globs=["src/*"]) == ["a"]
    assert search(tmp_path / "src", globs=["src/**"]) == ["a", "c/d", "src/b"]
    assert search(tmp_path / "src", globs=["/a"]) == []
    monkeypatch.chdir("/")
    assert search(tmp_path / "src", globs=["c/*"]) == []
    assert search(tmp_path / "src", globs=["**/c/*"]) == ["c/d"]


@pytest.mark.parametrize("wanted", ["[a", "\\", "x" * 9000, "{a,b}" * 9])
def test_what_is_no_glob_is_told(tmp_path: Path, wanted: str) -> None:
    (told,) = search(tmp_path, globs=["*", wanted])
    assert told.startswith("glob '")


def test_what_ignoring_files_name_to_be_kept_is_shown_though_hidden(tmp_path: Path) -> None:
    make(tmp_path, ".github/x", ".env", "sub/.kept", "sub/.other")
    (tmp_path / ".ignore").write_text("!.github\n!.kept\n")
    assert search(tmp_path) == [".github/x", "sub/.kept"]


def test_ignoring_files_above_count_without_a_repository(tmp_path: Path) -> None:
    make(tmp_path, "sub/a", "sub/b", "sub/c")
    (tmp_path / ".ignore").write_text("a\n")
    (tmp_path / ".rgignore").write_text("b\n")
    assert search(tmp_path / "sub") == ["c"]


def test_lines_are_found_and_shown(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("first\nSecond (x)\nthird\n\nfifth\nsixth")
    (tmp_path / "two").write_bytes(b"second\r\n" + b"caf\xe9 second\n")
    (tmp_path / "binary").write_bytes(b"second\0")
    assert search(tmp_path / "binary", "second") == ["binary: binary file matches"]
    assert search(tmp_path, "second") == [
        "two:1:second",
        "two:2:caf\udce9 second",
    ]
    assert search(tmp_path, "SECOND (", literal=True, ignore_case=True) == ["one:2:Second (x)"]
    assert search(tmp_path, "^s.*d$") == ["two:1:second"]
    assert search(tmp_path, r"\Asixth\Z") == ["one:6:sixth"]
    assert search(tmp_path, "second", names_only=True) == ["two"]
    assert search(tmp_path / "one", "third|sixth", context=1) == [
        "one:2-Second (x)",
        "one:3:third",
        "one:4-",
        "one:5-fifth",
        "one:6:sixth",
    ]
    assert search(tmp_path / "one", "first|sixth", context=1)[2] == "--"
    assert "pattern: " in search(tmp_path, "(")[0]
    assert "No such file" in search(tmp_path / "missing", "x")[0]


@pytest.mark.parametrize(
    "pattern", [r"one(?!\s)", r"(?<!\s)one", r"(?>one\s*)$", r"one\s*+$", "(?-m:^one$)"]
)
def test_a_line_is_searched_as_if_it_was_all_there_is(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "file").write_text("\n\none\n\ntwo\n")
    assert search(tmp_path, pattern) == ["file:3:one"]
    assert search(tmp_path, r"[^\n]\\n|w[^]\n]") == ["file:5:two"]


def test_encodings_and_long_lines_are_shown_as_ripgrep_shows_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufefffound".encode("utf-16-le"))
    (tmp_path / "b").write_bytes("\ufefffound".encode())
    (tmp_path / "c").write_text("found" + "x" * 200)
    (tmp_path / "d").write_bytes(b"found\n" + b"\n" * 70_000 + b"\0found\n")
    assert search(tmp_path, "^found") == [
        "a:1:found",
        "b:1:found",
        f"c:1:found{'x' * 95} [... omitted end of long line]",
        "d:1:found",
        "d: WARNING: stopped searching binary file after match",
    ]


@pytest.mark.parametrize("pattern", ["[[:alpha:]]", "[a&&b]", "one\ntwo", r"one\ntwo"])
def test_a_pattern_that_would_mean_something_else_is_refused(tmp_path: Path, pattern: str) -> None:
    assert "pattern: " in search(tmp_path, pattern)[0]


def test_what_is_named_and_cant_be_searched_is_told(tmp_path: Path) -> None:
    subprocess.run(["mkfifo", tmp_path / "fifo"], check=True)
    assert "no regular file" in search(tmp_path / "fifo", "x")[0]
    assert "No such file" in search(tmp_path / "missing")[0]


def test_what_cant_be_searched_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "file")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to(".")
    subprocess.run(["mkfifo", tmp_path / "fifo"], check=True)
    assert search(tmp_path, "file") == ["file:1:file"]
    assert search(tmp_path) == ["file"]


@pytest.mark.linux  # where CI installs it
def test_it_is_ripgreps_output(tmp_path: Path) -> None:
    ripgrep = shutil.which("rg")
    if ripgrep is None:
        pytest.skip("no ripgrep to compare with")
    make(tmp_path, "a.py", "c/b.py", "c/d.txt", ".hidden", "ignored")
    (tmp_path / ".ignore").write_text("ignored\n")
    (tmp_path / "c" / "long").write_text("1\n2\n3 py\n4\n5\n6\n7 py\n8\n")
    for options, changes in (
        (["--context=0"], {}),
        (["--context=1"], {"context": 1}),
        (["--files-with-matches"], {"names_only": True}),
        (["--ignore-case", "--hidden", "--no-ignore"], {"everything": True, "ignore_case": True}),
        (["--glob=!*.py"], {"globs": ["!*.py"]}),
        (["--glob=*.{py,txt}", "--glob=!a.*"], {"globs": ["*.{py,txt}", "!a.*"]}),
    ):
        command = [ripgrep, "--no-config", "--sort=path", "-n", "--no-heading", "--null"]
        command += [*options, "py", str(tmp_path)]
        done = subprocess.run(command, check=False, capture_output=True)
        assert raw(tmp_path, "py", **changes) == ({"whole": True, "skipped": []}, done.stdout)


@pytest.mark.parametrize(
    ("glob", "chosen"),
    [
        ("[a-c]", "abc"),
        ("[a-c-e]", "abc-e"),
        ("[--0]", "-./0"),
        ("[+--]", "+,-"),
        ("[a-]", "a-"),
        ("[-a]", "-a"),
        ("[---]", "-"),
        ("[]-a]", "]^_`a"),
        ("[[:digit:]-a]", "0123456789-a"),
        ("[a\\-c]", "a-c"),
    ],
)
def test_a_dash_is_a_range_or_itself(glob: str, chosen: str) -> None:
    found = globs.pattern(glob)
    assert found is not None
    matching = {one for one in map(chr, range(32, 127)) if found.matching.fullmatch(one)}
    assert matching == set(chosen) - {"/"}


def test_a_range_of_none_is_no_pattern() -> None:
    assert globs.pattern("[?--]") is None


@given(st.text(alphabet="ab*?[]!^-\\/{} .", max_size=12))
def test_no_pattern_breaks_the_parser(text: str) -> None:
    for one in globs.parse(text):
        one.matching.fullmatch("a/b")


HOSTILE = [
    ("*a" * 40 + "*b", "a" * 250),
    ("*[ab]?" * 30 + "z", "ab" * 120),
    ("**/a/" * 30 + "b", "a/" * 500 + "c"),
    ("x/" + "**/*a*a/" * 15 + "b", "x/" + "aaaa/" * 400 + "c"),
    ("*a" * 4000 + "b", "a" * 255),
    ("/**" * 2000 + "/b", "a/" * 1000 + "c"),
]


@pytest.mark.claim("files.linear-globs")
@pytest.mark.parametrize(("glob", "path"), HOSTILE, ids=range(len(HOSTILE)))
def test_no_pattern_goes_back_on_what_it_matched(glob: str, path: str) -> None:
    script = "import sys; from nono_sandbox.builtin import globs; "
    script += "print(globs.pattern(sys.argv[1]).matching.fullmatch(sys.argv[2]))"
    command = [sys.executable, "-c", script, glob, path]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "None\n"


def matches(parts: list[str], path: list[str]) -> bool:
    """Match by trying everything."""
    if not parts:
        return not path
    first, rest = parts[0], parts[1:]
    if first == "**":
        least = 0 if rest else 1
        return any(matches(rest, path[n:]) for n in range(least, len(path) + 1))
    return bool(path) and name_matches(first, path[0]) and matches(rest, path[1:])


def name_matches(glob: str, name: str) -> bool:
    if not glob:
        return not name
    if glob[0] == "*":
        return any(name_matches(glob[1:], name[n:]) for n in range(len(name) + 1))
    return bool(name) and glob[0] in ("?", name[0]) and name_matches(glob[1:], name[1:])


@given(
    st.lists(st.text(alphabet="ab*?", min_size=1, max_size=5), min_size=2, max_size=5),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=5), min_size=1, max_size=5),
)
def test_a_pattern_matches_what_trying_everything_matches(
    parts: list[str], names: list[str]
) -> None:
    parts = ["**" if not part.strip("*") and len(part) > 1 else part for part in parts]
    found = globs.pattern("/" + "/".join(parts))
    assert found is not None
    assert bool(found.matching.fullmatch("/".join(names))) is matches(parts, names)
