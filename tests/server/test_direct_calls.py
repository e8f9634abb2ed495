"""Calls of tools that don't go the SDK's way: which do, and that nobody can tell."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.runner import ServerRunner
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    ImageContent,
    InputRequiredResult,
    TextContent,
)
from mcp_types.methods import serialize_server_result

from nono_mcp.server.direct_calls import METHOD, DirectCalls, wire
from nono_mcp.server.results import META_KEY
from tests.server.conftest import ERAS, Connect, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.linux]
TEXT = TextContent(type="text", text="12\n\x1b é")
META = {META_KEY: {"id": "1", "status": 0, "guarded": [], "limit": ""}}
IMAGE = ImageContent(type="image", data="AAAA", mime_type="image/png")


def result(*content: ContentBlock, **changes: Any) -> CallToolResult:  # noqa: ANN401 - its fields
    return CallToolResult(content=list(content), **changes)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", *ERAS])
@pytest.mark.parametrize(
    "answer",
    [
        result(TEXT),
        result(TEXT, TEXT, _meta=META),
        result(),
        result(TEXT, is_error=True),
        result(TEXT, IMAGE),
        result(TEXT, structured_content={"a": None}),
        result(TextContent(type="text", text="", _meta={"a": 1})),
    ],
)
def test_an_answer_is_what_the_sdk_makes_of_it(answer: CallToolResult, version: str) -> None:
    dumped = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
    expected = serialize_server_result(METHOD, version, dumped)
    assert json.dumps(wire(answer, version)) == json.dumps(expected)


@pytest.fixture
def serialized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return of what methods the SDK makes the answers."""
    methods: list[str] = []
    serialize = ServerRunner._serialize  # noqa: SLF001 - there is no other sign of it

    def noting(runner: ServerRunner, method: str, *rest: Any) -> dict[str, Any]:  # noqa: ANN401 - the SDK's
        methods.append(method)
        return serialize(runner, method, *rest)

    monkeypatch.setattr(ServerRunner, "_serialize", noting)
    return methods


async def test_the_sdk_takes_the_first_call_and_is_asked_for_no_more(
    connect: Connect, serialized: list[str]
) -> None:
    async with connect() as agent:
        first, second = [await agent.call("run_sandboxed", command="echo 1") for _ in range(2)]
        assert text_of(second).splitlines()[1:] == text_of(first).splitlines()[1:] == ["1"]
        for answer in (first, second):
            assert answer.meta is not None
            answer.meta.pop(META_KEY)
        assert second.meta == first.meta
        refusals = [await agent.refused(argv=1), await agent.refused("read_file", path="/nowhere")]
        assert all(refusals)
        assert serialized.count(METHOD) == 1
        # Not to be known, and one that asks the person.
        await agent.refused("no_such_tool")
        await agent.call("rollback", snapshot="no such", dry_run=True)
        assert serialized.count(METHOD) == 3


VERSION = ERAS[-1]
RESERVED = {"io.modelcontextprotocol/protocolVersion": VERSION}
PLAIN: dict[str, Any] = {"name": "run", "arguments": {"a": 1}, "_meta": RESERVED}
LOG_LEVEL = {"io.modelcontextprotocol/logLevel": "no level"}


@pytest.mark.parametrize(
    ("params", "changes", "is_direct"),
    [
        (PLAIN, {}, True),
        (PLAIN | {"_meta": RESERVED | {"progressToken": 1, "other": [1]}}, {}, True),
        (PLAIN | {"_meta": RESERVED | {"progressToken": None}}, {}, False),
        (PLAIN | {"_meta": RESERVED | {"progressToken": True}}, {}, False),
        (PLAIN | {"_meta": RESERVED | LOG_LEVEL}, {}, False),
        (PLAIN | {"_meta": []}, {}, False),
        (PLAIN | {"_meta": None}, {}, False),
        ({"name": "run", "arguments": {}}, {}, False),
        (PLAIN | {"name": 1}, {}, False),
        (PLAIN | {"name": "asks"}, {}, False),
        (PLAIN | {"arguments": None}, {}, False),
        (PLAIN | {"arguments": []}, {}, False),
        (PLAIN | {"inputResponses": {}}, {}, False),
        (PLAIN | {"requestState": "x"}, {}, False),
        (PLAIN | {"task": {}}, {}, False),
        (None, {}, False),
        (PLAIN, {"method": "tools/list"}, False),
        (PLAIN, {"protocol_version": ERAS[0]}, False),
        (PLAIN, {"initialize_accepted": False}, False),
    ],
)
async def test_whatever_is_unusual_is_left_to_the_sdk(
    params: dict[str, Any] | None, changes: dict[str, Any], *, is_direct: bool
) -> None:
    async def call(_: object, asked: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        return result(TextContent(type="text", text=f"{asked.name} {asked.arguments}"))

    async def call_next(_: object) -> None:
        return None

    calls = DirectCalls(call, lambda name: name == "run", {"name": "nono"})
    assert await calls(asking(PLAIN), call_next) is None
    answer = await calls(asking(params, **changes), call_next)
    expected = {
        "content": [{"text": "run {'a': 1}", "type": "text"}],
        "isError": False,
        "resultType": "complete",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "nono"}},
    }
    assert answer == (expected if is_direct else None)


def asking(params: dict[str, Any] | None, **changes: Any) -> Any:  # noqa: ANN401 - as much of it as counts
    accepted = changes.pop("initialize_accepted", True)
    session = SimpleNamespace(_connection=SimpleNamespace(initialize_accepted=accepted))
    usual = {"method": METHOD, "protocol_version": VERSION, "session": session}
    return SimpleNamespace(params=params, **(usual | changes))


async def test_what_the_sdk_refused_once_it_is_asked_again() -> None:
    async def call(_: object, __: object) -> CallToolResult:
        raise AssertionError

    async def refuse(_: object) -> None:
        raise ValueError

    calls = DirectCalls(call, lambda _: True, {})
    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011 - the one above
            await calls(asking(PLAIN), refuse)
