"""What a worker answers about files, parsed, and as it is told to a model.

Architecture invariant: this module does no I/O. A file's content comes out readable: it moves no
cursor, whatever is in it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeVar

from mcp_types import CallToolResult, ImageContent, TextContent
from pydantic import BaseModel, ConfigDict, PlainValidator, Strict

from nono_mcp.policy.errors import quoted
from nono_mcp.server import changes, results
from nono_mcp.server.text import amount, readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.session import Result

TEXT_BYTES_MAX = 9400
"""With the line above and the one below: at most 10,000 characters."""
_ENTRY_CHARACTERS_MAX = 400


def _text_of_system(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004 - what pydantic takes for an answer of no
    return value


# Of what isn't UTF-8 it holds lone surrogates, which pydantic's own check of a text refuses.
SystemText = Annotated[str, PlainValidator(_text_of_system)]


class Answer(BaseModel):
    """Base of a worker's answers: exact types, and nothing but what is named."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Failure(Answer):
    """It wasn't done."""

    error: SystemText
    errno: int = 0
    path: SystemText = ""


class Page(Answer):
    """What `read_file` found."""

    kind: Literal["text", "binary", "image"]
    size_bytes: int
    mime_type: str = ""
    encoding: str = ""
    first: int | None = None
    count: int = 0
    lines: int | None = None
    cut: bool = False


class Written(Answer):
    """What `write_file` or `edit_file` did."""

    path: SystemText
    size_bytes: int = 0
    count: int = 0
    created: bool = False
    in_place: str = ""


class Listing(Answer):
    """What `list_directory` found."""

    path: SystemText
    total: int
    # JSON has no tuples, which is no matter of types.
    entries: list[Annotated[tuple[SystemText, str, int, SystemText], Strict(strict=False)]]


class Found(Answer):
    """What `search_files` found, beside its output."""

    whole: bool
    skipped: list[SystemText] = []


A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, slots=True)
class Done(Generic[A]):
    """What a worker answered, and how its call ended."""

    answer: A
    body: bytes
    result: Result


def parse(model: type[A], output: bytes) -> tuple[A | Failure, bytes]:
    """Return the two parts of a worker's answer.

    Raises:
        ValueError: It is none.
    """
    line, _, body = output.partition(b"\n")
    try:
        facts = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if line.startswith(b'{"error"'):
        return Failure.model_validate(facts), b""
    return model.model_validate(facts), body


def of_page(page: Page, body: bytes, path: str) -> CallToolResult:
    """Return what was read of the file at *path*."""
    if page.kind == "image" and body:
        image = ImageContent(
            type="image", data=base64.b64encode(body).decode(), mime_type=page.mime_type
        )
        told = f"{quoted(path)}: {page.mime_type}, {amount(page.size_bytes)}"
        return CallToolResult(content=[TextContent(type="text", text=told), image])
    size = amount(page.size_bytes)
    if page.kind != "text":
        what = f"an image ({page.mime_type}), too large to show" if page.mime_type else "binary"
        return _text(f"{quoted(path)}: {what}, {size}. For its bytes: run_sandboxed with xxd")
    facts = [f"{quoted(path)}: {_which_lines(page)}", size]
    if page.encoding:
        facts.append(page.encoding)
    elif not _is_utf8(body):
        facts.append("not all of it UTF-8")
    if b"\r\n" in body:
        facts.append("CR LF line ends")
    parts = [", ".join(facts), readable(body).removesuffix("\n")]
    if page.cut:
        parts.append("[nono] the line goes on: cut it by run_sandboxed with cut -c")
    elif page.first and page.count and page.lines != (last := page.first + page.count - 1):
        parts.append(f"[nono] more: offset {last + 1}")
    return _text("\n".join(parts))


def _which_lines(page: Page) -> str:
    total = f" of {page.lines}" if page.lines is not None else ""
    if not page.count:
        return "empty" if page.lines == 0 else f"no line {page.first}{total}"
    if page.first is None:
        return f"the last {page.count} lines"
    last = page.first + page.count - 1
    return f"line {last}{total}" if page.count == 1 else f"lines {page.first}-{last}{total}"


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def of_written(done: Done[Written], denied: str) -> CallToolResult:
    """Return what was written; *denied* says that the person's file of that name is closed."""
    written = done.answer
    verb = "made" if written.created else "replaced"
    text = f"{verb} {quoted(written.path)}, {amount(written.size_bytes)}{_how(written)}"
    own = [f"[nono] in the sandbox's own files alone: {denied}"] if denied else []
    return _of_change(done.result, [text, *own])


def of_edited(done: Done[Written], *, dry_run: bool) -> CallToolResult:
    """Return what was, or would be, changed in a file."""
    written = done.answer
    count = f"{written.count} replacement{'s' if written.count > 1 else ''}"
    how = " (dry run: nothing is changed)" if dry_run else _how(written)
    text, is_whole = _beginning(readable(done.body), TEXT_BYTES_MAX)
    parts = [f"{quoted(written.path)}: {count}{how}", text.removesuffix("\n")]
    parts += [] if is_whole else ["[nono] the diff goes on"]
    return _of_change(done.result, parts)


def _of_change(result: Result, parts: list[str]) -> CallToolResult:
    """Return *parts*, what was put right since, and what is changed by now and how to undo it."""
    parts += [*results.put_right(result.guarded), changes.of_call(result.changed)]
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join(part for part in parts if part))],
        _meta={results.META_KEY: {"id": result.id, **changes.data(result.changed)}},
    )


def _how(written: Written) -> str:
    return f" (not in one step: {written.in_place})" if written.in_place else ""


def of_listing(listing: Listing) -> CallToolResult:
    """Return the entries of a directory."""
    lines = [_entry(*entry) for entry in listing.entries]
    shown, _ = _beginning("\n".join(lines), TEXT_BYTES_MAX)
    count = shown.count("\n") + 1 if lines else 0
    head = f"{quoted(listing.path)}: {listing.total} entries"
    if count < listing.total:
        head += f", the first {count} shown"
    return _text(f"{head}\n{shown}" if lines else head)


def _entry(name: str, kind: str, size_bytes: int, target: str) -> str:
    shown = quoted(name)[:_ENTRY_CHARACTERS_MAX]
    if kind == "@":
        return f"{shown} -> {quoted(target)[:_ENTRY_CHARACTERS_MAX]}"
    return f"{shown}{kind}" if kind else f"{shown}  {size_bytes}"


def of_found(
    lines: Sequence[str], path: str, skipped: Sequence[str], *, is_whole: bool
) -> CallToolResult:
    """Return what a search below *path* found."""
    text, all_shown = _beginning("\n".join(lines), TEXT_BYTES_MAX)
    parts = [f"in {quoted(path)}:", text] if text else [f"nothing found in {quoted(path)}"]
    if not (is_whole and all_shown):
        parts.append("[nono] there is more: narrow the search (path, globs, names_only)")
    if skipped:
        names = ", ".join(quoted(one) for one in skipped)
        parts.append(f"[nono] too large to be searched without ripgrep: {names}")
    return _text("\n".join(parts))


def _beginning(text: str, characters_max: int) -> tuple[str, bool]:
    """Return the whole lines that *characters_max* has room for, and whether that's all."""
    if len(text) <= characters_max:
        return text, True
    end = text.rfind("\n", 0, characters_max)
    return text[: end if end >= 0 else characters_max], False


def _text(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])
