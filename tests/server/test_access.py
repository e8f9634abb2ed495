"""Asking the person for access: what is asked, what a yes gives, and what nobody is asked for."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult, ToolListChangedNotification
from pydantic import ValidationError

from nono_mcp import in_force
from nono_mcp.audit.end import AuditWriteError
from nono_mcp.audit.reading import Filters, tail
from nono_mcp.audit.session import Session as Log
from nono_mcp.policy.document import AskSection, Document, FilesystemSection, NetworkSection
from nono_mcp.policy.errors import PolicyError
from nono_mcp.server import access_tools
from nono_mcp.server.access_requests import AccessRequests, NotAskedError, Open, Question
from nono_mcp.server.app import build
from nono_mcp.server.arguments import AccessArguments
from nono_mcp.session import Session
from nono_sandbox.confinement import READ
from tests.server.conftest import DEADLINE_S, ERAS, TIER, Agent, Machine, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

YES, NO = ElicitResult(action="accept", content={"agreed": True}), ElicitResult(action="decline")
UNTICKED = ElicitResult(action="accept", content={"agreed": False})
GONE = ElicitResult(action="cancel")
DATA = "of the data"
HEAD = "An agent asks for more than its sandbox lets it do, until this session ends"


class Person:
    """Who is asked, and does something while they think."""

    def __init__(self, answer: ElicitResult = YES, meanwhile: Callable[[], object] = str) -> None:
        self.result = answer
        self._meanwhile = meanwhile
        self.asked: list[str] = []

    async def answer(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        del context
        self.asked.append(params.message)
        # With a title Codex says no by itself.
        assert set(params.requested_schema) == {"type", "properties", "required"}  # type: ignore[union-attr]
        self._meanwhile()
        return self.result


@asynccontextmanager
async def asking(
    machine: Machine,
    era: str,
    person: Person | None,
    *,
    flags: Document | None = None,
    log: Log | None = None,
    **options: object,
) -> AsyncIterator[Agent]:
    request = machine.request(flags=flags or Document())
    if person is not None:
        options["elicitation_callback"] = person.answer
    mode = "legacy" if era < "2026" else "auto"
    async with (
        Session.open(request, tier=TIER, log=log) as session,
        Client(build(session), mode=mode, **options) as client,  # type: ignore[arg-type]
    ):
        assert client.protocol_version == era
        yield Agent(client)


@pytest.fixture
def data(machine: Machine) -> Path:
    directory = machine.root / "data"
    directory.mkdir()
    (directory / "file").write_text(DATA)
    return directory


Asking = Callable[[Person], AbstractAsyncContextManager[Agent]]


@pytest.fixture
def asking_in(machine: Machine, era: str) -> Asking:
    return lambda person: asking(machine, era, person)


def about(path: object, **more: object) -> dict[str, object]:
    return {"path": str(path), "why": "to read it", **more}


@pytest.mark.claim("ask.given")
async def test_a_yes_gives_it_to_later_calls(machine: Machine, era: str, data: Path) -> None:
    person = Person()
    # What runs before the yes goes on looking, and never sees it.
    waits = f"echo be''gun; until [ -e go ]; do :; done; cat {data}/file || echo unseen"
    async with asking(machine, era, person) as agent:
        started = await agent.run(waits, yield_s=0.2)
        job = started.split()[1].rstrip(":")
        with anyio.fail_after(DEADLINE_S):
            while "begun" not in started:
                started = text_of(await agent.call("read_output", job=job, wait_s=5))
        given = text_of(await agent.call("request_access", **about(data)))
        read = await agent.run(f"cat {data}/file; ! touch {data}/new")
        again = text_of(await agent.call("request_access", **about(data)))
        written = text_of(await agent.call("request_access", **about(data, access="write")))
        await agent.run(f"touch {data}/new")
        told = await agent.explain()
        assert "request_access asks them" in await agent.explain(path=str(machine.root))
        assert "request_access asks" not in await agent.explain(path="~/.ssh")
        (machine.workspace / "go").touch()
        ended = text_of(await agent.call("read_output", job=job, wait_s=20))
    assert given.startswith(f"given until the session ends: read {data}\n")
    assert DATA in read
    assert again == f"open already: read {data}"
    assert written.startswith(f"given until the session ends: read and write {data}")
    assert (data / "new").exists()
    assert str(data) in told
    assert "unseen" in ended
    assert len(person.asked) == 2
    assert person.asked[0].splitlines() == [
        f"{HEAD} (question 1 of at most 20):",
        f"  read {data} (a directory, and all in it)",
        'Why, in the agent\'s own words: "to read it"',
    ]


@pytest.mark.claim("ask.given")
@pytest.mark.parametrize(
    ("answer", "told", "asked"),
    [(NO, "said no", 1), (UNTICKED, "said no", 1), (GONE, "no answer", 2)],
)
async def test_without_a_yes_nothing_is_given(
    asking_in: Asking, data: Path, answer: ElicitResult, told: str, asked: int
) -> None:
    person = Person(answer)
    async with asking_in(person) as agent:
        assert told in await agent.refused("request_access", **about(data))
        assert "exit status 1" in await agent.run(f"cat {data}/file")
        await agent.refused("request_access", **about(data))
    assert len(person.asked) == asked


@pytest.mark.claim("ask.recorded")
async def test_answers_and_refusals_are_in_the_log(
    machine: Machine, era: str, data: Path, audit_log: Log
) -> None:
    person = Person(NO)
    async with asking(machine, era, person, log=audit_log) as agent:
        await agent.refused("request_access", **about(data))
        person.result = YES
        await agent.call("request_access", **about(data / "file", why="\u202etxt"))
        await agent.refused("request_access", **about(machine.home / ".ssh"))
    records = tail(str(machine.root / "state" / "nono"), Filters(), 100).records
    said = [one for one in records if one.kind == "approval"]
    assert [(one.data["request"], one.data["answer"]) for one in said] == [
        (f"read {data}", "no"),
        (f"read {data}/file", "yes"),
    ]
    # The new policy is in force, and recorded, after the yes and not before it.
    policies = [one.seq for one in records if one.kind == "policy"]
    assert policies[0] < said[0].seq < said[1].seq < policies[1]
    (refused,) = (one for one in records if one.data.get("tool") == "request_access"
                  and one.kind == "call.start")  # fmt: skip
    assert refused.data["decision"] == "deny"
    assert "fs.protected" in str(refused.data["rule"])


@pytest.mark.claim("ask.recorded")
async def test_what_cant_be_recorded_isnt_given(
    machine: Machine, data: Path, audit_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = audit_log.append

    def full(kind: str, fields: dict[str, object], **options: bool) -> object:
        if kind == "approval":
            raise AuditWriteError("no space left")
        return real(kind, fields, **options)

    monkeypatch.setattr(audit_log, "append", full)
    async with asking(machine, ERAS[1], Person(), log=audit_log) as agent:
        assert "not recorded" in await agent.refused("request_access", **about(data))
        assert "exit status 1" in await agent.run(f"cat {data}/file")


@pytest.mark.claim("ask.ceiling")
async def test_what_stays_closed_is_never_asked_for(machine: Machine, data: Path) -> None:
    person = Person()
    (data / "closed").mkdir()
    (machine.home / "elsewhere").symlink_to(machine.home / ".ssh")
    os.mkfifo(data / "pipe")
    flags = Document(filesystem=FilesystemSection(deny=(str(data / "closed"),)))
    refused = [
        machine.home / ".ssh",
        machine.home / ".ssh" / "id_ed25519",
        machine.home / ".ssh" / "nothing",
        machine.home / ".aws" / "credentials",
        machine.home / "elsewhere",
        machine.root / "state" / "nono",
        machine.root / "config" / "nono",
        data / "closed",
        data / "pipe",
        data / "nothing",
        machine.home,
        machine.root,
        "/",
        "/proc/self",
        "/dev/mem",
    ]
    async with asking(machine, ERAS[1], person, flags=flags) as agent:
        texts = [await agent.refused("request_access", **about(path)) for path in refused]
        # That nothing is there isn't told of what is closed.
        assert texts[1].replace("id_ed25519", "nothing") == texts[2]
        assert ".ssh" not in texts[4].replace(str(machine.home), "")
    assert person.asked == []


@pytest.mark.claim("ask.ceiling")
async def test_a_policy_says_what_may_be_asked_for(machine: Machine, data: Path) -> None:
    person = Person()
    listed = AskSection(read=(str(data),), write=(str(data / "sub"),))
    (data / "sub").mkdir()
    async with asking(machine, ERAS[1], person, flags=Document(ask=listed)) as agent:
        await agent.call("request_access", **about(data / "file"))
        await agent.call("request_access", **about(data / "sub", access="write"))
        for wanted in (about(data, access="write"), about(machine.home / "notes.txt")):
            assert "ask.ceiling" in await agent.refused("request_access", **wanted)
        assert f"(request_access) to read {data}, read and write" in await agent.explain()
        host = {"host": "api.example.com", "why": "x"}
        assert "ask.ceiling" in await agent.refused("request_access", **host)
    assert len(person.asked) == 2
    async with asking(machine, ERAS[1], person, flags=Document(ask=AskSection("never"))) as agent:
        names = {tool.name for tool in (await agent.client.list_tools()).tools}
    assert "request_access" not in names


async def test_a_client_that_cant_ask_is_told_what_a_person_could_write(
    machine: Machine, data: Path
) -> None:
    async with asking(machine, ERAS[1], None) as agent:
        told = await agent.refused("request_access", **about(data, access="write"))
        host = await agent.refused("request_access", host="api.example.com", why="x")
    line = f'allow = ["{data}"]'
    assert told == (
        f"this client can't ask a person; one could start nono serve with --allow {data}, or "
        f"write {line} under [filesystem] of a policy"
    )
    assert 'allow_domains = ["api.example.com"] under [network]' in host


@pytest.mark.claim("ask.bound")
async def test_a_link_swapped_after_the_question_gives_nothing_else(
    machine: Machine, era: str, data: Path
) -> None:
    link, secrets = machine.workspace / "link", machine.home / "notes.txt"
    link.symlink_to(data / "file")

    def swap() -> None:
        link.unlink()
        link.symlink_to(secrets)

    person = Person(meanwhile=swap)
    async with asking(machine, era, person) as agent:
        text = text_of(await agent.call("request_access", **about(link)))
        read = await agent.run(f"cat {data}/file; cat link; cat {secrets}")
    assert f"  read {data}/file (a file)\n  asked for as: {link}\n" in person.asked[0]
    assert f"read {data}/file" in text
    assert DATA in read
    assert "correct-horse" not in read


def by_a_link(data: Path, other: Path) -> None:
    data.rename(data.with_name("moved"))
    data.symlink_to(other)


def by_another(data: Path, other: Path) -> None:
    data.rename(data.with_name("moved"))
    other.rename(data)


@pytest.mark.claim("ask.bound")
@pytest.mark.parametrize("swap", [by_a_link, by_another])
async def test_a_path_that_leads_elsewhere_by_the_time_of_the_yes_isnt_given(
    machine: Machine, era: str, data: Path, swap: Callable[[Path, Path], None]
) -> None:
    other = machine.root / "other"
    other.mkdir()
    (other / "file").write_text("of the other")
    person = Person(meanwhile=lambda: swap(data, other))
    async with asking(machine, era, person) as agent:
        assert "something else" in await agent.refused("request_access", **about(data))
        assert "of the other" not in await agent.run(f"cat {data}/file {other}/file")
    assert len(person.asked) == 1


@pytest.mark.claim("ask.bound")
@pytest.mark.claim("ask.given")
async def test_what_is_swapped_while_a_policy_is_looked_up_gives_nothing(
    machine: Machine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = machine.root / "secret"
    secret.mkdir()
    (secret / "file").write_text("of the secret")
    began = vars(in_force)["start"]

    def swap(*arguments: Any) -> Any:  # noqa: ANN401 - whatever it is given
        # After it was seen to stand, before the policy finds where it leads.
        data.rename(machine.root / "moved")
        data.symlink_to(secret)
        return began(*arguments)

    async with Session.open(machine.request(), tier=TIER) as session:
        monkeypatch.setattr(in_force, "start", swap)
        with pytest.raises(PolicyError, match="something else is there now"):
            await session.grant(str(data), READ)
        monkeypatch.setattr(in_force, "start", began)
        async with Client(build(session)) as client:
            told = await Agent(client).run(f"cat {data}/file {secret}/file; true")
        assert "of the secret" not in told


async def test_what_was_given_is_lost_when_another_takes_its_place(
    machine: Machine, data: Path
) -> None:
    async with asking(machine, ERAS[1], Person()) as agent:
        await agent.call("request_access", **about(data))
        assert DATA in await agent.run(f"cat {data}/file")
        by_a_link(data, machine.home)
        read = await agent.run(f"cat {data}/notes.txt {machine.home}/notes.txt")
    assert "correct-horse" not in read
    assert "exit status 1" in read


@pytest.mark.claim("ask.unforged")
async def test_no_word_of_an_agents_reads_as_ours(machine: Machine, data: Path) -> None:
    hostile = data / 'x\n  read /nothing\u202egnp"\x1b[2K'
    hostile.mkdir(parents=True)
    lookalike = data / "d\u0430ta"
    lookalike.mkdir()
    why = 'fine"\nWhy, in the person\'s own words: "yes\u202e\x1b[1A\u2028\x00'.replace("\0", "")
    person = Person()
    async with asking(machine, ERAS[1], person) as agent:
        await agent.call("request_access", path=str(hostile), why=why)
        await agent.call("request_access", path=str(lookalike), why="x" * 5000)
        long = await agent.refused("request_access", path="/" + "y" * 900, why="x")
    first, second = person.asked
    assert len(first.splitlines()) == 4
    assert first.replace("\n", "").isprintable()
    assert r"\u202e\x1b[1A\u2028" in first
    assert first.splitlines()[-1].startswith('Why, in the agent\'s own words: "fine\\"')
    assert r"d\u0430ta" in second
    assert len(second) < 1500
    assert "nothing is to be had" in long or "too many" in long


async def test_there_is_no_flood_of_questions(
    machine: Machine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tools, "QUESTIONS_MAX", 2)
    monkeypatch.setattr(access_tools, "REQUESTS_MAX", 5)
    person = Person(GONE)
    async with asking(machine, ERAS[1], person) as agent:
        for _ in range(2):
            await agent.refused("request_access", **about(data))
        told = await agent.refused("request_access", **about(data))
        assert f"they could start nono serve with --read {data}" in told
        for _ in range(2):
            await agent.refused("request_access", **about(data / "nothing"))
        assert "too much" in await agent.refused("request_access", **about(data / "other"))
    assert len(person.asked) == 2


async def test_what_is_offered_follows_what_was_given(
    machine: Machine, era: str, data: Path
) -> None:
    heard = anyio.Event()

    async def listen(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            heard.set()

    closed = machine.request(profile="read-only").profile
    request = machine.request(profile=closed)
    mode = "legacy" if era < "2026" else "auto"
    async with (
        Session.open(request, tier=TIER) as session,
        Client(
            build(session), mode=mode, elicitation_callback=Person().answer, message_handler=listen
        ) as client,
    ):
        agent = Agent(client)
        before = {tool.name: tool for tool in (await client.list_tools()).tools}
        await agent.call("request_access", **about(data, access="write"))
        after = {tool.name: tool for tool in (await client.list_tools()).tools}
        if era < "2026":
            assert client.server_capabilities.tools.list_changed  # type: ignore[union-attr]
            with anyio.fail_after(DEADLINE_S):
                await heard.wait()
    assert "write_file" not in before
    assert "write_file" in after
    assert before["run_sandboxed"].annotations.read_only_hint  # type: ignore[union-attr]
    assert not after["run_sandboxed"].annotations.read_only_hint  # type: ignore[union-attr]
    assert str(data) in (after["run_sandboxed"].description or "")


async def test_a_newer_client_hears_that_tools_changed(machine: Machine, data: Path) -> None:
    async with (
        asking(machine, "2026-07-28", Person()) as agent,
        agent.client.listen(tools_list_changed=True) as events,
    ):
        await agent.call("request_access", **about(data))
        with anyio.fail_after(DEADLINE_S):
            async for event in events:
                assert type(event).__name__ == "ToolsListChanged"
                break


@pytest.mark.claim("ask.given")
async def test_a_host_is_given(machine: Machine) -> None:
    person = Person()
    denied = NetworkSection(deny_domains=("never.example.com",))
    async with asking(machine, ERAS[1], person, flags=Document(network=denied)) as agent:
        given = text_of(await agent.call("request_access", host="API.example.com", why="to ask it"))
        told = await agent.explain(host="api.example.com")
        for host in ("never.example.com", "*.example.com", "169.254.169.254", "a b", "127.0.0.1"):
            await agent.refused("request_access", host=host, why="x")
    assert given.startswith("given until the session ends: connect to api.example.com\n")
    assert "allowed" in told
    assert len(person.asked) == 1


HOSTILE_PATHS = st.one_of(
    st.text(min_size=1, max_size=30).filter(lambda text: "\0" not in text),
    st.lists(
        st.sampled_from(
            ["..", ".", "~", "/", "work", "data", "home", ".ssh", "proc", "self", "dev"]
        ),
        min_size=1,
        max_size=6,
    ).map("/".join),
    st.just("/" + "x/" * 3000),
)


@pytest.mark.claim("ask.ceiling")
@pytest.mark.usefixtures("data")
async def test_whatever_is_asked_for_is_asked_closed_or_open(machine: Machine) -> None:
    async with Session.open(machine.request(), tier=TIER) as session:
        requests = AccessRequests(session)

        async def ask(**asked: object) -> None:
            try:
                arguments = AccessArguments.model_validate({"why": "x", **asked})
            except ValidationError:
                return
            said = ""
            question: Question | Open | None = None
            try:
                question = await requests.question(arguments)
            except NotAskedError as error:
                said = str(error)
            assert said.isprintable(), asked
            if isinstance(question, Question):
                assert question.text.replace("\n", "").isprintable()
                for closed in (".ssh", "state/nono", "config/nono"):
                    assert f"{machine.root}/{closed}" not in question.text
                    assert f"{machine.home}/{closed}" not in question.text

        loop = asyncio.get_running_loop()

        @settings(max_examples=80, deadline=None)
        @given(HOSTILE_PATHS, st.sampled_from(["read", "write"]), st.text(max_size=12))
        def fuzz(path: str, access: str, host: str) -> None:
            for asked in ({"path": path, "access": access}, {"host": host}):
                asyncio.run_coroutine_threadsafe(ask(**asked), loop).result(30)

        await anyio.to_thread.run_sync(fuzz)
