"""`nono credential`, as a person types it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nono_mcp.credentials.probe import ANSWER_BYTES_MAX, PROBES
from nono_proxy.catalogue import ROUTES
from tests.corporate import Corporate, corporate
from tests.proxy.world import Roots
from tests.upstream import Upstream

from .conftest import NONO, Person

ROOT = Path(__file__).parents[2]
VALUE = "sk-very-secret-0123456789"
KEY = "REALKEY-" + os.urandom(12).hex()
NOWHERE = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}


def key(person: Person, text: str, mode: int = 0o600) -> str:
    path = person.home / "key"
    path.write_text(text)
    path.chmod(mode)
    return f"file://{path}"


def test_a_source_is_tried_and_its_value_not_shown(person: Person) -> None:
    done = person.nono("credential", "test", "ci", "--source", key(person, "verysecret\n"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"file://{person.home}/key can be had\n"
    assert "verysecret" not in done.stdout + done.stderr
    told = person.nono("credential", "test", "ci", "--source", "env://KEY", "--json",
                       environment={"KEY": "verysecret"})  # fmt: skip
    assert json.loads(told.stdout)["source"] == "env://KEY"
    assert "verysecret" not in told.stdout + told.stderr


PROVIDERS = {
    "openai": ("api.openai.com", "/v1/models", ("authorization", f"Bearer {VALUE}")),
    "anthropic": ("api.anthropic.com", "/v1/models", ("x-api-key", VALUE)),
    "gemini": ("generativelanguage.googleapis.com", "/v1beta/models", ("x-goog-api-key", VALUE)),
    "stripe": ("api.stripe.com", "/v1/balance", ("authorization", f"Bearer {VALUE}")),
    "slack": ("slack.com", "/api/auth.test", ("authorization", f"Bearer {VALUE}")),
    "github": ("api.github.com", "/user", ("authorization", f"Bearer {VALUE}")),
    "aws": (
        "sts.us-east-1.amazonaws.com",
        "/?Action=GetCallerIdentity&Version=2011-06-15",
        ("authorization", "AWS4-HMAC-SHA256 Credential=AKIDREAL0123/"),
    ),
}


MUCH = b'{"ok": true, "more": "%s"}' % (b"x" * ANSWER_BYTES_MAX)


@dataclass
class Providers:
    """Every provider there is, behind a company's proxy; what they answer is the test's."""

    company: Corporate
    server: Upstream
    environment: dict[str, str]

    def trial(self, person: Person, name: str, value: str) -> subprocess.CompletedProcess[str]:
        return person.nono(
            *("credential", "test", name, "--source", "env://VALUE"),
            *("--upstream-proxy", f"http://127.0.0.1:{self.company.port}"),
            *("--upstream-proxy-credential", "env://CORP"),
            environment={**self.environment, "VALUE": value},
        )


@pytest.fixture
def providers(tmp_path: Path) -> Iterator[Providers]:
    roots = Roots()
    (tmp_path / "company.pem").write_text(roots.pem)
    with Upstream.running() as server, corporate(server.server_port, f"me:{KEY}") as company:
        context = roots.context(*(host for host, _, _ in PROVIDERS.values()))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        trusted = {"SSL_CERT_FILE": str(tmp_path / "company.pem"), "CORP": f"me:{KEY}"}
        yield Providers(company, server, trusted)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_is_asked_whether_it_accepts_the_value(
    person: Person, providers: Providers, name: str
) -> None:
    host, path, (field, sent) = PROVIDERS[name]
    value = f"AKIDREAL0123:{VALUE}" if name == "aws" else VALUE
    providers.server.says = b'{"ok": true}'
    done = providers.trial(person, name, value)
    said = f"env://VALUE can be had; {host} accepts it (status 200)\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr
    ((_, asked, headers),) = providers.server.heard
    assert (asked, headers["host"]) == (path, host)
    assert headers[field].startswith(sent)
    assert VALUE not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "answer", "told"),
    [
        ("openai", (401, VALUE.encode()), "doesn't accept it (status 401)"),
        ("slack", (200, b'{"ok": false}'), "doesn't accept it (status 200)"),
        ("slack", (200, b"<html>"), "doesn't say whether it accepts it (status 200)"),
        ("slack", (200, MUCH), "doesn't say whether it accepts it (status 200)"),
        ("openai", (302, b""), "doesn't say whether it accepts it (status 302)"),
        ("openai", (500, b""), "doesn't say whether it accepts it (status 500)"),
    ],
)
def test_what_isnt_accepted_is_a_failure(
    person: Person, providers: Providers, name: str, answer: tuple[int, bytes], told: str
) -> None:
    providers.server.status, providers.server.says = answer
    done = providers.trial(person, name, VALUE)
    assert (done.returncode, told in done.stdout) == (1, True), done.stderr
    # What it said isn't repeated, and where it led wasn't gone to.
    assert VALUE not in done.stdout + done.stderr
    assert len(providers.server.heard) == 1


def test_a_provider_that_doesnt_prove_itself_gets_nothing(
    person: Person, providers: Providers
) -> None:
    del providers.environment["SSL_CERT_FILE"]
    done = providers.trial(person, "openai", VALUE)
    assert (done.returncode, "can't be asked" in done.stderr) == (1, True)
    assert providers.server.heard == []


@pytest.mark.parametrize("words", [["ci"], ["openai", "--offline"]])
def test_nobody_is_asked_who_isnt_known_or_wanted(person: Person, words: list[str]) -> None:
    done = person.nono(
        *("credential", "test", *words, "--source", "env://VALUE"), environment={"VALUE": VALUE}
    )
    assert (done.returncode, done.stdout) == (0, "env://VALUE can be had\n")


def test_each_probe_is_of_a_route_that_is_known() -> None:
    assert set(PROBES) <= set(ROUTES)


def test_what_cant_be_had_is_a_failure_that_says_why(person: Person) -> None:
    done = person.nono("credential", "test", "ci", "--source", key(person, "x", 0o644))
    assert done.returncode == 1
    assert "others have access" in done.stderr
    done = person.nono("credential", "test", "ci", "--source", "sk-verysecret")
    assert done.returncode == 1
    assert "verysecret" not in done.stderr


def test_without_a_keychain_nothing_is_kept_anywhere(person: Person) -> None:
    done = person.nono("credential", "set", "openai", stdin="verysecret\n", environment=NOWHERE)
    assert done.returncode == 1
    assert "there is no keychain" in done.stderr
    assert "verysecret" not in done.stdout + done.stderr
    written = [path for path in person.home.rglob("*") if path.is_file()]
    assert not any(b"verysecret" in path.read_bytes() for path in written)
    assert person.nono("credential", "list").stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        *(("credential",), ("credential", "show", "x"), ("credential", "set")),
        *(("credential", "set", "a", "value"), ("credential", "list", "x")),
        ("credential", "set", "a", "--source", "env://A"),
    ],
)
def test_a_value_is_never_an_argument(person: Person, words: tuple[str, ...]) -> None:
    assert person.nono(*words).returncode == 2


@pytest.mark.linux  # a Mac has its own
@pytest.mark.skipif(
    shutil.which("gnome-keyring-daemon") is None or shutil.which("dbus-run-session") is None,
    reason="needs gnome-keyring and dbus; CI installs them",
)
def test_a_real_secret_service_keeps_credentials(person: Person) -> None:
    words = [sys.executable, "-m", "tests.credentials.real_keychain", str(NONO)]
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", ROOT / "tests" / "unlocked_keychain.sh", *words],
        cwd=ROOT,
        env={"HOME": str(person.home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.endswith("held\n"), done.stdout + done.stderr
