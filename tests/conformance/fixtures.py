"""What the conformance suite expects of a server, registered beside our own tools.

Each fixture is named and worded as the suite's scenario says (`conformance list` names them).
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    AudioContent,
    Completion,
    CompletionArgument,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from nono_mcp.server.app import App
from tests.conformance import questions

# One red pixel, and a tenth of a second of nothing.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
WAV = base64.b64encode(
    b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0"
    b"data\x08\0\0\0" + b"\x80" * 8
).decode()
STEP_S = 0.05
Content = TextContent | ImageContent | EmbeddedResource


def register(app: App) -> None:
    """Add every fixture to *app*."""
    for name, tool in TOOLS.items():
        app.tool(name, structured_output=False)(tool)
    for name, schema in SCHEMAS.items():
        app.tool(name, structured_output=False)(anything)
        # As the suite has it, word for word: what is made from a signature has none of this.
        made = app._tool_manager.get_tool(name)  # noqa: SLF001 - there's no other way to it
        assert made is not None
        made.parameters = schema
    questions.register(app)
    _resources(app)
    _prompts(app)
    _protocol(app)


def _resource(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=contents)


def simple_text() -> str:
    """Answer with text."""
    return "This is a simple text response for testing."


def image() -> list[ImageContent]:
    """Answer with an image."""
    return [ImageContent(type="image", data=PNG, mime_type="image/png")]


def audio() -> list[AudioContent]:
    """Answer with a sound."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


def embedded() -> list[EmbeddedResource]:
    """Answer with a resource."""
    text = "This is an embedded resource content."
    return [_resource("test://embedded-resource", "text/plain", text)]


def mixed() -> list[Content]:
    """Answer with one of each."""
    return [
        TextContent(type="text", text="Multiple content types test:"),
        *image(),
        _resource(
            "test://mixed-content-resource", "application/json", '{"test":"data","value":123}'
        ),
    ]


async def logging(context: Context) -> str:
    """Log three lines, and take a moment between them."""
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.info(text)
        await anyio.sleep(STEP_S)
    return "logged"


async def progress(context: Context) -> str:
    """Tell of progress three times."""
    for reached in (0, 50, 100):
        await context.report_progress(reached, 100)
        await anyio.sleep(STEP_S)
    return "done"


def error() -> str:
    """Fail."""
    raise RuntimeError("This tool intentionally returns an error for testing")


def anything() -> str:
    """Answer whatever is asked."""
    return "answered"


async def reconnection(context: Context) -> str:
    """Leave the client waiting at another stream, where streams are kept."""
    await context.close_sse_stream()
    await anyio.sleep(STEP_S)
    return "reconnected"


TOOLS: dict[str, Callable[..., Any]] = {
    "test_simple_text": simple_text,
    "test_image_content": image,
    "test_audio_content": audio,
    "test_embedded_resource": embedded,
    "test_multiple_content_types": mixed,
    "test_tool_with_logging": logging,
    "test_tool_with_progress": progress,
    "test_error_handling": error,
    "test_reconnection": reconnection,
}
_TEXT = {"type": "string"}
_PHONE, _EMAIL = {"required": ["phone"]}, {"required": ["email"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "test_x_mcp_header": {
        "type": "object",
        "properties": {"region": _TEXT | {"x-mcp-header": "Region"}},
        "required": ["region"],
    },
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": _TEXT, "city": _TEXT},
            }
        },
        "properties": {
            "name": _TEXT,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": _TEXT | {"enum": ["phone", "email"]},
            "phone": _TEXT,
            "email": _TEXT,
        },
        "allOf": [{"anyOf": [_PHONE, _EMAIL]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": _PHONE,
        "else": _EMAIL,
        "additionalProperties": False,
    },
}


def _resources(app: App) -> None:
    @app.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """Hold text."""
        return "This is the content of the static text resource."

    @app.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """Hold bytes."""
        return base64.b64decode(PNG)

    @app.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 - the template's word
        """Hold what its id says."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @app.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """Hold what may change."""
        return "Watched resource content."


def _prompts(app: App) -> None:
    @app.prompt("test_simple_prompt")
    def simple() -> str:
        """Say one thing."""
        return "This is a simple prompt for testing."

    @app.prompt("test_prompt_with_arguments")
    def with_arguments(arg1: str, arg2: str) -> str:
        """Say what was given."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @app.prompt("test_prompt_with_embedded_resource")
    def with_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's word
        """Say it with a resource."""
        content = _resource(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(content), UserMessage("Please process the embedded resource above.")]

    @app.prompt("test_prompt_with_image")
    def with_image() -> list[UserMessage]:
        """Say it with an image."""
        return [UserMessage(image()[0]), UserMessage("Please analyze the image above.")]


def _protocol(app: App) -> None:
    """Serve what our own app has no use for."""

    async def complete(_ref: object, argument: CompletionArgument, _context: object) -> Completion:
        known = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=known, total=len(known), has_more=False)

    # The SDK's has no types.
    app.completion()(complete)  # type: ignore[no-untyped-call]

    async def accept(_context: ServerRequestContext[Any], _params: object) -> EmptyResult:
        return EmptyResult()

    add = app._lowlevel_server.add_request_handler  # noqa: SLF001 - as app.serve_subscriptions does
    add("logging/setLevel", SetLevelRequestParams, accept)
    add("resources/subscribe", SubscribeRequestParams, accept)
    add("resources/unsubscribe", UnsubscribeRequestParams, accept)
