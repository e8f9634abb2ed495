"""What clients may pass to the tools, parsed once, and the schemas that say so.

Architecture invariant: this module does no I/O. No message repeats a value: it may be a
megabyte, or a secret.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

TIMEOUT_S_DEFAULT = 120.0
TIMEOUT_S_MAX = 3600.0
_IDLE_MIN = 10**9
_LENGTH = re.compile(r"Value should have (at (?:least|most) [0-9]+) items? after validation")
ERRORS_MAX = 4
"""How many mistakes one answer names."""


def _system_text(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "holds a NUL character, which no system call takes")
    return _unicode(text)


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("surrogate", "holds a lone surrogate, which is no text") from None
    return text


SystemText = Annotated[str, AfterValidator(_system_text)]
UnicodeText = Annotated[str, AfterValidator(_unicode)]


class Arguments(BaseModel):
    """Base of a tool's arguments: exact types, and no others than are named."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RunArguments(Arguments):
    """What `run_sandboxed` takes."""

    command: SystemText | None = Field(None, description="Script for /bin/sh -c")
    argv: list[SystemText] | None = Field(None, description="Program and arguments, no shell")
    cwd: SystemText | None = Field(None, description="Default: the workspace")
    stdin: UnicodeText | None = Field(None, description="Standard input (default: empty)")
    timeout_s: float | None = Field(None, gt=0, allow_inf_nan=False, description="Seconds")
    env: dict[SystemText, SystemText] | None = Field(None, description="Variables to add")
    network: Literal["session", "none"] | None = Field(
        None, description='"none" closes the network to this call'
    )
    hosts: list[SystemText] | None = Field(None, description="The only hosts to reach")
    writes: list[SystemText] | None = Field(None, description="The only paths to write")

    keep_cwd: bool | None = Field(None, description="Later calls start in this call's cwd")
    yield_s: float | None = Field(
        None, gt=0, le=600, allow_inf_nan=False, description="Answer then, and go on as a job"
    )
    keep_stdin: bool | None = Field(None, description="A job that takes send_input")
    tty: bool | None = Field(None, description="Likewise, on a terminal")

    @model_validator(mode="after")
    def _one_program(self) -> Self:
        if (self.command is None) == (self.argv is None):
            raise PydanticCustomError("program", "give either command or argv")
        if self.command is not None and not self.command.strip():
            raise PydanticCustomError("program", "the command is empty")
        if self.argv is not None and not (self.argv and self.argv[0]):
            raise PydanticCustomError("program", "argv is empty: name a program to run")
        return self


class ExplainArguments(Arguments):
    """What `explain_policy` takes."""

    path: SystemText | None = Field(None, description="Asked about")
    operation: Literal["read", "write"] | None = Field(None, description="Default: read")
    host: SystemText | None = Field(None, description="Asked about")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.path is not None and self.host is not None:
            raise PydanticCustomError("question", "ask about a path or a host, not both")
        if self.operation is not None and self.path is None:
            raise PydanticCustomError("question", "operation goes with a path")
        return self


class AccessArguments(Arguments):
    """What `request_access` takes."""

    path: SystemText | None = Field(None, min_length=1)
    access: Literal["read", "write"] | None = Field(None, description="Default: read")
    host: SystemText | None = Field(None, min_length=1, description="HOST or HOST:PORT (443)")
    why: SystemText = Field(min_length=1)

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.path is None) == (self.host is None):
            raise PydanticCustomError("access", "ask for either a path or a host")
        if self.access is not None and self.path is None:
            raise PydanticCustomError("access", "access goes with a path")
        return self


class TailArguments(Arguments):
    """What `audit_tail` takes."""

    call: SystemText | None = Field(None, description="Only this call's (or snapshot's)")
    kind: SystemText | None = Field(None, description="A kind, or how it begins: call, session")
    decision: Literal["allow", "deny"] | None = None
    grep: SystemText | None = Field(None, description="Only with this text")
    since: SystemText | None = Field(None, description="UTC time, or its beginning")
    everybody: bool | None = Field(None, description="Other sessions' records too")
    limit: int | None = Field(None, ge=1, le=200, description="Default 50")
    cursor: SystemText | None = Field(None, description="From the last answer, for older ones")


class SnapshotArguments(Arguments):
    """What `snapshot` takes."""

    name: SystemText | None = Field(
        None, min_length=1, max_length=100, description="A name; named ones are kept for good"
    )


class ListArguments(Arguments):
    """What `list_snapshots` takes."""

    limit: int | None = Field(None, ge=1, le=200, description="Default 20")
    skip: int | None = Field(None, ge=0, description="Pass over so many of the newest")


class DiffArguments(Arguments):
    """What `diff` takes."""

    base: SystemText = Field(
        description="Snapshot: id or its beginning, name, latest; or a call: what that changed"
    )
    target: SystemText | None = Field(None, description="Another (default: now)")
    path: SystemText | None = Field(None, description="The text changes of this one file")
    skip: int | None = Field(None, ge=0, description="Lines of the answer to pass over")


class RollbackArguments(Arguments):
    """What `rollback` takes."""

    snapshot: SystemText = Field(
        description="Id or its beginning, name, latest; or a call, for before it"
    )
    paths: list[SystemText] | None = Field(
        None, description="Only these paths or globs (default: everything)"
    )
    scope: Literal["everything", "agent"] | None = Field(
        None, description='"agent": only what calls changed and nobody touched since'
    )
    dry_run: bool | None = Field(None, description="Only tell what it would do")

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if self.paths is not None and self.scope is not None:
            raise PydanticCustomError("scope", "give paths or scope, not both")
        if self.paths is not None and not self.paths:
            raise PydanticCustomError("scope", "paths is empty: name some, or leave it out")
        return self


class VerifyArguments(Arguments):
    """What `audit_verify` takes: nothing."""


A = TypeVar("A", bound=Arguments)


def parse(model: type[A], arguments: dict[str, Any]) -> A:
    """Return *arguments* as *model*; null means left out, as some clients write it.

    Raises:
        ValidationError: They aren't what the tool takes; `mistakes` says why.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    return model.model_validate(given)


def mistakes(error: ValidationError, known: Mapping[str, Any]) -> str:
    """Return what is wrong with arguments, on one line; *known* are a tool's, by its schema."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    texts = [_mistake(one["type"], one["loc"], one["msg"], known) for one in found[:ERRORS_MAX]]
    if len(found) > ERRORS_MAX:
        texts.append(f"and {len(found) - ERRORS_MAX} more")
    return "; ".join(texts)


def _mistake(
    kind: str, where: tuple[int | str, ...], message: str, known: Mapping[str, Any]
) -> str:
    if not where:
        return message
    if kind != "extra_forbidden":
        at, _ = _place(where, known)
        return f"{at}: {_said(message)}"
    at, known = _place(where[:-1], known)
    name = str(where[-1])[:40]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"{at and f'{at}: '}unknown argument {name!a}: {hint}"


def _said(message: str) -> str:
    message = message.replace("Input should be", "must be")
    # pydantic's words for a text that was looked at first.
    return _LENGTH.sub(r"must have \1 characters", message)


def _place(where: tuple[int | str, ...], known: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return *where* as it's written, without pydantic's own words, and what may stand there."""
    at = ""
    for part in where:
        if isinstance(part, int):
            at += f"[{part}]"
        elif part in known:
            at += f".{part}" if at else part
            inside = known[part].get("items", known[part])
            known = inside.get("properties", {})
    return at, known


class _PlainSchema(GenerateJsonSchema):
    """Few tokens: an optional argument has its type, and isn't required; that says it all."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, _schema: object) -> bool:
        return False


def _inlined(shown: Any, known: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return a schema with definitions put where they are referred to, as every client reads it."""
    if isinstance(shown, list):
        return [_inlined(one, known) for one in shown]
    if not isinstance(shown, dict):
        return shown
    known = shown.get("$defs", known)
    if "$ref" in shown:
        definition = known[shown["$ref"].rpartition("/")[2]]
        told = {k: v for k, v in definition.items() if k not in ("title", "description")}
        return _inlined(told, known)
    return {
        key: _inlined(value, known)
        for key, value in shown.items()
        if key != "$defs" and not _is_idle(key, value)
    }


def _is_idle(key: str, value: object) -> bool:
    """Tell whether a bound teaches nothing that is worth its tokens; it's kept all the same."""
    if key == "minLength":
        return value == 1
    return key in ("minimum", "maximum") and isinstance(value, int) and abs(value) >= _IDLE_MIN


def schema(model: type[Arguments]) -> dict[str, Any]:
    """Return the JSON Schema that clients are shown."""
    shown = _inlined(model.model_json_schema(schema_generator=_PlainSchema), {})
    return {key: value for key, value in shown.items() if key not in ("title", "description")}
