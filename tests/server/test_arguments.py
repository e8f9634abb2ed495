"""Arguments are taken exactly, and what is wrong with them is said on one line."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nono_mcp.server.arguments import (
    ExplainArguments,
    RunArguments,
    mistakes,
    parse,
    schema,
)
from nono_mcp.server.file_arguments import EditArguments

KNOWN: dict[str, Any] = schema(RunArguments)["properties"]

# Others use this machine too.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refusal(arguments: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        parse(RunArguments, arguments)
    return mistakes(caught.value, KNOWN)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "give either command or argv"),
        ({"command": "a", "argv": ["b"]}, "give either command or argv"),
        ({"command": ""}, "the command is empty"),
        ({"command": " \n\t"}, "the command is empty"),
        ({"argv": []}, "argv is empty: name a program to run"),
        ({"argv": ["", "a"]}, "argv is empty: name a program to run"),
        ({"command": 5}, "command: must be a valid string"),
        ({"command": ["ls"]}, "command: must be a valid string"),
        ({"argv": "ls"}, "argv: must be a valid list"),
        ({"argv": '["ls"]'}, "argv: must be a valid list"),
        ({"argv": ["ls", 5]}, "argv[1]: must be a valid string"),
        ({"command": "a\0b"}, "command: holds a NUL character, which no system call takes"),
        ({"argv": ["a", "\0"]}, "argv[1]: holds a NUL character, which no system call takes"),
        ({"command": "\ud800"}, "command: holds a lone surrogate, which is no text"),
        ({"command": "x", "stdin": "\udfff"}, "stdin: holds a lone surrogate, which is no text"),
        ({"command": "x", "cwd": "a\0"}, "cwd: holds a NUL character, which no system call takes"),
        ({"command": "x", "cwd": 1}, "cwd: must be a valid string"),
        ({"command": "x", "timeout_s": 0}, "timeout_s: must be greater than 0"),
        ({"command": "x", "timeout_s": -1}, "timeout_s: must be greater than 0"),
        ({"command": "x", "timeout_s": float("nan")}, "timeout_s: must be a finite number"),
        ({"command": "x", "timeout_s": float("inf")}, "timeout_s: must be a finite number"),
        ({"command": "x", "timeout_s": 10**400}, "timeout_s: must be a valid number"),
        ({"command": "x", "timeout_s": "5"}, "timeout_s: must be a valid number"),
        ({"command": "x", "timeout_s": True}, "timeout_s: must be a valid number"),
        ({"command": "x", "env": ["A=1"]}, "env: must be a valid dictionary"),
        ({"command": "x", "env": {"A": 1}}, "env: must be a valid string"),
        ({"command": "x", "env": {"A\0": "1"}}, "env: holds a NUL character"),
        ({"command": "x", "network": "open"}, "network: must be 'session' or 'none'"),
        ({"command": "x", "writes": "src"}, "writes: must be a valid list"),
        ({"command": "x", "writes": ["a\0"]}, "writes[0]: holds a NUL character"),
        ({"comand": "x"}, "unknown argument 'comand': did you mean command?"),
        ({"command": "x", "shell": "bash"}, "unknown argument 'shell': known are command, argv"),
        ({"command": "x", "\ud800": 1}, "unable to parse raw data as a unicode string"),
    ],
)
def test_a_mistake_is_told_on_one_line(arguments: dict[str, Any], text: str) -> None:
    told = refusal(arguments)
    assert text in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (
            [{"old": "a", "new": "b"}, {"old_text": "c", "new": "d"}],
            "edits[1].old: Field required; edits[1]: unknown argument 'old_text': known are old, ",
        ),
        ([{"old": "a", "new": "b", "all": "yes"}], "edits[0].all: must be a valid boolean"),
        (["a"], "edits[0]: must be"),
        ([], "edits: List should have at least 1 item"),
    ],
)
def test_a_mistake_deeper_down_is_told_with_its_place(edits: object, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(EditArguments, {"path": "file", "edits": edits})
    assert mistakes(caught.value, schema(EditArguments)["properties"]).startswith(told)


def test_many_mistakes_are_told_briefly() -> None:
    told = refusal({"command": 1, "cwd": 2, "stdin": 3, "timeout_s": "4", "env": 5, "x" * 10**6: 6})
    assert told.endswith("and 2 more")
    assert len(told) < 1000


def test_no_value_is_repeated() -> None:
    assert "secret" not in refusal(
        {"command": ["secret"], "timeout_s": "secret", "network": "secret"}
    )


def test_null_is_the_same_as_left_out() -> None:
    every = dict.fromkeys(KNOWN)
    assert parse(RunArguments, every | {"command": "ls"}) == parse(RunArguments, {"command": "ls"})


@pytest.mark.parametrize("text", ["null", "true", "1", '{"a": 1}', "[1]", '"x"'])
def test_text_that_is_json_is_text(text: str) -> None:
    parsed = parse(RunArguments, {"command": text, "stdin": text, "cwd": text})
    assert (parsed.command, parsed.stdin, parsed.cwd) == (text, text, text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@UNHURRIED
@given(st.dictionaries(st.sampled_from([*KNOWN, "other"]), JSON))
def test_whatever_json_is_passed_it_is_taken_or_refused(arguments: dict[str, Any]) -> None:
    try:
        parsed = parse(RunArguments, arguments)
    except ValidationError as error:
        told = mistakes(error, KNOWN)
    else:
        told = ""
        assert (parsed.command is None) != (parsed.argv is None)
    assert "\n" not in told


@pytest.mark.parametrize("model", [RunArguments, ExplainArguments])
def test_the_schema_is_plain(model: type[RunArguments | ExplainArguments]) -> None:
    shown = schema(model)
    assert set(shown) == {"type", "properties", "additionalProperties"}
    assert shown["additionalProperties"] is False
    assert set(shown["properties"]) == set(model.model_fields)
    for name, value in shown["properties"].items():
        # Some clients drop unions, defaults and references.
        assert value["type"] in ("string", "number", "boolean", "array", "object"), name
        assert value["description"]
    assert not {"anyOf", "$ref", "default", "title"} & set(
        json.dumps(shown).replace('"', " ").split()
    )


def test_a_question_is_about_one_thing() -> None:
    for arguments in ({"path": "a", "host": "b"}, {"operation": "read"}, {"operation": "own"}):
        with pytest.raises(ValidationError):
            parse(ExplainArguments, arguments)
