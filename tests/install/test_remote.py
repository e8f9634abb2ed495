"""An agent's host that is told of a server by HTTP."""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nono_mcp.install import edit, remote, writing
from nono_mcp.install.errors import InstallError
from nono_mcp.install.hosts import HOSTS, Host
from nono_mcp.server.addressing import asked
from tests.install.test_edit import install

URL = "http://127.0.0.1:8080"
REFERENCES = {
    "claude-code": "Bearer ${NONO_TOKEN}",
    "cursor": "Bearer ${env:NONO_TOKEN}",
    "gemini": "Bearer ${NONO_TOKEN}",
    "opencode": "Bearer {env:NONO_TOKEN}",
    "vscode": "Bearer ${input:nono-token}",
}


def put(host: Host, path: Path) -> Any:  # noqa: ANN401 - whatever the host reads
    """Do to the file what is asked for, and return our entry in it, if it's there."""
    planned = edit.plan(host, str(path), uninstall=False)
    if planned.changes:
        writing.write(planned)
    return entry(host, path)


def entry(host: Host, path: Path) -> Any:  # noqa: ANN401 - whatever the host reads
    document = document_of(host, path)
    for name in host.path:
        document = document.get(name, {})
    return document


def document_of(host: Host, path: Path) -> Any:  # noqa: ANN401 - whatever the host reads
    text = path.read_text()
    return tomllib.loads(text) if host.toml else json.loads(text)


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_each_host_is_told_where_and_which_variable_holds_the_token(
    tmp_path: Path, name: str
) -> None:
    host, path = HOSTS[name], tmp_path / "file"
    local = put(host.local(), path)
    told = remote.parse(URL, plain=False).url(name, edit.present(host, str(path)))
    by_http = host.by_http(told, remote.VARIABLE)
    found = put(by_http, path)
    assert found[host.address_key] == told
    if name == "codex":
        assert found["bearer_token_env_var"] == "NONO_TOKEN"  # noqa: S105 - a variable
    else:
        assert found["headers"] == {"Authorization": REFERENCES[name]}
    assert not {"command", "args"} & {*found}
    again = remote.parse(f"{URL}/mcp", plain=False).url(name, edit.present(host, str(path)))
    assert again == told
    assert not edit.plan(by_http, str(path), uninstall=False).changes
    assert put(host.local(), path) == local
    put(by_http, path)
    writing.write(edit.plan(host, str(path), uninstall=True))
    assert not list(tmp_path.iterdir())


def test_each_client_has_a_session_of_its_own_there(tmp_path: Path) -> None:
    address = remote.parse(URL, plain=False)
    urls = [address.url(name, None) for name in (*HOSTS, *HOSTS)]
    assert len({*urls}) == len(urls)
    for url in urls:
        named = asked({"path": url.removeprefix(URL), "headers": [], "method": "POST"})
        assert named is not None
        assert len(named.name) >= 16
    chosen = remote.parse(f"{URL}/mcp/mine", plain=False)
    assert chosen.url("cursor", f"{URL}/mcp/other") == f"{URL}/mcp/mine"
    elsewhere = "http://127.0.0.1:8081/mcp/other"
    assert address.url("cursor", elsewhere) not in (elsewhere, f"{URL}/mcp/other")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1:8080", "no address"),
        ("ftp://127.0.0.1", "no address"),
        ("http://", "no address"),
        ("http://127.0.0.1:port", "no address"),
        ("http://[::1", "no address"),
        ("http://me:secret@127.0.0.1", "more than"),
        ("http://127.0.0.1/mcp?token=secret", "more than"),
        ("http://127.0.0.1:8080 ", "as a space is"),
        (" http://127.0.0.1:8080", "as a space is"),
        ("http://127.0.0.1:8080\n", "as a space is"),
        ("http://127.0.0.1/m\tcp", "as a space is"),
        ("http://a b", "as a space is"),
        ("https://a'b", "as a space is"),
        ('https://a"b', "as a space is"),
        ("https://a`b", "as a space is"),
        ("https://a$b{c}", "as a space is"),
        ("https://a\x00b", "as a space is"),
        ("https://a\x1b[31mb", "as a space is"),
        ("https://a%20b", "as a space is"),
        ("http://127.0.0.1/mcp#x", "more than"),
        ("http://127.0.0.1/other", "answers at /mcp"),
        ("http://127.0.0.1/mcp/a/b", "answers at /mcp|name of a session"),
        ("http://127.0.0.1/mcp/-a", "name of a session"),
        ("http://10.0.0.5:8080", "unencrypted"),
        ("http://localhost.example.com", "unencrypted"),
        ("http://127.0.0.1.nip.io", "unencrypted"),
    ],
)
def test_what_is_no_address_of_a_server_is_refused(text: str, why: str) -> None:
    with pytest.raises(InstallError, match=why) as caught:
        remote.parse(text, plain=False)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["http://localhost", "http://[::1]:80", "https://nono.example.com", "http://127.9.9.9/"]
)
def test_what_needs_no_yes(text: str) -> None:
    assert remote.parse(text, plain=False).base == f"{text.rstrip('/')}/mcp"


def test_vscodes_other_questions_stay(tmp_path: Path) -> None:
    host, path = HOSTS["vscode"].by_http(f"{URL}/mcp/a", ""), tmp_path / "mcp.json"
    theirs = '{"inputs": [{"id": "other"}] /* mine */}'
    path.write_text(theirs)
    with pytest.raises(InstallError, match=r"by hand.*nono-token"):
        put(host, path)
    assert path.read_text() == theirs
    assert host.beside is not None
    path.write_text(json.dumps({"inputs": [{"id": "other"}, *host.beside[1]]}))  # type: ignore[misc]
    put(host, path)
    writing.write(edit.plan(host, str(path), uninstall=True))
    assert {"id": "other"} in document_of(host, path)["inputs"]


def test_a_person_says_it_on_the_command_line(tmp_path: Path) -> None:
    done = install(tmp_path, "codex", "--url", URL, "--token-env", "MINE")
    assert "it takes the token from MINE" in done.stderr
    found = tomllib.loads((tmp_path / "home/.codex/config.toml").read_text())
    assert found["mcp_servers"]["nono"]["bearer_token_env_var"] == "MINE"  # noqa: S105 - a variable
    again = install(tmp_path, "codex", "--url", URL, "--token-env", "MINE")
    assert "nothing to do" in again.stderr
    told = install(tmp_path, "codex", "--url", URL, "--token-env", "s3cret!", status=2).stderr
    assert "--token-env" in told
    assert "s3cret" not in told
    assert "--url" in install(tmp_path, "codex", "--token-env", "A", status=2).stderr


def test_it_is_told_how_the_token_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "the token"
    words = ("codex", "--url", URL, "--token-file", str(file))
    dry = install(tmp_path, *words, "--dry-run")
    assert not file.exists()
    done = install(tmp_path, *words)
    token = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    command = f"export NONO_TOKEN=\"$(cat '{file}')\""
    assert command in done.stderr
    assert command in dry.stderr
    shell = subprocess.run(
        ["sh", "-c", f'{command}; printf %s "$NONO_TOKEN"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shell.stdout == token
    assert token not in done.stdout + done.stderr
    assert install(tmp_path, *words).stdout == ""
    assert file.read_text().strip() == token
    assert str(file) in install(tmp_path, "vscode", *words[1:]).stderr
    file.chmod(0o644)
    assert "others may read" in install(tmp_path, *words, status=1).stderr
    assert "--url" in install(tmp_path, "codex", "--token-file", str(file), status=2).stderr
