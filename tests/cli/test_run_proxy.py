"""`nono run` with a way out: what leaves, by whom, with which key, and what can't."""

import json
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_sandbox.confinement import NAMESPACES
from tests.upstream import Upstream

from .conftest import LONG_ENOUGH_S, NONO, Person

pytestmark = pytest.mark.linux
# Put together at run time where it's looked for, so that who looks doesn't find itself.
KEYCHAIN = Path(__file__).parents[1] / "unlocked_keychain.sh"
KEY = "REAL" + "KEY-" + os.urandom(12).hex()

AGENT = """
import json, os, urllib.request
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
request = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions",
    data=json.dumps({"stream": True}).encode(),
    headers={"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]},
)
for line in direct.open(request, timeout=30):
    if line.startswith(b"data: {"):
        print(json.loads(line[6:])["choices"][0]["delta"]["content"], end="", flush=True)
print()
"""

# Where a key could be found: this process's memory and environment, everybody's, every file here.
SEARCH = """
import os, re
mark = re.compile(b"REAL" + b"KEY-[0-9a-f]+")
found = []
def look(where, data):
    found.extend((where, text.decode()) for text in mark.findall(data))
for pid in [*range(1, 300), os.getppid(), "self"]:
    for name in ("environ", "cmdline"):
        try:
            look(f"/proc/{pid}/{name}", open(f"/proc/{pid}/{name}", "rb").read())
        except OSError:
            pass
try:
    memory = open("/proc/self/mem", "rb", 0)
    for line in open("/proc/self/maps"):
        span, rights = line.split()[:2]
        if "r" in rights and "[v" not in line:
            start, end = (int(one, 16) for one in span.split("-"))
            memory.seek(start)
            for _ in range(start, end, 1 << 20):
                look("memory", memory.read(min(1 << 20, end - memory.tell())))
except OSError:
    pass
for top in (os.environ["HOME"], os.environ.get("TMPDIR", "/tmp"), "."):
    for directory, _, names in os.walk(top):
        for name in names:
            try:
                look(f"{directory}/{name}", open(f"{directory}/{name}", "rb").read(1 << 20))
            except OSError:
                pass
print("found", found)
"""


TELL_AND_WAIT = "ulimit -Sn; ulimit -Hn; read line"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream.running() as server:
        yield server


@pytest.fixture
def llm(person: Person, upstream: Upstream) -> Person:
    """Return somebody whose openai is on the loopback, and whose agent is in the workspace."""
    profiles = person.home / ".config" / "nono" / "profiles"
    profiles.mkdir(parents=True)
    profile = profiles / "llm.toml"
    profile.write_text(
        'extends = "default"\n[network]\nallow_addresses = ["127.0.0.0/8"]\n'
        f'[network.routes.openai]\nupstreams = ["127.0.0.1:{upstream.server_port}"]\ntls = false\n'
    )
    profile.chmod(0o600)
    (person.workspace / "agent.py").write_text(AGENT)
    (person.workspace / "search.py").write_text(SEARCH)
    return person


def run(person: Person, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return person.nono("run", *words, environment={"REAL_ONE": KEY, **environment})


def with_key(tier: str) -> list[str]:
    return ["--tier", tier, "--profile", "llm", "--proxy-credential", "openai=env://REAL_ONE"]


def holding(directory: Path, text: str) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if text.encode() in path.read_bytes()]


@pytest.mark.claim("credential.never-held")
def test_a_program_uses_a_key_that_it_never_holds(
    llm: Person, upstream: Upstream, tier: str
) -> None:
    done = run(llm, *with_key(tier), "--", "sh", "-c", "python3 agent.py; python3 search.py; env")
    assert done.returncode == 0, done.stderr
    answer, found, *environment = done.stdout.splitlines()
    assert upstream.keys == {f"Bearer {KEY}"}
    assert answer == "Hello Bearer " + "*" * len(KEY)
    assert found == "found []"
    phantom = next(line for line in environment if line.startswith("OPENAI_API_KEY="))
    assert phantom.startswith("OPENAI_API_KEY=sk-nono")
    assert KEY not in done.stdout + done.stderr
    assert holding(llm.home, KEY) + holding(llm.workspace, KEY) == []


DIRECT = """
import os, socket, sys
def attempt(name, host, port, family=socket.AF_INET):
    try:
        one = socket.socket(family)
        one.settimeout(5)
        one.connect((host, port))
        one.sendall(b"GET /direct HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        print(name, "connected")
    except OSError as error:
        print(name, "refused")
port = int(sys.argv[1])
attempt("upstream", "127.0.0.1", port)
attempt("by another address", "127.0.0.2", port)
attempt("mapped", "::ffff:127.0.0.1", port, socket.AF_INET6)
attempt("far away", "192.0.2.1", 443)
attempt("metadata", "169.254.169.254", 80)
"""


@pytest.mark.claim("net.proxy-only")
def test_nothing_leaves_but_by_the_proxy(llm: Person, upstream: Upstream, tier: str) -> None:
    (llm.workspace / "direct.py").write_text(DIRECT)
    script = f"unset http_proxy HTTP_PROXY; NO_PROXY='*' python3 direct.py {upstream.server_port}"
    done = run(llm, *with_key(tier), "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert "connected" not in done.stdout
    assert done.stdout.count("refused") == 5
    assert upstream.heard == []


ASK = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=30).status)
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
"""


def test_hosts_are_reached_by_name_alone(llm: Person, upstream: Upstream, tier: str) -> None:
    (llm.workspace / "ask.py").write_text(ASK)
    here = f"127.0.0.1:{upstream.server_port}"
    words = [
        "--tier",
        tier,
        "--profile",
        "llm",
        "--allow-domain",
        here,
        "--deny-domain",
        "a.test:80",
    ]
    urls = [f"http://{here}/allowed", "http://a.test/", "http://b.test/", "http://127.0.0.1:9/"]
    done = run(llm, *words, "--", "python3", "ask.py", *urls)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == "200"
    assert [line[:3] for line in others] == ["403", "403", "403"], done.stdout
    assert [path for _, path, _ in upstream.heard] == ["/allowed"]
    assert "the proxy refused" in done.stderr
    assert "b.test" in done.stderr


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("openai:POST:/v1/chat/**", "ok"),
        ("openai:GET:/v1/models", "403"),
        ("openai:POST:/v2/*", "403"),
    ],
)
def test_endpoints_are_all_that_is_used_of_a_provider(
    llm: Person, upstream: Upstream, rule: str, status: str
) -> None:
    words = ["--profile", "llm", "--credential", "openai=env://REAL_ONE", "--allow-endpoint", rule]
    done = run(llm, *words, "--", "python3", "agent.py")
    if status == "ok":
        assert done.stdout.startswith("Hello"), done.stderr
    else:
        assert done.returncode == 1
        assert "403" in done.stderr
        assert upstream.heard == []


def test_without_the_credential_nothing_is_sent(llm: Person, upstream: Upstream) -> None:
    words = ["--profile", "llm", "--credential", "openai=env://NOT_THERE"]
    done = run(llm, *words, "--", "python3", "agent.py")
    assert "503" in done.stderr
    assert "there was no such variable" in done.stderr
    assert upstream.heard == []


def test_the_log_says_what_left_and_with_which_credential(llm: Person, upstream: Upstream) -> None:
    assert run(llm, *with_key("namespaces"), "--audit", "--", "python3", "agent.py").returncode == 0
    told = llm.nono("audit", "export", "--no-keychain")
    records = [json.loads(line) for line in told.stdout.splitlines()]
    text = json.dumps(records)
    assert f'"port": {upstream.server_port}' in text, told.stderr
    assert "env://REAL_ONE" in text
    assert "/v1/chat/completions" in text
    assert KEY not in text
    assert holding(llm.home, KEY) == []
    assert "sk-nono" not in text


def test_another_program_of_the_same_person_gets_nothing_from_the_port(
    llm: Person, upstream: Upstream
) -> None:
    command = [str(NONO), "run", *with_key("landlock"), "--", "sh", "-c", "echo $http_proxy; cat"]
    with subprocess.Popen(
        command, cwd=llm.workspace, env=llm.environment(REAL_ONE=KEY), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), LONG_ENOUGH_S) as one:
            one.sendall(f"GET http://127.0.0.1:{upstream.server_port}/ HTTP/1.1\r\n"
                        f"Host: 127.0.0.1:{upstream.server_port}\r\n\r\n".encode())  # fmt: skip
            assert one.recv(100).startswith(b"HTTP/1.1 407")
        with socket.create_connection(("127.0.0.1", port), LONG_ENOUGH_S) as one:
            one.sendall(b"GET /openai/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert one.recv(100).split()[1] in (b"401", b"407")
        process.stdin.close()
    assert upstream.heard == []


def test_nothing_of_the_proxy_is_left_after_the_run(llm: Person, tier: str) -> None:
    scratch = llm.home / "tmp"
    scratch.mkdir()
    done = run(llm, *with_key(tier), "--", "sh", "-c", "cat $SSL_CERT_FILE", TMPDIR=str(scratch))
    assert "BEGIN CERTIFICATE" in done.stdout
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--allow-domain", "a.test", "--block-net"],
        ["--credential", "openai", "--open-net"],
        ["--allow-domain", "a.test", "--connect-port", "80"],
        ["--allow-domain", "https://a.test"],
        ["--allow-domain", "0x7f.1"],
        ["--allow-domain", "*"],
        ["--credential", "OPENAI"],
        ["--credential", "openai=sk-verysecret"],
        ["--allow-endpoint", "openai:POST"],
        ["--upstream-proxy", "http://me:verysecret@proxy:3128"],
    ],
)
def test_what_says_nothing_clear_is_refused(person: Person, words: list[str]) -> None:
    done = person.nono("run", *words, "--", "true")
    assert done.returncode == 2
    assert "openai=sk" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--credential", "nobody"],
        ["--credential", "openai", "--allow-endpoint", "github:GET:/**"],
        ["--profile", "denying", "--open-net"],
    ],
)
def test_what_cant_be_held_is_refused(llm: Person, words: list[str]) -> None:
    profile = llm.home / ".config/nono/profiles/denying.toml"
    profile.write_text('[network]\ndeny_domains = ["a.test"]\n')
    profile.chmod(0o600)
    done = llm.nono("run", *words, "--", "true")
    assert (done.returncode, done.stderr.startswith("REFUSED")) == (126, True), done.stderr


@pytest.mark.parametrize(
    ("host", "status", "said"),
    [
        *(("a.test", 0, "a.test"), ("a.test:80", 1, "add --allow-domain a.test:80")),
        *(("x.zone.test", 0, "*.zone.test"), ("zone.test", 1, "no rule names it")),
        *(("bad.zone.test", 1, "denied by"), ("api.openai.com", 0, "route openai")),
        ("169.254.169.254:80", 1, "metadata"),
    ],
)
def test_why_tells_of_hosts(person: Person, host: str, status: int, said: str) -> None:
    policy = ["--allow-domain", "a.test", "--allow-domain", "*.zone.test",
              "--deny-domain", "bad.zone.test", "--credential", "openai"]  # fmt: skip
    done = person.nono("why", "--host", host, *policy)
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout


def test_a_policy_is_told_with_credentials_by_name_alone(person: Person) -> None:
    words = ["--credential", "openai=file:///run/the/place", "--allow-domain", "a.test"]
    words += ["--upstream-proxy", "http://proxy.test:3128"]
    words += ["--upstream-proxy-credential", "file:///run/the/place/of/it"]
    for more in ([], ["--json"]):
        done = person.nono("run", "--dry-run", *more, *words, "--", "true")
        assert done.returncode == 0
        assert "a.test" in done.stdout
        assert "openai" in done.stdout
        assert "http://proxy.test:3128" in done.stdout
        assert "/run/the/place" not in done.stdout


@pytest.mark.skipif(
    shutil.which("gnome-keyring-daemon") is None or shutil.which("dbus-run-session") is None,
    reason="needs gnome-keyring and dbus; CI installs them",
)
def test_the_key_of_a_real_keychain(llm: Person, upstream: Upstream) -> None:
    script = (
        f"printf '%s\\n' '{KEY}' | \"$0\" credential set openai && "
        'exec "$0" run --profile llm --allow-cwd --proxy-credential openai -- python3 agent.py'
    )
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", KEYCHAIN, "bash", "-c", script, NONO],
        cwd=llm.workspace,
        env=llm.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1:] == ["Hello Bearer " + "*" * len(KEY)], done.stderr
    assert upstream.keys == {f"Bearer {KEY}"}
    assert holding(llm.workspace, KEY) == []


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_a_low_limit_on_open_files_is_its_programs_and_not_the_proxys(
    person: Person, tier: str
) -> None:
    options = ["--tier", tier, "--allow-domain", "a.test"]
    process = subprocess.Popen(
        ["prlimit", "--nofile=80:", "--", NONO, "run", *options, "--", "sh", "-c", TELL_AND_WAIT],
        cwd=person.workspace,
        env=person.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        soft, hard = (process.stdout.readline() for _ in range(2))
        proxys = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        process.communicate("\n", timeout=LONG_ENOUGH_S)
    assert (process.returncode, soft) == (0, "80\n")
    assert proxys[0] > 80
    assert hard == ("unlimited\n" if proxys[1] == resource.RLIM_INFINITY else f"{proxys[1]}\n")
