"""The file tools: what an agent names is opened by a confined worker, which answers.

Architecture invariant: nothing here opens, resolves or stats a path that a client named.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.policy.decide import Deny, decide
from nono_mcp.policy.errors import quoted
from nono_mcp.server import file_answers as answers
from nono_mcp.server import file_arguments as given
from nono_mcp.server import file_calls, hints, search_output
from nono_mcp.server.text import shortened
from nono_mcp.session import Command
from nono_sandbox.confinement import GRANT_MOVED

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context
    from mcp_types import CallToolResult

    from nono_mcp.server.arguments import Arguments
    from nono_mcp.server.attending import Attendant
    from nono_mcp.session import Result

TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 8 * 1024 * 1024
PAGE_BYTES_MAX = 40_000
"""What `read_file` returns at most where the number of lines is given."""
ENTRIES_MAX = 1000
_LINE_CHARACTERS_MAX = 300
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR})
_NO_MATCH, _RG_FAILED = 1, 2
_NO_RIPGREP = (126, 127)
# It would wait for whoever is at the other end of a pipe, and read on where a device has no end.
_SEARCH = f'[ -f "$0" ] || [ -d "$0" ] || exit {_RG_FAILED}; exec "$@"'


@dataclass(frozen=True, slots=True)
class FileTool:
    """A tool as clients are told of it."""

    name: str
    title: str
    model: type[Arguments]
    description: str
    writes: bool = False


FILE_TOOLS = (
    FileTool(
        "read_file",
        "Read a file",
        given.ReadArguments,
        "Read a text file (by lines, of any size) or an image. Without limit about 10,000 "
        "characters; the answer says where to go on.",
    ),
    FileTool(
        "write_file",
        "Write a file",
        given.WriteArguments,
        "Make or replace a file, whole and in one step; makes its directories.",
        writes=True,
    ),
    FileTool(
        "edit_file",
        "Edit a file",
        given.EditArguments,
        "Replace exact texts in a file, all edits or none, in order; each old must be there once, "
        "unless all is set. Returns the diff.",
        writes=True,
    ),
    FileTool(
        "list_directory", "List a directory", given.ListArguments, "List a directory, sorted."
    ),
    FileTool(
        "search_files",
        "Search files",
        given.SearchArguments,
        "Search file contents (path:line:text) or, without pattern, list files; as ripgrep does: "
        "hidden and ignored files are left out.",
    ),
)


class FileTools:
    """The file tools of one session."""

    def __init__(self, attendant: Attendant) -> None:
        self._attendant = attendant
        self._session = attendant.session
        self._has_ripgrep = True  # until it turns out otherwise

    async def read_file(self, arguments: given.ReadArguments, context: Context) -> CallToolResult:
        """Read some lines of a file, or an image.

        Raises:
            ToolError: It can't be read.
        """
        path = self._path(arguments.path)
        request = {
            "path": path,
            "offset": arguments.offset or 1,
            "limit": arguments.limit or given.LIMIT_MAX,
            "bytes_max": PAGE_BYTES_MAX if arguments.limit else answers.TEXT_BYTES_MAX,
        }
        done = await self._done(answers.Page, "read_file", request, context)
        return answers.of_page(done.answer, done.body, path)

    async def write_file(self, arguments: given.WriteArguments, context: Context) -> CallToolResult:
        """Make or replace a file.

        Raises:
            ToolError: It can't be written; what was there still is.
        """
        request = {"path": self._path(arguments.path), "content": arguments.content}
        done = await self._done(answers.Written, "write_file", request, context, writes=True)
        return answers.of_written(done, self.denial(done.answer.path, "write"))

    async def edit_file(self, arguments: given.EditArguments, context: Context) -> CallToolResult:
        """Replace texts in a file.

        Raises:
            ToolError: One of them isn't there, or the file can't be written. Nothing was changed.
        """
        dry_run = bool(arguments.dry_run)
        request = {
            "path": self._path(arguments.path),
            "edits": [edit.model_dump() for edit in arguments.edits],
            "dry_run": dry_run,
        }
        done = await self._done(answers.Written, "edit_file", request, context, writes=not dry_run)
        return answers.of_edited(done, dry_run=dry_run)

    async def list_directory(
        self, arguments: given.ListArguments, context: Context
    ) -> CallToolResult:
        """List a directory.

        Raises:
            ToolError: It can't be listed.
        """
        request = {
            "path": self._path(arguments.path),
            "depth": arguments.depth or 1,
            "limit": ENTRIES_MAX,
        }
        done = await self._done(answers.Listing, "list_directory", request, context)
        return answers.of_listing(done.answer)

    async def search_files(
        self, arguments: given.SearchArguments, context: Context
    ) -> CallToolResult:
        """Search contents, or list files.

        Raises:
            ToolError: The expression is none, or the path can't be read.
        """
        path = self._path(arguments.path)
        if self._has_ripgrep:
            answer = await self._by_ripgrep(arguments, path, context)
            if answer is not None:
                return answer
        request = {
            "path": path,
            "pattern": arguments.pattern,
            "globs": arguments.globs or [],
            "literal": bool(arguments.literal),
            "ignore_case": bool(arguments.ignore_case),
            "context": arguments.context or 0,
            "names_only": bool(arguments.names_only),
            "everything": bool(arguments.everything),
            "line_max": _LINE_CHARACTERS_MAX,
            "bytes_max": 2 * answers.TEXT_BYTES_MAX,
        }
        done = await self._done(answers.Found, "search_files", request, context)
        facts = done.answer
        lines = _found(arguments, done.body, path)
        return answers.of_found(lines, path, facts.skipped, is_whole=facts.whole)

    async def _by_ripgrep(
        self, arguments: given.SearchArguments, path: str, context: Context
    ) -> CallToolResult | None:
        """Return what ripgrep finds; None if it isn't to be had, or there is nothing to search."""
        command = Command(
            argv=("/bin/sh", "-c", _SEARCH, path, *_ripgrep(arguments, path)),
            environment={"PATH": file_calls.own_path(self._session.prepared)},
            timeout_s=TIMEOUT_S,
            writes=(),
            network_closed=True,
        )
        result = await self._attendant.run(command, "search_files", context)
        if result.status in _NO_RIPGREP:
            self._has_ripgrep = False
            return None
        output, rest = result.output.ends()
        if result.status == _RG_FAILED and not output:
            return None  # it found nothing to search: the worker will say what is wrong with it
        found = _found(arguments, output, path)
        if result.status == _RG_FAILED and not found:
            raise ToolError(_why(self, path, output))  # all that it printed is what it complains of
        if result.status not in (0, _NO_MATCH, _RG_FAILED):
            raise ToolError(_ended(result))
        return answers.of_found(found, path, (), is_whole=not rest)

    async def _done(
        self,
        model: type[answers.A],
        name: str,
        request: dict[str, Any],
        context: Context,
        *,
        writes: bool = False,
    ) -> answers.Done[answers.A]:
        """Have a worker do *name*; return its answer."""
        command = file_calls.asking(name, request, TIMEOUT_S, writes=writes)
        output = file_calls.Answer(ANSWER_BYTES_MAX)
        result = await self._attendant.run(command, name, context, output.keep)
        if result.status or result.ended.limit:
            raise ToolError(_ended(result))
        try:
            answer, body = answers.parse(model, bytes(output.data))
        except ValueError as error:
            raise ToolError("the worker's answer can't be read: try again") from error
        if isinstance(answer, answers.Failure):
            raise ToolError(self._failure(answer, request["path"], writes=writes))
        return answers.Done(answer, body, result)

    def _path(self, path: str | None) -> str:
        prepared = self._session.prepared
        cwd = prepared.confinement.cwd
        home = dict(prepared.confinement.environment).get("HOME", prepared.home)
        return cwd if path is None else hints.absolute(path, cwd, home)

    def _failure(self, failure: answers.Failure, path: str, *, writes: bool) -> str:
        """Return *failure* on one line, and the rule behind it if it was the policy's doing."""
        where = failure.path or path
        if failure.errno in _REFUSED:
            denied = self.denial(where, "write" if writes else "read")
            if denied:
                return denied
        shown = shortened(quoted(where if where.startswith("/") else path))
        return f"{shown}: {shortened(failure.error)}"

    def denial(self, path: str, operation: str) -> str:
        """Return the line that says that the policy denies this, if it does."""
        prepared = self._session.prepared
        verdict = decide(prepared, path, operation)
        return hints.denial(prepared, verdict, operation) if isinstance(verdict, Deny) else ""


def _ended(result: Result) -> str:
    if result.ended.limit == "wall":
        return f"it took over {TIMEOUT_S:g} s: ask for less"
    if result.ended.limit == GRANT_MOVED:
        return "a grant was moved away while it ran; do it again"
    how = result.ended.limit or (result.ended.failure or (0, f"status {result.status}"))[1]
    return f"it ended early: {how}"


def _why(tools: FileTools, path: str, output: bytes) -> str:
    # What it advises is to give it other options.
    text, _, _ = " ".join(output.decode("utf-8", "replace").split()).partition(" Consider ")
    denied = tools.denial(path, "read") if text.startswith("rg: /") else ""
    return denied or shortened(text.removeprefix("rg: "))


def _found(arguments: given.SearchArguments, output: bytes, path: str) -> list[str]:
    only_names = arguments.pattern is None or bool(arguments.names_only)
    return search_output.names(output, path) if only_names else search_output.lines(output, path)


def _ripgrep(arguments: given.SearchArguments, path: str) -> tuple[str, ...]:
    argv = ["rg", "--no-config", "--no-messages", "--color=never", "--sort=path", "--null"]
    # Git's settings in the private home are a call's to write, and no answer tells of them.
    argv += ["--no-ignore-global"]
    argv += ["--crlf"]  # so that $ is before a line's end, whichever it has
    argv += [f"--glob={glob}" for glob in arguments.globs or ()]
    if arguments.everything:
        argv += ["--hidden", "--no-ignore"]
    if arguments.pattern is None:
        return (*argv, "--files", "--", path)
    argv += ["--line-number", "--no-heading", "--with-filename"]
    argv += [f"--max-columns={_LINE_CHARACTERS_MAX}", "--max-columns-preview"]
    for option, is_set in (
        ("--fixed-strings", arguments.literal),
        ("--ignore-case", arguments.ignore_case),
        ("--files-with-matches", arguments.names_only),
    ):
        argv += [option] if is_set else []
    return (
        *argv,
        f"--context={arguments.context or 0}",
        f"--regexp={arguments.pattern}",
        "--",
        path,
    )
