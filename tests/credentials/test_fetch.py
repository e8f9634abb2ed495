"""Fetching: each source for real, and everything that must not come out of it."""

import base64
import json
import logging
import os
import pickle
import resource
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nono_mcp.credentials import fetch, source
from nono_mcp.credentials.keychain import Keychain
from nono_mcp.credentials.secret import CredentialError, Secret, secret
from nono_mcp.credentials.vault import Vault
from tests.audit.adversary import Backend as AuditBackend

VALUE = "sk-the-real-one-0123456789"


class Backend(AuditBackend):
    def delete_password(self, service: str, username: str) -> None:
        self._require_unlocked()
        del self.entries[service, username]


SELECTABLE = 1024
"""So many descriptors select(2) takes."""


def read(text: str, sources: fetch.Sources | None = None) -> str:
    return fetch.fetch(source.parse(text), sources or fetch.Sources({})).value.reveal()


def private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_file_is_read_less_one_line_break(tmp_path: Path) -> None:
    assert read(f"file://{private(tmp_path / 'key', b'abc')}") == "abc"
    assert read(f"file://{private(tmp_path / 'key', b'abc' + os.linesep.encode())}") == "abc"
    assert read(f"file://{private(tmp_path / 'key', 'schlüssel'.encode())}") == "schlüssel"


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"a\n\n", b"a\nb", b"a\r\nInjected: x", b"a\0", b"\xff", b" a", b"a" * 20000],
)
def test_what_cant_stand_in_a_header_is_no_value(tmp_path: Path, content: bytes) -> None:
    path = private(tmp_path / "key", content)
    with pytest.raises(CredentialError, match="key: "):
        read(f"file://{path}")


def test_a_file_others_may_read_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "key", b"abc")
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(CredentialError, match="others have access"):
            read(f"file://{path}")


def test_what_is_no_file_is_refused_and_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "link").symlink_to(private(tmp_path / "key", b"abc"))
    for name in ("pipe", "link", "nothing", ""):
        with pytest.raises(CredentialError):
            read(f"file://{tmp_path / name}")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
@pytest.mark.linux
def test_a_file_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "key", b"abc")
    os.chown(path, 12345, 12345)
    with pytest.raises(CredentialError, match="belongs to uid 12345"):
        read(f"file://{path}")


def test_a_variable_is_taken_out_of_the_environment() -> None:
    environ = {"KEY": VALUE, "OTHER": "stays"}
    named = {"a": source.parse("env://KEY"), "b": source.parse("env://MISSING")}
    taken = fetch.take(named, environ)
    assert environ == {"OTHER": "stays"}
    assert read("env://KEY", fetch.Sources(taken)) == VALUE
    with pytest.raises(CredentialError, match="no such variable"):
        read("env://MISSING", fetch.Sources(taken))
    with pytest.raises(CredentialError, match="no such variable"):
        read("env://HOME", fetch.Sources(taken))


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/usr/bin/env python3\n{text}\n")
    path.chmod(0o700)
    return path


def test_a_command_is_asked_without_a_shell(tmp_path: Path) -> None:
    program = script(tmp_path / "tool", "import sys; print('|'.join(sys.argv[1:]))")
    assert read(f"cmd://{program} '$HOME' `id` a\\;b") == "$HOME|`id`|a;b"


def test_a_command_is_asked_whatever_else_is_open(tmp_path: Path) -> None:
    program = script(tmp_path / "tool", "print('value')")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(SELECTABLE + 64, hard), hard))
    opened: list[int] = []
    try:
        while not opened or opened[-1] < SELECTABLE:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        assert read(f"cmd://{program}") == "value"
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_a_command_says_on_failing_is_repeated_to_nobody(tmp_path: Path) -> None:
    program = script(
        tmp_path / "tool",
        f"import sys; print('{VALUE}'); print('{VALUE}', file=sys.stderr); exit(3)",
    )
    with pytest.raises(CredentialError, match="status 3") as caught:
        read(f"cmd://{program} {VALUE}")
    assert VALUE not in repr(caught.getrepr(style="long"))


def test_a_command_that_never_answers_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)  # noqa: FBT003
    program = script(
        tmp_path / "tool",
        f"import os, time\nos.open('{tmp_path}/began', os.O_CREAT)\nos.fork(); time.sleep(600)",
    )
    monkeypatch.setattr(fetch, "COMMAND_S_MAX", 1.0)
    real = subprocess.Popen

    def with_pipe(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        return real(*args, pass_fds=[write_end], **kwargs)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(subprocess, "Popen", with_pipe)
    with pytest.raises(CredentialError, match="no answer"):
        read(f"cmd://{program}")
    os.close(write_end)
    # The pipe's end comes when nobody holds its other end any more.
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_a_command_that_never_stops_writing_is_ended(tmp_path: Path) -> None:
    program = script(tmp_path / "tool", "while True: print('x' * 4096)")
    with pytest.raises(CredentialError, match="wrote over"):
        read(f"cmd://{program}")


def test_op_and_bw_are_found_where_only_administrators_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    own = tmp_path / "own"
    own.mkdir()
    for name in ("op", "bw"):
        script(planted / name, "print('planted')")
    monkeypatch.setenv("PATH", f"{planted}:/usr/bin:/bin")
    monkeypatch.setattr(fetch, "PROGRAMS", (str(own),))
    with pytest.raises(CredentialError, match="there is no op in"):
        read("op://Work/OpenAI/key")
    for name in ("op", "bw"):
        script(own / name, "import sys; print(' '.join(sys.argv[1:]))")
    assert read("op://Work/OpenAI/key") == "read --no-newline op://Work/OpenAI/key"
    assert read("bw://OpenAI") == "get password OpenAI --raw"


def test_the_keychain_keeps_and_gives(tmp_path: Path) -> None:
    ring = Keychain(Backend(), "test keychain")
    sources = fetch.Sources({}, lambda: ring)
    with pytest.raises(CredentialError, match="nono credential set openai"):
        read("keyring://nono/openai", sources)
    ring.set("openai", Secret(VALUE))
    assert read("keyring://nono/openai", sources) == VALUE
    ring.remove("openai")
    with pytest.raises(CredentialError, match="no such entry"):
        ring.remove("openai")
    assert list(tmp_path.iterdir()) == []


def test_a_locked_keychain_says_so_and_no_more() -> None:
    backend = Backend()
    backend.locked = True
    with pytest.raises(CredentialError, match="can't be used: KeyringLocked"):
        Keychain(backend, "test keychain").set("openai", Secret(VALUE))


class Server(ThreadingHTTPServer):
    """An authorisation server that answers as it's told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.asked.append((self.headers["authorization"], body))
        status, headers, data = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def authority() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def token(lifetime_s: float | None = 3600) -> bytes:
    fields: dict[str, object] = {"access_token": VALUE, "token_type": "Bearer"}
    if lifetime_s is not None:
        fields["expires_in"] = lifetime_s
    return json.dumps(fields).encode()


def oauth(server: Server) -> str:
    return f"oauth2://a%3Ab@127.0.0.1:{server.server_port}/token?secret=env://S&scope=read"


SECRET = fetch.Sources({"S": Secret("s/e cret")})


def test_a_client_secret_is_exchanged_for_a_token(authority: Server) -> None:
    authority.answer = (200, {}, token())
    found = fetch.fetch(source.parse(oauth(authority)), SECRET)
    assert found.value.reveal() == VALUE
    assert found.lifetime_s == 3600
    basic = base64.b64encode(b"a%3Ab:s%2Fe+cret").decode()
    assert authority.asked == [(f"Basic {basic}", "grant_type=client_credentials&scope=read")]


@pytest.mark.parametrize(
    "answer",
    [
        (401, {}, VALUE.encode()),
        (200, {}, VALUE.encode()),
        (200, {}, b'["' + VALUE.encode() + b'"]'),
        (200, {}, b'{"access_token": "' + VALUE.encode() + b'", "token_type": "mac"}'),
        (200, {}, b'{"access_token": "x\\r\\ny", "token_type": "bearer"}'),
        (200, {}, b"x" * 100_000),
    ],
)
def test_an_answer_that_is_no_token_is_repeated_to_nobody(
    authority: Server, answer: tuple[int, dict[str, str], bytes]
) -> None:
    authority.answer = answer
    with pytest.raises(CredentialError) as caught:
        read(oauth(authority), SECRET)
    assert VALUE not in repr(caught.getrepr(style="long"))


def test_the_client_secret_follows_no_redirect(authority: Server) -> None:
    other = f"http://127.0.0.1:{authority.server_port}/elsewhere"
    authority.answer = (307, {"location": other}, b"")
    with pytest.raises(CredentialError, match="answered 307"):
        read(oauth(authority), SECRET)
    assert len(authority.asked) == 1


def test_the_client_secret_passes_no_proxy_of_the_environment(
    authority: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    authority.answer = (200, {}, token())
    assert read(oauth(authority), SECRET) == VALUE


def vault_of(text: str, sources: fetch.Sources, clock: Callable[[], float]) -> Vault:
    return Vault({"it": source.parse(text)}, sources, clock)


def test_many_who_ask_at_once_make_one_exchange(authority: Server) -> None:
    authority.answer = (200, {}, token())
    vault = vault_of(oauth(authority), SECRET, lambda: 0.0)
    threads = [threading.Thread(target=vault.get, args=("it",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(authority.asked) == 1


def test_a_token_is_replaced_before_its_end(authority: Server) -> None:
    now = [0.0]
    authority.answer = (200, {}, token(100))
    vault = vault_of(oauth(authority), SECRET, lambda: now[0])
    for at_s, exchanges in ((0, 1), (69, 1), (71, 2), (72, 2)):
        now[0] = at_s
        vault.get("it")
        assert len(authority.asked) == exchanges


def test_a_value_is_held_briefly_and_a_failure_for_a_moment(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "key"
    vault = vault_of(f"file://{path}", fetch.Sources({}), lambda: now[0])
    with pytest.raises(CredentialError, match="no such file"):
        vault.get("it")
    private(path, b"one")
    with pytest.raises(CredentialError, match="no such file"):
        vault.get("it")
    now[0] = 3.0
    assert vault.get("it").reveal() == "one"
    before = vault.use("it")
    private(path, b"two")
    now[0] = 60.0
    assert vault.get("it").reveal() == "one"
    now[0] = 64.0
    assert vault.get("it").reveal() == "two"
    assert vault.use("it").source == before.source == f"file://{path}"
    assert vault.use("it").fingerprint != before.fingerprint
    vault.forget()
    assert vault.use("it").fingerprint == ""


def test_only_what_was_named_is_fetched() -> None:
    with pytest.raises(CredentialError, match="no credential 'other'"):
        vault_of("env://HOME", fetch.Sources({}), lambda: 0.0).get("other")


def test_a_secret_shows_itself_to_nobody_who_didnt_ask(caplog: pytest.LogCaptureFixture) -> None:
    it = secret(VALUE, "it")
    logging.getLogger("test").warning("%s %r %s", it, it, [it])
    for text in (str(it), repr(it), f"{it}", repr([it]), caplog.text):
        assert VALUE not in text
    with pytest.raises(TypeError):
        pickle.dumps(it)
    assert it.fingerprint(b"1") != it.fingerprint(b"2")
    assert it.fingerprint(b"1") == secret(VALUE, "again").fingerprint(b"1")


def test_names_are_kept_and_nothing_else(tmp_path: Path) -> None:
    from nono_mcp.credentials import keychain  # noqa: PLC0415

    state = str(tmp_path / "state")
    assert keychain.names(state) == []
    for name in ("openai", "github", "openai"):
        keychain.note(state, name, kept=True)
    assert keychain.names(state) == ["github", "openai"]
    keychain.note(state, "openai", kept=False)
    assert keychain.names(state) == ["github"]
    (path,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
