"""A session's way out: real clients through it, what it lends to a call, and what it records."""

import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha1, sha512
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pip
import pytest

from nono_mcp import gateway, held_scratch
from nono_mcp.commands import CommandError
from nono_mcp.policy import egress
from nono_mcp.policy.document import Document, FilesystemSection, NetworkSection
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.policy.request import Request
from nono_mcp.server import hints
from nono_mcp.session import Command, Result, Session
from nono_proxy import proxy
from nono_sandbox.client import ForkServer
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from tests.proxy.world import PUBLIC, Roots

pytestmark = [pytest.mark.linux, pytest.mark.anyio]
KEY = "real-key-" + os.urandom(12).hex()
HOSTS = (
    *("api.github.com", "github.com", "pypi.org", "registry.npmjs.org", "api.openai.com"),
    *("plain.test", "other.test"),
)
LONG_ENOUGH_S = 120
PYTHON = str(Path(sys.base_prefix).resolve())
# Where Python is kept in somebody's home, which is theirs alone.
BYPASS = (PYTHON,) if PYTHON.startswith(("/root/", "/home/")) else ()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Web(ThreadingHTTPServer):
    """Every host of the web that there is here: files beneath the host's own directory."""

    daemon_threads = True

    def __init__(self, root: Path, roots: Roots) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket = roots.context(*HOSTS).wrap_socket(self.socket, server_side=True)
        self.root = root
        self.heard: list[tuple[str, str, str]] = []

    @property
    def asked(self) -> set[tuple[str, str]]:
        """Return the hosts that were asked and the credentials that they were shown."""
        return {(host, credential) for host, _, credential in self.heard}

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away."""


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def translate_path(self, path: str) -> str:
        host = self.headers["host"].partition(":")[0]
        assert host in HOSTS
        self.server.heard.append((host, path, self.headers.get("authorization", "")))
        found = f"{self.server.root}/{host}{urlsplit(path).path}"
        return f"{found}/index.html" if Path(found).is_dir() else found

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class World:
    """A person's machine, and the web around it."""

    root: Path
    web: Web
    tier: str
    asked: list[str]

    def __post_init__(self) -> None:
        for name in ("home", "work", "tmp"):
            (self.root / name).mkdir()

    @contextlib.asynccontextmanager
    async def session(self, log: Any = None, **rules: Any) -> AsyncIterator[Session]:  # noqa: ANN401
        rules.setdefault("sources", tuple((name, f"file://{self.root}/key")
                                          for name in rules.get("credentials", ())))  # fmt: skip
        request = Request(
            workspace=str(self.root / "work"),
            tier=self.tier,
            environ={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            home=str(self.root / "home"),
            state_dir=str(self.root / "state"),
            config_dir=str(self.root / "config"),
            tmpdir=str(self.root / "tmp"),
            flags=Document(
                filesystem=FilesystemSection(read=(PYTHON, sys.prefix), bypass=BYPASS),
                network=NetworkSection(**rules),
            ),
        )
        async with Session.open(request, tier=self.tier, log=log) as session:
            yield session

    async def run(self, script: str, **rules: Any) -> str:  # noqa: ANN401
        """Run a script in a session of its own; return what it wrote."""
        async with self.session(**rules) as session:
            return (await ran(session, script))[1]


async def ran(session: Session, script: str, **fields: Any) -> tuple[Result, str]:  # noqa: ANN401
    output: list[bytes] = []
    with anyio.fail_after(LONG_ENOUGH_S):
        command = Command(("/bin/sh", "-c", script), **fields)
        result = await session.run(command, on_output=output.append)
    return result, b"".join(output).decode()


@pytest.fixture(scope="session")
def _namespaces_missing() -> str:
    with contextlib.closing(ForkServer.start()) as server:
        return server.reason


@pytest.fixture(params=[NAMESPACES, LANDLOCK])
def tier(request: pytest.FixtureRequest, _namespaces_missing: str) -> str:
    if request.param == NAMESPACES and _namespaces_missing:
        pytest.skip(_namespaces_missing)
    wanted: str = request.param
    return wanted


@pytest.fixture
def world(tmp_path: Path, tier: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    roots = Roots()
    config_of = egress.config
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    with Web(tmp_path / "web", roots) as web:
        made = World(tmp_path, web, tier, [])

        async def resolver(host: str) -> Sequence[str]:
            made.asked.append(host)
            return [PUBLIC]

        async def connector(address: str, _port: int) -> Any:  # noqa: ANN401
            assert address == PUBLIC
            return await proxy.tcp_connector("127.0.0.1", web.server_port)

        monkeypatch.setattr(
            gateway, "Proxy", partial(proxy.Proxy, resolver=resolver, connector=connector)
        )
        monkeypatch.setattr(
            egress,
            "config",
            lambda rules, tier: replace(config_of(rules, tier), upstream_roots_pem=roots.pem),
        )
        thread = threading.Thread(target=web.serve_forever, args=(0.02,))
        thread.start()
        yield made
        web.shutdown()
        thread.join()


def serve(world: World, host: str, path: str, content: bytes) -> None:
    file = world.web.root / host / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_curl_reaches_what_is_named(world: World) -> None:
    serve(world, "plain.test", "page", b"a page\n")
    script = """
        curl -sS https://plain.test/page
        curl -sS https://other.test/ || echo refused $?
        curl -sS --noproxy '*' --connect-timeout 5 https://plain.test/page || echo direct $?
    """
    said = await world.run(script, allow_domains=("plain.test",))
    assert "a page\n" in said
    assert "refused 56" in said
    assert "direct" in said
    assert world.asked == ["plain.test"]
    assert world.web.asked == {("plain.test", "")}


async def test_a_call_is_told_which_hosts_were_refused_it(world: World) -> None:
    script = "curl -sS https://other.test/; curl -sS http://third.test:81/; curl -sS other.test:443"
    async with world.session(allow_domains=("plain.test",)) as session:
        result, _ = await ran(session, script)
        later, _ = await ran(session, "true")
    refused = [(one.host, one.port) for one in result.hosts_refused]
    assert refused == [("other.test", 443), ("third.test", 81)]
    told = hints.of_hosts(session.prepared, result.hosts_refused)
    assert told.startswith("net.host: the proxy refused other.test:443 (and 1 more): ")
    assert told.endswith("(request_access asks them): add --allow-domain other.test:443")
    assert later.hosts_refused == ()


@pytest.mark.claim("grants.hosts-given-later")
@pytest.mark.parametrize("before", [(), ("plain.test",)])
async def test_a_host_given_later_is_for_later_calls_alone(
    world: World, before: tuple[str, ...]
) -> None:
    serve(world, "other.test", "page", b"a page\n")
    fetch = "curl -sS https://other.test/page"
    work = world.root / "work"
    said: dict[str, str] = {}

    async def run(session: Session) -> None:
        waiting = f"touch begun; until [ -e go ]; do :; done; {fetch}"
        said["running"] = (await ran(session, waiting))[1]

    with anyio.fail_after(LONG_ENOUGH_S):
        async with (
            world.session(allow_domains=before) as session,
            anyio.create_task_group() as group,
        ):
            group.start_soon(run, session)
            while not (work / "begun").exists():  # noqa: ASYNC110 - all it can say
                await anyio.sleep(0.01)
            said["first"] = (await ran(session, fetch))[1]
            await session.grant_host("other.test")
            said["later"] = (await ran(session, fetch))[1]
            (work / "go").touch()
    assert said["later"] == "a page\n"
    assert "a page" not in said["running"] + said["first"]
    assert world.web.asked == {("other.test", "")}


@pytest.mark.claim("grants.hosts-given-later")
@pytest.mark.parametrize(
    ("host", "rules", "why"),
    [
        ("other.test", {"deny_domains": ("other.test",)}, "denied by"),
        ("other.test", {"deny_domains": ("*.test",)}, "denied by"),
        ("*.other.test", {"deny_domains": ("*.test",)}, "denied by"),
        ("127.0.0.1", {}, "loopback address"),
        ("169.254.169.254", {"allow_addresses": ("0.0.0.0/0",)}, "metadata service"),
        ("metadata.google.internal", {}, "metadata service"),
        ("other.test/page", {}, "isn't a host"),
        ("other.test", {"mode": "ports", "connect_ports": (9,)}, "the network is ports"),
        ("other.test", {"mode": "open"}, "the network is open"),
    ],
)
async def test_a_host_that_would_stay_out_of_reach_isnt_given(
    world: World, host: str, rules: dict[str, Any], why: str
) -> None:
    rules.setdefault("mode", "proxy")
    async with world.session(**rules) as session:
        before = session.prepared, session.fork_server_pid
        with pytest.raises((PolicyError, RefusedError), match=why):
            await session.grant_host(host)
        assert (session.prepared, session.fork_server_pid) == before


async def test_curl_uses_a_credential_at_a_host_of_its_own(world: World) -> None:
    serve(world, "api.github.com", "user", b"me\n")
    said = await world.run(
        'curl -sS -H "Authorization: Bearer $GH_TOKEN" https://api.github.com/user; echo $GH_TOKEN',
        credentials=("github",),
    )
    assert said.startswith("me\nghp_")
    assert KEY not in said
    assert world.web.asked == {("api.github.com", f"Bearer {KEY}")}


async def test_a_credential_goes_to_no_other_host(world: World) -> None:
    serve(world, "plain.test", "user", b"me\n")
    await world.run(
        'curl -sS -H "Authorization: Bearer $GH_TOKEN" https://plain.test/user',
        credentials=("github",),
        allow_domains=("plain.test",),
    )
    assert not any(KEY in credential for _, credential in world.web.asked)


def publish(world: World) -> None:
    """Put a repository on the web, as files."""
    source = world.root / "source"
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@test", "-C", str(source)]
    subprocess.run(["git", "init", "-q", source], check=True)
    (source / "file").write_text("content\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    bare = world.web.root / "github.com" / "me" / "it.git"
    bare.parent.mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, bare], check=True)
    subprocess.run(["git", "-C", bare, "update-server-info"], check=True)


async def test_git_clones_a_private_repository(world: World) -> None:
    publish(world)
    said = await world.run(
        "git clone -q https://github.com/me/it.git it && cat it/file", credentials=("github",)
    )
    assert said.endswith("content\n"), said
    assert world.web.asked == {("github.com", basic("x-access-token", KEY))}
    written = [path for path in (world.root / "work").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in written)


def wheel() -> bytes:
    name = "nono_test_thing"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr(f"{name}.py", "print('installed')\n")
        about = f"{name}-1.0.dist-info"
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{about}/RECORD", "")
    return data.getvalue()


async def test_pip_installs_from_its_index(world: World) -> None:
    name = "nono_test_thing-1.0-py3-none-any.whl"
    page = f'<a href="https://pypi.org/files/{name}">{name}</a>'
    serve(world, "pypi.org", "simple/nono-test-thing/index.html", page.encode())
    serve(world, "pypi.org", f"files/{name}", wheel())
    thing = "nono_test_thing"
    # Without the test's own .pth files, which lead to where nothing is granted.
    python = f"PYTHONPATH=here:{Path(pip.__file__).parents[1]} {sys.executable} -S -m"
    install = f"{python} pip --no-cache-dir --disable-pip-version-check install -q --no-deps"
    said = await world.run(
        f"{install} --target here nono-test-thing; {python} {thing}",
        allow_domains=("pypi.org",),
    )
    assert "installed" in said, said


def package() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as file:
        about = json.dumps({"name": "nono-thing", "version": "1.0.0", "main": "i.js"}).encode()
        for name, content in (("package.json", about), ("i.js", b"console.log('installed')")):
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm; CI installs it")
async def test_npm_installs_by_its_registry_with_a_token(world: World) -> None:
    data = package()
    dist = {
        "tarball": "https://registry.npmjs.org/nono-thing/-/nono-thing-1.0.0.tgz",
        "shasum": sha1(data).hexdigest(),  # noqa: S324 - npm's own
        "integrity": "sha512-" + base64.b64encode(sha512(data).digest()).decode(),
    }
    version = {"name": "nono-thing", "version": "1.0.0", "dist": dist}
    listing = {
        "name": "nono-thing",
        "versions": {"1.0.0": version},
        "dist-tags": {"latest": "1.0.0"},
    }
    serve(world, "registry.npmjs.org", "nono-thing/-/nono-thing-1.0.0.tgz", data)
    (world.web.root / "registry.npmjs.org" / "nono-thing" / "index.html").write_text(
        json.dumps(listing)
    )
    script = """
        export HOME=$TMPDIR
        where=$(echo "$npm_config_registry" | sed 's/^http://')
        echo "$where:_authToken=$NPM_TOKEN" > .npmrc
        npm install --no-audit --no-fund --no-update-notifier nono-thing
        node node_modules/nono-thing/i.js
    """
    said = await world.run(script, credentials=("npm",))
    assert "installed" in said, said
    assert {credential for _, credential in world.web.asked} <= {"", f"Bearer {KEY}"}
    assert ("registry.npmjs.org", f"Bearer {KEY}") in world.web.asked


PYTHON_CLIENTS = {
    "urllib": "import urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())",
    "requests": "import requests; print(requests.get(sys.argv[1]).text)",
    "httpx2": "import httpx2; print(httpx2.get(sys.argv[1]).text)",
}


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
@pytest.mark.parametrize("client", PYTHON_CLIENTS)
async def test_clients_in_python_need_no_word(world: World, client: str) -> None:
    serve(world, "plain.test", "page", b"a page")
    code = f"import sys; {PYTHON_CLIENTS[client]}"
    script = f"{sys.executable} -I -c '{code}' https://plain.test/page"
    said = await world.run(script, allow_domains=("plain.test",))
    assert said == "a page\n", said


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node; CI installs it")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
async def test_node_fetches_by_a_base_url(world: World) -> None:
    serve(world, "api.openai.com", "v1/models", b"[]")
    code = """
        const url = process.env.OPENAI_BASE_URL + "/models";
        const headers = {Authorization: `Bearer ${process.env.OPENAI_API_KEY}`};
        fetch(url, {headers}).then(r => r.text()).then(t => console.log("got", t));
    """
    (world.root / "work" / "ask.mjs").write_text(code)
    assert await world.run("node ask.mjs", credentials=("openai",)) == "got []\n"
    assert world.web.asked == {("api.openai.com", f"Bearer {KEY}")}


ASK = "curl -sS -o /dev/null -w '%{http_code}\\n' "
ASK_OPENAI = ASK + '-H "Authorization: Bearer $KEY" $OPENAI_BASE_URL/models'


@pytest.mark.claim("credential.of-the-call")
async def test_a_phantom_is_worth_nothing_once_its_call_has_ended(world: World) -> None:
    serve(world, "api.openai.com", "v1/models", b"[]")
    async with world.session(credentials=("openai",)) as session:
        _, first = await ran(session, "echo $OPENAI_API_KEY")
        _, second = await ran(session, f"echo $OPENAI_API_KEY; KEY=$OPENAI_API_KEY; {ASK_OPENAI}")
        phantom, status = second.splitlines()
        assert status == "200"
        assert phantom != first.strip()
        for old in (first.strip(), phantom, phantom.upper(), phantom[:-1], KEY, "sk-made-up"):
            _, said = await ran(session, f"KEY={old}; {ASK_OPENAI}")
            assert said.strip() in ("401", "403"), old
    assert len(world.web.heard) == 1


async def test_a_call_may_reach_less_than_its_session(world: World) -> None:
    for host in ("plain.test", "other.test"):
        serve(world, host, "page", b"a page")
    script = "".join(
        f"{ASK} https://{host}/page || true\n" for host in ("plain.test", "other.test")
    )
    async with world.session(allow_domains=("plain.test", "other.test")) as session:
        assert (await ran(session, script))[1].split() == ["200", "200"]
        world.web.heard.clear()
        _, said = await ran(session, script, hosts=("plain.test",))
        assert said.splitlines()[0] == "200"
        assert {host for host, _, _ in world.web.heard} == {"plain.test"}
        world.web.heard.clear()
        await ran(session, script, hosts=("plain.test", "more.test", "*.test"))
        await ran(session, script, hosts=())
        await ran(session, script, network_closed=True)
        with pytest.raises(CommandError, match="hosts: "):
            await ran(session, script, hosts=("https://plain.test",))
    assert {host for host, _, _ in world.web.heard} <= {"plain.test", "other.test"}
    assert world.asked.count("more.test") == 0


async def test_hosts_say_nothing_where_the_policy_has_no_proxy(world: World) -> None:
    async with world.session() as session:
        with pytest.raises(CommandError, match="this policy names none"):
            await ran(session, "true", hosts=("plain.test",))


class Log:
    """A log that keeps what it's told in memory, or can't be written."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, object]]] = []
        self.full = False

    def append(self, kind: str, fields: dict[str, object]) -> None:
        if self.full and kind in ("network", "denial", "credential"):
            raise OSError("no space left")
        self.records.append((kind, dict(fields)))

    def commit(self, value: bytes) -> dict[str, object]:
        return {"size": len(value)}

    def of(self, kind: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.records if name == kind]


async def test_every_decision_is_a_record_of_its_call(world: World) -> None:
    serve(world, "api.openai.com", "v1/models", b"[]")
    log = Log()
    script = f"KEY=$OPENAI_API_KEY; {ASK_OPENAI}?secret=1; {ASK} https://other.test/ || true"
    async with world.session(log, credentials=("openai",)) as session:
        result, _ = await ran(session, script)
    allowed, denied = sorted(log.of("network"), key=lambda one: str(one["decision"]))
    assert (allowed["host"], allowed["path"], allowed["status"]) == (
        "api.openai.com",
        "/v1/models",
        200,
    )
    assert (denied["host"], denied["decision"]) == ("other.test", "deny")
    (use,) = log.of("credential")
    assert (use["name"], use["source"]) == ("openai", f"file://{world.root}/key")
    assert use["fingerprint"]
    assert {fields["call"] for fields in (allowed, use)} == {result.id}
    text = json.dumps(log.records)
    assert KEY not in text
    assert "secret=1" not in text.replace(json.dumps(script)[1:-1], "")


async def test_what_cant_be_recorded_doesnt_go_on(world: World) -> None:
    serve(world, "api.openai.com", "v1/models", b"[]")
    log = Log()
    log.full = True
    script = f"KEY=$OPENAI_API_KEY; {ASK_OPENAI}; {ASK_OPENAI}; {ASK_OPENAI}"
    async with world.session(log, credentials=("openai",)) as session:
        _, said = await ran(session, script)
    assert said.split()[-2:] == ["503", "503"]
    assert len(world.web.heard) <= 1


async def test_calls_at_once_have_phantoms_of_their_own(world: World) -> None:
    serve(world, "api.openai.com", "v1/models", b"[]")
    phantoms: list[str] = []

    async def one(session: Session) -> None:
        _, said = await ran(session, f"KEY=$OPENAI_API_KEY; echo $KEY; {ASK_OPENAI}")
        phantom, status = said.splitlines()
        assert status == "200"
        phantoms.append(phantom)

    async with (
        world.session(credentials=("openai",)) as session,
        anyio.create_task_group() as group,
    ):
        for _ in range(4):
            group.start_soon(one, session)
    assert len(set(phantoms)) == 4


def test_nothing_is_left_of_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    way = gateway.SessionProxy(LANDLOCK, str(tmp_path / "state"))
    assert len(list(tmp_path.glob("nono-*"))) == 1
    way.end()
    assert list(tmp_path.glob("nono-*")) == []
    assert list((tmp_path / "state" / held_scratch.FOLDER).iterdir()) == []
