"""The suite's tools that ask their client something: by requests of their own, or by rounds."""

import json
from typing import Annotated, Any

from mcp import MCPError
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Context
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, Field

from nono_mcp.server.app import App

Request = ElicitRequest | CreateMessageRequest | ListRootsRequest
Outcome = str | InputRequiredResult
NAME_QUESTION, GREETING_QUESTION = "What is your name?", "Generate a greeting"


class Person(BaseModel):
    username: Annotated[str, Field(description="User's response")]
    email: Annotated[str, Field(description="User's email address")]


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Annotated[str, Field(json_schema_extra={"enum": ["active", "inactive", "pending"]})] = (
        "active"
    )
    verified: bool = True


def _titled(*titles: str) -> list[dict[str, str]]:
    return [{"const": title.lower(), "title": title} for title in titles]


_OPTIONS = ["option1", "option2", "option3"]
_TITLED = _titled("First", "Second", "Third")


def _extra(**schema: Any) -> object:  # noqa: ANN401 - JSON
    return Field(json_schema_extra=schema)


class Enums(BaseModel):
    untitledSingle: Annotated[str, _extra(enum=_OPTIONS)]  # noqa: N815 - the suite's words
    titledSingle: Annotated[str, _extra(oneOf=_TITLED)]  # noqa: N815 - likewise
    legacyEnum: Annotated[str, _extra(enum=_OPTIONS, enumNames=["One", "Two", "Three"])]  # noqa: N815 - likewise
    untitledMulti: Annotated[list[str], _extra(items={"type": "string", "enum": _OPTIONS})]  # noqa: N815 - likewise
    titledMulti: Annotated[list[str], _extra(items={"anyOf": _TITLED})]  # noqa: N815 - likewise


def register(app: App) -> None:
    """Add them to *app*."""
    for asking in (
        sampling,
        elicitation,
        elicitation_sep1034_defaults,
        elicitation_sep1330_enums,
        missing_capability,
        input_required_result_elicitation,
        input_required_result_sampling,
        input_required_result_list_roots,
        input_required_result_request_state,
        input_required_result_multiple_inputs,
        input_required_result_multi_round,
        input_required_result_tampered_state,
        input_required_result_capabilities,
    ):
        app.tool(f"test_{asking.__name__}", structured_output=False)(asking)
    app.prompt("test_input_required_result_prompt")(input_required_result_prompt)


async def sampling(prompt: str, context: Context) -> str:
    """Ask the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    # By the call's own answer: the stream that is the session's may not have been opened yet.
    answer = await context.session.create_message(
        messages=[message], max_tokens=100, related_request_id=context.request_id
    )
    return f"LLM response: {_said(answer)}"


async def elicitation(message: str, context: Context) -> str:
    """Ask the person at the client."""
    return f"User response: {await _elicited(context, message, Person)}"


async def elicitation_sep1034_defaults(context: Context) -> str:
    """Ask with defaults."""
    answer = await _elicited(context, "Please check these values", Defaults)
    return f"Elicitation completed: {answer}"


async def elicitation_sep1330_enums(context: Context) -> str:
    """Ask with every kind of choice."""
    return f"Elicitation completed: {await _elicited(context, 'Please choose', Enums)}"


async def _elicited(context: Context, message: str, schema: type[BaseModel]) -> str:
    answer = await context.elicit(message, schema)
    content = answer.data.model_dump_json() if isinstance(answer, AcceptedElicitation) else "{}"
    return f"action={answer.action}, content={content}"


async def missing_capability(context: Context) -> str:
    """Refuse whoever can't sample."""
    declared = context.client_capabilities
    if declared is None or declared.sampling is None:
        needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling is needed", needed)
    return "it is there"


def _ask(message: str, field: str, kind: str = "string") -> ElicitRequest:
    properties = {field: {"type": kind}}
    schema = {"type": "object", "properties": properties, "required": [field]}
    params = ElicitRequestFormParams(message=message, requested_schema=schema)
    return ElicitRequest(params=params)


def _sample(text: str, tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    params = CreateMessageRequestParams(messages=[message], max_tokens=tokens)
    return CreateMessageRequest(params=params)


def _wanted(state: object = None, **requests: Request) -> InputRequiredResult:
    text = None if state is None else json.dumps(state)
    return InputRequiredResult(input_requests=requests, request_state=text)


def _accepted(context: Context, key: str, field: str) -> object:
    """Return a field of the answer to *key*, or None if that wasn't given as asked."""
    answer = (context.input_responses or {}).get(key)
    if not isinstance(answer, ElicitResult) or answer.action != "accept":
        return None
    return (answer.content or {}).get(field)


def _said(answer: object) -> str | None:
    if isinstance(answer, CreateMessageResult) and isinstance(answer.content, TextContent):
        return answer.content.text
    return None


async def input_required_result_elicitation(context: Context) -> Outcome:
    """Ask for a name."""
    name = _accepted(context, "user_name", "name")
    if not isinstance(name, str):
        return _wanted(user_name=_ask(NAME_QUESTION, "name"))
    return f"Hello, {name}!"


async def input_required_result_sampling(context: Context) -> Outcome:
    """Ask the client's model for a capital."""
    said = _said((context.input_responses or {}).get("capital_question"))
    if said is None:
        return _wanted(capital_question=_sample("What is the capital of France?", 100))
    return said


async def input_required_result_list_roots(context: Context) -> Outcome:
    """Ask for the client's roots."""
    roots = (context.input_responses or {}).get("client_roots")
    if not isinstance(roots, ListRootsResult):
        return _wanted(client_roots=ListRootsRequest())
    return ", ".join(str(root.uri) for root in roots.roots)


async def input_required_result_request_state(context: Context) -> Outcome:
    """Ask for a word, and have a state come back with it."""
    if context.request_state is None or _accepted(context, "confirm", "ok") is None:
        return _wanted("asked", confirm=_ask("Please confirm", "ok", "boolean"))
    return f"state-ok: {json.loads(context.request_state)}"


async def input_required_result_tampered_state(context: Context) -> Outcome:
    """Ask for a word; the SDK's seal judges the state that comes back."""
    return await input_required_result_request_state(context)


async def input_required_result_multiple_inputs(context: Context) -> Outcome:
    """Ask for three things at once."""
    answers = context.input_responses or {}
    if context.request_state is None or not {"user_name", "greeting", "client_roots"} <= set(
        answers
    ):
        return _wanted(
            "three",
            user_name=_ask(NAME_QUESTION, "name"),
            greeting=_sample(GREETING_QUESTION, 50),
            client_roots=ListRootsRequest(),
        )
    return f"{_said(answers['greeting'])} {_accepted(context, 'user_name', 'name')}"


async def input_required_result_multi_round(context: Context) -> Outcome:
    """Ask for one thing, and then for another."""
    name = json.loads(context.request_state)["name"] if context.request_state else None
    color = _accepted(context, "step2", "color")
    if name and color:
        return f"{name} likes {color}."
    name = _accepted(context, "step1", "name")
    if context.request_state and name:
        return _wanted({"name": name}, step2=_ask("Step 2: What is your favorite color?", "color"))
    return _wanted({"name": None}, step1=_ask("Step 1: What is your name?", "name"))


async def input_required_result_capabilities(context: Context) -> Outcome:
    """Ask for no more than the client says it can answer."""
    declared = context.client_capabilities
    requests: dict[str, Request] = {}
    if declared is not None and declared.elicitation is not None:
        requests["user_name"] = _ask(NAME_QUESTION, "name")
    if declared is not None and declared.sampling is not None:
        requests["greeting"] = _sample(GREETING_QUESTION, 50)
    if not requests or context.input_responses:
        return "nothing more to ask"
    return _wanted(**requests)


async def input_required_result_prompt(context: Context) -> Outcome:
    """Say what the person wants said."""
    wanted = _accepted(context, "user_context", "context")
    if wanted is None:
        return _wanted(user_context=_ask("What context should the prompt use?", "context"))
    return f"Use this context: {wanted}"
