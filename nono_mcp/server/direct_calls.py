"""Calls of tools on a shorter way through the SDK.

The SDK parses a request twice before a tool does it, and dumps a result, parses the dump and dumps
that. Of a request as clients send them, and a result that is text, each says the same again.
Whatever is otherwise goes the SDK's way.

Architecture invariant: what comes to a tool by this way would have come by the SDK's, and is
answered in the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.context import ServerMiddleware
from mcp_types import CallToolRequestParams, CallToolResult, TextContent
from mcp_types.methods import serialize_server_result
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp_types import InputRequiredResult

    Asked = ServerRequestContext[Any, Any]
    Answer = CallToolResult | InputRequiredResult

METHOD = "tools/call"
_MEMBERS = frozenset({"name", "arguments", "_meta"})
_RESERVED = "io.modelcontextprotocol/"
_SERVER_INFO = f"{_RESERVED}serverInfo"


class DirectCalls(ServerMiddleware[Any]):
    """Has *call* do what is asked of the tools that *is_direct* says of; *info* is the server's."""

    def __init__(
        self,
        call: Callable[[Asked, CallToolRequestParams], Awaitable[Answer]],
        is_direct: Callable[[str], bool],
        info: Mapping[str, object],
    ) -> None:
        self._call = call
        self._is_direct = is_direct
        self._info = info
        self._taken: dict[str, Mapping[str, object]] = {}
        """The reserved members of `_meta` that the SDK took last, by the protocol's version."""

    async def __call__(self, ctx: Asked, call_next: CallNext) -> HandlerResult:
        """Answer what is asked, or leave that to the SDK."""
        params = ctx.params
        if ctx.method != METHOD or params is None or not self._may_answer(ctx, params):
            return await call_next(ctx)
        reserved = _reserved(params)
        if self._taken.get(ctx.protocol_version) != reserved:
            result = await call_next(ctx)
            self._taken[ctx.protocol_version] = reserved
            return result
        name, arguments = params["name"], params["arguments"]
        asked = CallToolRequestParams.model_construct(name=name, arguments=arguments)
        answer = wire(await self._call(ctx, asked), ctx.protocol_version)
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            answer["_meta"] = {**answer.get("_meta", {}), _SERVER_INFO: self._info}
        return answer

    def _may_answer(self, ctx: Asked, params: Mapping[str, Any]) -> bool:
        return (
            params.keys() <= _MEMBERS
            and isinstance(params.get("name"), str)
            and isinstance(params.get("arguments"), dict)
            and _is_token(params.get("_meta", {}))
            and self._is_direct(params["name"])
            and _is_begun(ctx)
        )


def _is_begun(ctx: Asked) -> bool:
    """Tell whether there was a handshake, as far as is known: without it the SDK refuses."""
    # No public name tells: an SDK that has it no more is left to judge.
    connection = getattr(ctx.session, "_connection", None)
    return bool(getattr(connection, "initialize_accepted", False))


def _is_token(meta: object) -> bool:
    """Tell whether *meta* is an object whose progress token, if it has one, is one."""
    return isinstance(meta, dict) and type(meta.get("progressToken", 0)) in (int, str)


def _reserved(params: Mapping[str, Any]) -> dict[str, object]:
    meta = params.get("_meta", {})
    return {name: value for name, value in meta.items() if name.startswith(_RESERVED)}


def wire(answer: Answer, version: str) -> dict[str, Any]:
    """Return *answer* as the SDK sends it to a client of the protocol's *version*."""
    if not isinstance(answer, CallToolResult) or not _is_text(answer):
        dumped = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
        return serialize_server_result(METHOD, version, dumped)
    told: dict[str, Any] = {} if answer.meta is None else {"_meta": answer.meta}
    texts = (one.text for one in answer.content if isinstance(one, TextContent))
    told["content"] = [{"text": text, "type": "text"} for text in texts]
    told["isError"] = bool(answer.is_error)
    if version in MODERN_PROTOCOL_VERSIONS:
        told["resultType"] = "complete"
    return told


def _is_text(answer: CallToolResult) -> bool:
    return answer.structured_content is None and all(
        isinstance(one, TextContent) and one.annotations is None and one.meta is None
        for one in answer.content
    )
