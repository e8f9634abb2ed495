"""A shared server: what is one's isn't another's, whatever they try; and nobody starves."""

import http.client
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from mcp import MCPError
from mcp_types import ResourceTemplateReference

from nono_mcp.audit.reading import Filters, tail
from nono_mcp.cli import serve
from nono_mcp.cli.options import UsageError
from nono_mcp.policy.errors import PolicyError
from nono_mcp.server import Http, ServeOptions
from nono_mcp.server.shared import clientele_of
from tests.server.conftest import ERAS, SECRET, TIER, Agent, Machine, Marked, until
from tests.server.teamwork import NAMES, People, Shared, nono, people, sharing
from tests.server.test_access import Person
from tests.server.test_http import DISCOVER, MODERN, PING, Website, calling, handshake

pytestmark = pytest.mark.linux

JOB = re.compile(r"\bjob ([0-9a-f]{16})\b")
SNAPSHOT = re.compile(r"undo: rollback ([0-9a-f]{8})")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with sharing(people(tmp_path_factory.mktemp("team"))) as found:
        yield found


@pytest.fixture
def team(tmp_path: Path) -> People:
    return people(tmp_path)


def discover(website: Website) -> int:
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": "server/discover"}
    return website.post(DISCOVER, **headers)[0]


def get(website: Website, path: str, token: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.anyio
@pytest.mark.claim("shared.sessions-apart")
@pytest.mark.parametrize("era", ERAS)
async def test_files_processes_and_tmp_of_one_are_out_of_anothers_reach(
    shared: Shared, marked: Marked, era: str
) -> None:
    theirs = shared.people.workspace("bob")
    async with shared.of("bob").client(era) as bob, shared.of("alice").client(era) as alice:
        assert f"bob's {SECRET}" in await bob.run("cat secret; echo bobs > /tmp/bobs")
        started = await bob.run(marked.sleeper, yield_s=0.1)
        await marked.appear()
        told = await alice.run(
            f"cat secret {theirs}/secret {shared.people.file} /tmp/bobs; ls {theirs} {theirs}/..;"
            f"echo x > {theirs}/planted; rm -rf {theirs}; cat /proc/[0-9]*/cmdline;"
            f"kill -9 {' '.join(map(str, marked.alive()))}"
        )
        assert f"alice's {SECRET}" in told
        assert f"bob's {SECRET}" not in told
        assert "bobs\n" not in told
        assert shared.people.tokens["bob"] not in told
        assert marked.alive()
        if "namespaces" in (await alice.explain()):
            assert marked.text not in told
        for tool, path in (("read_file", theirs / "secret"), ("list_directory", theirs)):
            await alice.refused(tool, path=str(path))
        # Where /tmp is the session's own, so is what is there by that name.
        await alice.call("write_file", path=str(theirs / "planted"), content="x")
        assert sorted(path.name for path in theirs.iterdir()) == ["secret"]
        (job,) = JOB.findall(started)
        await bob.call("stop_job", job=job)
        await marked.disappear()


@pytest.mark.anyio
@pytest.mark.claim("shared.sessions-apart")
async def test_jobs_outputs_snapshots_and_records_of_one_arent_anothers(
    shared: Shared, marked: Marked
) -> None:
    bobs, alices = (shared.of(name).named("mine") for name in ("bob", "alice"))
    async with bobs.client(MODERN) as bob, alices.client(MODERN) as alice:
        changed = await bob.run(f"echo new > made-by-bob; echo {marked.text}")
        answer = await bob.call("run_sandboxed", command=f"echo {marked.text}")
        assert answer.meta is not None
        call = answer.meta["nono-mcp/call"]["id"]
        (job,) = JOB.findall(await bob.run(f"cat; echo {marked.text}", keep_stdin=True))
        (snapshot,) = SNAPSHOT.findall(changed)
        for tool, arguments in (
            ("read_output", {"job": job}),
            ("send_input", {"job": job, "text": "alice was here\n"}),
            ("stop_job", {"job": job}),
            ("rollback", {"snapshot": snapshot}),
            ("diff", {"snapshot": snapshot}),
            ("audit_tail", {"everybody": True}),
        ):
            told = await alice.refused(tool, **arguments)
            assert marked.text not in told
        listed = await alice.call("list_snapshots")
        assert snapshot not in str(listed.content)
        for arguments in ({}, {"call": call}, {"grep": marked.text}, {"grep": "made-by-bob"}):
            records = str((await alice.call("audit_tail", **arguments)).content)
            assert "made-by-bob" not in records
            assert f"echo {marked.text}" not in records
        for uri in (
            f"nono://audit/call/{call}",
            "nono://audit/session",
            f"nono://output/{job}",
            f"nono://output/{job}/0",
            f"nono://snapshot/{snapshot}",
            "nono://snapshots",
            "nono://policy",
        ):
            text = await read(alice, uri)
            assert marked.text not in text
            assert "made-by-bob" not in text
            assert snapshot not in text or snapshot in uri
        for uri, name in (("snapshot/{id}", "id"), ("output/{job}", "job")):
            template = ResourceTemplateReference(type="ref/resource", uri=f"nono://{uri}")
            argument = {"name": name, "value": ""}
            told = str(await alice.client.complete(template, argument))
            assert snapshot not in told
            assert job not in told
        assert marked.text in str((await bob.call("audit_tail")).content)
        assert "alice was here" not in str((await bob.call("read_output", job=job)).content)
        assert (shared.people.workspace("bob") / "made-by-bob").exists()
        await bob.call("stop_job", job=job)


@pytest.mark.anyio
@pytest.mark.claim("shared.sessions-apart")
@pytest.mark.parametrize("era", ERAS)
async def test_nobody_gives_themselves_more_by_saying_yes_for_the_person(
    shared: Shared, era: str
) -> None:
    theirs = shared.people.workspace("bob")
    public = shared.people.root / "public"
    public.mkdir(exist_ok=True)
    (public / "file").write_text(f"public {SECRET}")
    person = Person()
    async with shared.of("alice").client(era, elicitation_callback=person.answer) as alice:
        for path in (theirs, theirs / "secret", public, shared.people.root):
            told = await alice.refused("request_access", path=str(path), why="to read it")
            assert "ask.ceiling" in told or "fs." in told
        for host in ("example.com", "127.0.0.1:80"):
            await alice.refused("request_access", host=host, why="to reach it")
        told = await alice.run(f"cat {theirs}/secret {public}/file; true")
        assert SECRET not in told
    assert not person.asked


@pytest.mark.anyio
@pytest.mark.claim("shared.sessions-apart")
async def test_a_profile_that_grants_what_is_around_opens_nobodys_workspace(
    team: People,
) -> None:
    profile = team.root / "machine" / "config" / "nono" / "profiles" / "wide.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text(
        f"[filesystem]\nallow = [{json.dumps(str(team.root / 'people'))}]\n"
        f"[ask]\nread = [{json.dumps(str(team.workspace('bob')))}]\n"
    )
    for path in (profile.parent, profile.parent.parent, profile):
        path.chmod(path.stat().st_mode & 0o755)
    (team.root / "people" / "shared").write_text("everybody's")
    team.write(each='profile = "wide"')
    with sharing(team) as shared:
        if TIER == "landlock":
            # Nothing is closed there inside of a grant: nobody is served, and nothing is open.
            assert discover(shared.of("alice")) == 503
            return
        person = Person()
        theirs = team.workspace("bob")
        async with shared.of("alice").client(MODERN, elicitation_callback=person.answer) as alice:
            told = await alice.run(
                f"cat {theirs.parent}/shared {theirs}/secret; ls {theirs}; echo x > {theirs}/new"
            )
            assert "everybody's" in told
            assert SECRET not in told
            await alice.refused("request_access", path=str(theirs), why="to read it")
            assert SECRET not in await alice.run(f"cat {theirs}/secret; true")
        assert sorted(path.name for path in theirs.iterdir()) == ["secret"]


@pytest.mark.anyio
async def test_whose_a_session_was_is_in_the_log(shared: Shared, marked: Marked) -> None:
    state = str(shared.people.root / "machine" / "state" / "nono")
    for name in NAMES:
        async with shared.of(name).client(MODERN) as agent:
            await agent.run(f": {marked.text} {name}")
    for name in NAMES:
        (call,) = tail(state, Filters(kind="call.start", grep=f": {marked.text} {name}"), 9).records
        (start,) = tail(state, Filters(kind="session.start", session=call.session), 9).records
        assert start.data["info"]["principal"] == name  # type: ignore[index]


async def read(agent: Agent, uri: str) -> str:
    try:
        return str((await agent.client.read_resource(uri)).contents)
    except MCPError as error:
        return str(error)


def test_a_protocol_session_of_one_isnt_anothers(shared: Shared) -> None:
    alice, bob = (shared.of(name) for name in NAMES)
    session_id = handshake(bob)
    for website, status in ((alice, 404), (bob, 200)):
        assert website.post(PING, Mcp_Session_Id=session_id)[0] == status
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=120)
    headers = {"Authorization": f"Bearer {alice.token}", "Mcp-Session-Id": session_id}
    connection.request("DELETE", "/mcp", headers=headers)
    assert connection.getresponse().status == 404
    connection.close()
    assert bob.post(PING, Mcp_Session_Id=session_id)[0] == 200


def test_a_token_opens_what_it_is_for_and_nothing_else(shared: Shared) -> None:
    tokens = shared.people.tokens
    assert discover(shared.of("alice")) == 200
    for wrong in (tokens["metrics"], tokens["alice"][:-1], "x", ""):
        assert discover(shared.of(wrong)) == 401
    assert get(shared.of("alice"), "/healthz") == (200, "ok\n")
    assert get(shared.of("alice"), "/metrics", tokens["alice"])[0] == 401
    assert get(shared.of("alice"), "/metrics")[0] == 401
    status, text = get(shared.of("alice"), "/metrics", tokens["metrics"])
    assert status == 200
    assert 'nono_requests_total{principal="alice",status="200"}' in text
    assert 'nono_refused_total{status="401"}' in text
    assert not any(token in text for token in tokens.values())
    assert not any(token in shared.people.file.read_text() for token in tokens.values())


@pytest.mark.anyio
async def test_whose_calls_wait_dont_make_others_wait(team: People, marked: Marked) -> None:
    team.write("calls_max = 3", "calls_max = 2")
    with sharing(team) as shared:
        async with shared.of("alice").client(MODERN) as alice, anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(alice.start, marked.sleeper)
            await marked.appear(2)
            async with shared.of("bob").client(MODERN) as bob:
                for _ in range(3):
                    assert "exit status 0" in await bob.run("true")

            def is_bounded() -> bool:
                metrics = get(shared.of("bob"), "/metrics", team.tokens["metrics"])[1]
                counts = ('running{principal="alice"} 2', 'waiting{principal="alice"} 3')
                # What a shell starts bears its mark at first.
                return all(f"nono_calls_{one}" in metrics for one in counts) and (
                    len(marked.alive()) == 2
                )

            await anyio.to_thread.run_sync(until, is_bounded)
            group.cancel_scope.cancel()
        await marked.disappear()


def test_sessions_are_bounded_and_end_when_nobody_uses_them(team: People, marked: Marked) -> None:
    team.write("sessions_max = 1\nidle_s = 0.5")
    with sharing(team) as shared:
        alice, bob = (shared.of(name) for name in NAMES)
        connection = calling(alice, marked.sleeper, MODERN)
        marked.await_appearance()
        status, told = bob.post(DISCOVER, MCP_Protocol_Version=MODERN, Mcp_Method="server/discover")
        assert (status, "too many sessions" in told) == (503, True)
        # Without a turn or a request alice's goes.
        connection.close()
        children = Path(f"/proc/{shared.process.pid}/task/{shared.process.pid}/children")

        def is_bobs() -> bool:
            if discover(bob) != 200:
                return False
            metrics = get(bob, "/metrics", team.tokens["metrics"])[1]
            return '\nnono_sessions{principal="bob"} 1\n' in metrics

        until(is_bobs)
        until(lambda: discover(alice) == 200)
        until(lambda: len(children.read_text().split()) <= 1)


def test_requests_of_one_are_bounded(team: People, marked: Marked) -> None:
    team.write(each="requests_max = 1")
    with sharing(team) as shared:
        connection = calling(shared.of("alice"), marked.sleeper, MODERN)
        marked.await_appearance()
        assert discover(shared.of("alice")) == 503
        assert discover(shared.of("bob")) == 200
        assert connection.sock is not None
        connection.sock.close()
        connection.close()
        until(lambda: discover(shared.of("alice")) == 200)


def test_what_runs_is_ended_in_order_and_nothing_more_is_begun(
    team: People, marked: Marked
) -> None:
    with sharing(team, ["--drain", "60"]) as shared:
        gate = team.workspace("alice") / "gate"
        command = f"while ! [ -e gate ]; do sleep 0.05; done; echo {marked.text}"
        connection = calling(shared.of("alice"), command, MODERN)
        marked.await_appearance()
        shared.process.send_signal(signal.SIGTERM)
        until(lambda: get(shared.of("bob"), "/healthz")[0] == 503)
        assert discover(shared.of("bob")) == 503
        gate.touch()
        answer = connection.getresponse()
        assert marked.text in answer.read().decode()
        connection.close()
        assert shared.process.wait(30) == 128 + signal.SIGTERM


@pytest.mark.parametrize("drain", ["60", "1"])
def test_a_second_signal_or_the_time_ends_a_drain(team: People, marked: Marked, drain: str) -> None:
    with sharing(team, ["--drain", drain]) as shared:
        connection = calling(shared.of("alice"), marked.sleeper, MODERN)
        marked.await_appearance()
        shared.process.send_signal(signal.SIGTERM)
        if drain == "60":
            until(lambda: get(shared.of("bob"), "/healthz")[0] == 503)
            shared.process.send_signal(signal.SIGTERM)
        assert shared.process.wait(30) == 128 + signal.SIGTERM
        marked.await_disappearance()
        connection.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workspace", "."], "--team and --workspace contradict"),
        (["--read", "/srv"], "--team and --read contradict"),
        (["--allow-domain", "x.example"], "--team and --allow-domain contradict"),
        (["--tls-cert", "x"], "belong together"),
    ],
)
def test_options_that_say_nothing_for_a_team_are_refused(options: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        serve.main(["--team", "team.toml", "--http", "0", *options])


@pytest.mark.parametrize("option", [["--team", "x"], ["--drain", "1"], ["--unsafe-plain-http"]])
def test_options_about_http_want_http(option: list[str]) -> None:
    with pytest.raises(UsageError, match="is about HTTP"):
        serve.main(option)


def test_a_team_that_cant_be_served_isnt(team: People) -> None:
    spoilt: list[tuple[Callable[[], object], str]] = [
        (lambda: team.file.chmod(0o666), "others"),
        (lambda: team.write(each='profile = "no-such-profile"'), "alice: "),
        (lambda: team.write("nonsense = 1"), "unknown key nonsense"),
        (lambda: link(team), "overlaps"),
        (team.file.unlink, "there is no such file"),
    ]
    request = Machine(team.root / "machine").request()
    for spoil, told in spoilt:
        spoil()
        with pytest.raises(PolicyError, match=told):
            clientele_of(ServeOptions(request), Http("127.0.0.1", 0), str(team.file))
        if team.file.exists():
            team.file.chmod(0o600)
            team.write()
    command = [*nono(), "--team", str(team.file), "--http", "0"]
    environ = {"HOME": str(team.root / "machine" / "home"), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        command, capture_output=True, check=False, env=environ, text=True, timeout=60
    )
    assert ended.returncode == 126
    assert "there is no such file" in ended.stderr
    assert ended.stderr.count("\n") == 1


def link(team: People) -> None:
    workspace = team.workspace("bob")
    (workspace / "secret").unlink()
    workspace.rmdir()
    workspace.symlink_to(team.workspace("alice"))


def test_a_token_is_made_with_what_the_file_holds_of_it(team: People) -> None:
    made = subprocess.run(
        [*nono(), "--make-token"], capture_output=True, check=True, text=True, timeout=60
    )
    header, line = made.stdout.splitlines()
    token = header.removeprefix("Authorization: Bearer ")
    team.write(each=line.replace("tokens_sha256", "#"))
    text = team.file.read_text()
    known = json.loads(line.partition(" = ")[2])[0]
    team.file.write_text(re.sub(r'"[0-9a-f]{64}"(?=\]\n#)', f'"{known}"', text, count=1))
    with sharing(team) as shared:
        assert discover(shared.of(token)) == 200
