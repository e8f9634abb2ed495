"""Whatever a client passes to whatever tool: an answer on its wire, and no process left."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.conftest import Machine, Wire, command_lines, serving

pytestmark = pytest.mark.linux

WALKING = {"list_directory", "search_files"}
WAITS = {"wait_s", "timeout_s", "yield_s"}
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["file", ".", "..", "/", "~", "sub/x", "\0", "\ud800", "a\nb", "*", "[", "-", "("]
    ),
    st.just("x" * 5000),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def of_schema(schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Return what makes values that *schema* allows, and now and then others."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if name in WAITS:
        return st.sampled_from([0, 0.01, 0.1, -1, "1"])
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        required = set(schema.get("required", ()))
        parts = {one: of_schema(inner, one) for one, inner in schema["properties"].items()}
        return st.fixed_dictionaries(
            {one: part for one, part in parts.items() if one in required},
            optional={one: part for one, part in parts.items() if one not in required},
        )
    if kind == "array":
        return st.lists(of_schema(schema["items"]), max_size=3)
    numbers = st.integers(schema.get("minimum"), schema.get("maximum"))
    simple = {
        "string": TEXTS,
        "integer": numbers,
        "number": st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
    }
    return simple.get(str(kind), st.dictionaries(TEXTS, TEXTS, max_size=2))


def test_every_call_is_answered_and_leaves_nothing(machine: Machine) -> None:
    (machine.workspace / "file").write_text("text\n")
    wire = Wire(serving(machine), machine.environ)
    try:
        wire.initialize()
        tools = wire.answer(wire.request("tools/list"))["result"]["tools"]
        calls = st.one_of(
            *(
                st.tuples(st.just(tool["name"]), of_schema(tool["inputSchema"]))
                for tool in tools
                if tool["name"] != "audit_verify"
            ),
            st.tuples(
                st.sampled_from([tool["name"] for tool in tools]),
                st.dictionaries(st.text(max_size=8), ANYTHING, max_size=3),
            ),
        )

        @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
        @given(calls)
        def call(asked: tuple[str, dict[str, Any]]) -> None:
            name, arguments = asked
            if name == "run_sandboxed":
                arguments.setdefault("timeout_s", 1)
            if name in WALKING and arguments.get("path") == "/":
                # All that the machine has takes its time, and other tests'.
                arguments["path"] = "/etc"
            answer = wire.answer(wire.request("tools/call", {"name": name, "arguments": arguments}))
            # An id is the only thing that has to come back of a message that holds no text.
            result = answer.get("result") or {}
            assert result or answer["error"], answer
            for content in result.get("content", ()):
                text = content.get("text", "")
                assert "Traceback" not in text
                assert not text.startswith("Error executing tool"), (asked, text)
                assert not result["isError"] or "\n" not in text, (asked, text)

        call()
        # One of them may have asked to keep a directory that can't be entered.
        assert "exit status 0" in wire.text(wire.run("true", cwd=str(machine.workspace)))
        wire.close_input()
        assert wire.wait() == 0
        assert "Traceback" not in wire.errors()
    finally:
        wire.close()
    left = [line for _, line in command_lines() if str(machine.workspace) in line]
    assert left == []
