"""Lines of a byte stream as JSON-RPC messages: MCP's stdio framing.

The specification is MCP's "Transports": one JSON-RPC message a line, UTF-8, no batches. What
isn't one gets an answer that says so, under the request's id wherever that can be told: a
client that waits for an answer would otherwise wait for ever.

Architecture invariant: this module does no I/O, and holds no more of a line than
`MESSAGE_BYTES_MAX`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
)
from mcp_types.jsonrpc import jsonrpc_message_adapter
from pydantic import ValidationError

if TYPE_CHECKING:
    from mcp_types import JSONRPCMessage, RequestId

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
_END_BYTES = 1024
"""How much of each end of a line that is too long is kept, to look for its id."""
_ID = r'"id":(-?[0-9]{1,18}|"[ !#-\[\]-~]{1,100}")'
# As clients write it: the id among the first members, or as the last one. Before the first value
# that isn't a plain string, and right before the brace that ends the line, a member is the
# message's own and not one of its parameters'.
_ID_FIRST = re.compile(r'\{(?:"[a-z]+":"[ !#-\[\]-~]*",){0,2}' + _ID + "[,}]")
_ID_LAST = re.compile(r"," + _ID + r"\}\s*$")


@dataclass(frozen=True, slots=True)
class Oversized:
    """A line that was too long to keep: its ends and its length."""

    head: bytes
    tail: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to give to what isn't a message."""

    answer: JSONRPCError


class Lines:
    """Cuts a byte stream into lines, with bounded memory."""

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """Take in the next bytes of the stream and return the lines that they complete."""
        *complete, rest = chunk.split(b"\n")
        lines = []
        for part in complete:
            self._append(part)
            lines.append(self._cut())
        self._append(rest)
        return [line for line in lines if line]

    def _append(self, part: bytes) -> None:
        self._size_bytes += len(part)
        if self._size_bytes <= self._bytes_max:
            if part:
                self._parts.append(part)
            return
        for known in (*self._parts, part):
            self._head += known[: _END_BYTES - len(self._head)]
            self._tail = (self._tail + known[-_END_BYTES:])[-_END_BYTES:]
        self._parts.clear()

    def _cut(self) -> bytes | Oversized:
        line: bytes | Oversized
        if self._size_bytes > self._bytes_max:
            line = Oversized(self._head, self._tail, self._size_bytes)
        else:
            line = b"".join(self._parts).strip(b" \t\r")
        self._parts.clear()
        self._size_bytes = 0
        self._head = self._tail = b""
        return line


def parse(line: bytes | Oversized) -> JSONRPCMessage | Refusal:
    """Return the message that *line* holds, or the answer to give instead of reading it."""
    if isinstance(line, Oversized):
        reason = f"the message has {line.size_bytes} bytes; at most {MESSAGE_BYTES_MAX} are read"
        return _refusal(_id_at_ends(line.head, line.tail), INVALID_REQUEST, reason)
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        return _refused(line, error)
    if isinstance(message, JSONRPCNotification) and b'"id"' in line and "id" in json.loads(line):
        # To pydantic a request whose id is no id is a notification with something more in it.
        return _refusal(None, INVALID_REQUEST, "the id of a request is a string or a whole number")
    return message


def _refused(line: bytes, error: ValidationError) -> Refusal:
    first = error.errors(include_url=False, include_input=False)[0]
    try:
        # Takes lone surrogates, so that the id of what holds one can be told.
        value = json.loads(line)
    except (ValueError, RecursionError):
        id_ = _id_at_ends(line[:_END_BYTES], line[-_END_BYTES:])
        return _refusal(id_, PARSE_ERROR, f"the message isn't JSON in UTF-8: {first['msg']}")
    if isinstance(value, list):
        return _refusal(None, INVALID_REQUEST, "send one message a line: MCP has no batches")
    if not isinstance(value, dict):
        return _refusal(None, INVALID_REQUEST, "a message is a JSON object")
    id_ = _request_id(value.get("id"))
    if first["type"] == "json_invalid":
        reason = f"the message holds what can't be text, as a lone surrogate: {first['msg']}"
        return _refusal(id_, PARSE_ERROR, reason)
    return _refusal(id_, INVALID_REQUEST, "the message isn't a JSON-RPC 2.0 request")


def _request_id(value: object) -> RequestId | None:
    if isinstance(value, str):
        return value if value.isprintable() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id_at_ends(head: bytes, tail: bytes) -> RequestId | None:
    found = _ID_FIRST.match(head.decode("latin-1")) or _ID_LAST.search(tail.decode("latin-1"))
    return None if found is None else _request_id(json.loads(found[1]))


def _refusal(id_: RequestId | None, code: int, message: str) -> Refusal:
    error = ErrorData(code=code, message=message)
    return Refusal(JSONRPCError(jsonrpc="2.0", id=id_, error=error))


def encode(message: JSONRPCMessage) -> bytes:
    """Return *message* as the bytes of its line."""
    try:
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
    except ValueError:
        # Something of the client's that JSON can say and UTF-8 can't came back in an answer.
        text = json.dumps(message.model_dump(by_alias=True, exclude_unset=True))
    return text.encode() + b"\n"
