"""What was there comes back to the letter, and what fails changes nothing."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_mcp.install import edit, writing
from nono_mcp.install.errors import InstallError
from nono_mcp.install.hosts import HOSTS, Host

LOCAL = {name: host.local() for name, host in HOSTS.items()}
BY_HTTP = {name: host.by_http("http://127.0.0.1/mcp/a", "TOKEN") for name, host in HOSTS.items()}
JSON = {
    "empty": "",
    "blank": "\n\n",
    "an object": "{}",
    "no end of line": '{"a": 1}',
    "one line": '{"mcpServers": {"other": {"command": "x"}}, "b": [1,2]} \n',
    "no servers": '{\n  "mcpServers": {}\n}\n',
    "tabs": '{\n\t"mcpServers": {\n\t\t"other": {\n\t\t\t"command": "x"\n\t\t}\n\t}\n}',
    "comments": '// a\n{ // b\n    "a": 1, /* c */\n    "mcpServers": {},\n    // d\n}\n// e\n',
    "other ends": '{\r\n  "a": "b"\r\n}\r\n',
    "mixed ends": '{\r\n  "a": "b"\n}\r\n\n',
    "a mark": "\ufeff{\n}\n",
    "a mark and other ends": '\ufeff{\r\n\t"a": {}\r\n}',
}
TOML = {
    "empty": "",
    "a comment": "# mine",
    "tables": '# mine\nmodel = "x" # good\n\n[mcp_servers.other]\ncommand = "y"\n\n\n',
    "an empty table": "[mcp_servers]\n# none yet\n",
    "no end of line": '\tmodel\t=\t"x"',
    "other ends": 'text = """\r\na\r\n"""\r\n[a]\r\nb = 1\r\n',
    "mixed ends": "a = 1\r\nb = 2\n\n",
    "a mark": "\ufeffa = 1\n",
}
DOCUMENTS = [
    *((name, what, text) for name in ("cursor", "vscode") for what, text in JSON.items()),
    *(("codex", what, text) for what, text in TOML.items()),
]


def do(host: Host, path: Path, *, uninstall: bool = False) -> None:
    planned = edit.plan(host, str(path), uninstall=uninstall)
    if planned.changes:
        writing.write(planned)


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize(
    ("name", "text"),
    [one[::2] for one in DOCUMENTS],
    ids=[f"{name}, {what}" for name, what, _ in DOCUMENTS],
)
def test_a_file_comes_back_to_the_letter(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode())
    path.chmod(0o464)
    for hosts in ((LOCAL,), (BY_HTTP,), (LOCAL, BY_HTTP), (BY_HTTP, LOCAL, BY_HTTP)):
        for host in hosts:
            do(host[name], path)
            assert path.stat().st_mode & 0o777 == 0o464
            assert path.with_name("file.before-nono").read_bytes() == text.encode()
        do(HOSTS[name], path, uninstall=True)
        assert path.read_bytes() == text.encode()
        assert path.stat().st_mode & 0o777 == 0o464
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("what", ["other ends", "a mark and other ends"])
def test_our_lines_end_and_begin_as_the_others(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(JSON[what].encode())
    do(LOCAL["cursor"], path)
    data = path.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") > 5
    unit = b"\t" if "\t" in JSON[what] else b"  "
    assert b'\r\n%b"nono": {\r\n%b"command"' % (unit * 2, unit * 3) in data


def test_what_the_person_wrote_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for theirs, left in (
        ("{}\n", '{\n  "b": 2\n}\n'),
        ('{"mcpServers": {}}\n', '{"mcpServers": {},\n  "b": 2\n}\n'),
    ):
        path.write_text(theirs)
        do(LOCAL["cursor"], path)
        held = path.read_text()
        path.write_text(held.rstrip().removesuffix("}").rstrip() + ',\n  "b": 2\n}\n')
        do(HOSTS["cursor"], path, uninstall=True)
        assert path.read_text() == left
        path.with_name("file.before-nono").unlink()


def test_what_the_person_added_to_ours_is_kept_when_it_is_installed_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("{}\n")
    do(LOCAL["cursor"], path)
    path.write_text(path.read_text().replace('"serve",', '"serve", "--read-only",'))
    changed = path.read_text()
    do(BY_HTTP["cursor"], path)
    assert path.with_name("file.before-nono").read_text() == changed
    do(HOSTS["cursor"], path, uninstall=True)
    assert path.read_text() == "{}\n"


def test_a_file_stays_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("{}")
    if os.geteuid() == 0:
        os.chown(path, 4321, 4322)
    owner = path.stat().st_uid, path.stat().st_gid
    do(LOCAL["cursor"], path)
    assert {(one.stat().st_uid, one.stat().st_gid) for one in tmp_path.iterdir()} == {owner}


def everything(top: Path) -> dict[str, tuple[int, bytes]]:
    """Return what is beneath *top*: each with its mode, and what it holds."""
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in top.rglob("*")
    }


@pytest.mark.parametrize("kept", ["an older one", ""])
@pytest.mark.parametrize("failing", ["file", "file.before-nono"])
def test_a_step_that_fails_undoes_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, kept: str
) -> None:
    """As where a container has a file mounted: it can be read and written, and not replaced."""
    path = tmp_path / "file"
    path.write_text('{"a": 1}')
    if kept:
        path.with_name("file.before-nono").write_text(kept)
    path.chmod(0o444)
    before = everything(tmp_path)
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == failing and self.name.endswith(".new"):
            raise OSError(16, "Device or resource busy")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InstallError, match="busy"):
        do(LOCAL["cursor"], path)
    assert everything(tmp_path) == before


def failed(tmp_path: Path, *arguments: str, file_bytes_max: int = -1) -> str:
    """Install in a project where that fails, with a new token, and return what was told."""
    (tmp_path / "project").mkdir(exist_ok=True)
    before = everything(tmp_path)
    url = ("--url", "http://127.0.0.1:8080", "--token-file", str(tmp_path / "token"))

    def limit() -> None:
        if file_bytes_max >= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    done = subprocess.run(
        # -B: compiled modules would be cut short too, and Python doesn't notice.
        [sys.executable, "-P", "-B", "-m", "nono_mcp", "install", *arguments, *url],
        cwd=tmp_path / "project",
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert everything(tmp_path) == before
    return done.stderr


def test_nothing_is_left_where_there_is_no_room(tmp_path: Path) -> None:
    """A token goes into the file's first bytes, and the configuration doesn't fit."""
    assert "can't be written" in failed(tmp_path, "cursor", file_bytes_max=64)
    config = tmp_path / "project" / ".cursor" / "mcp.json"
    config.parent.mkdir()
    config.write_text("{}")
    config.chmod(0o444)
    assert "can't be written" in failed(tmp_path, "cursor", file_bytes_max=64)
    assert "token" in failed(tmp_path, "cursor", file_bytes_max=10)


def test_nothing_is_left_where_nothing_can_be_made(tmp_path: Path) -> None:
    assert "can't be written" in failed(tmp_path, "claude-code", "--project", "/proc")


def test_nothing_is_left_beside_a_file_that_is_not_understood(tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text("[mcp_servers")
    assert "isn't TOML" in failed(tmp_path, "codex")
    (tmp_path / ".codex" / "config.toml").write_text('mcp_servers = {nono = {command = "x"}}')
    assert "by hand" in failed(tmp_path, "codex")
