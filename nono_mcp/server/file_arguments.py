"""What clients may pass to the file tools.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from nono_mcp.server.arguments import Arguments, SystemText, UnicodeText

LIMIT_MAX = 100_000
DEPTH_MAX = 10
CONTEXT_MAX = 20
EDITS_MAX = 200


class ReadArguments(Arguments):
    """What `read_file` takes."""

    path: SystemText = Field(min_length=1)
    offset: int | None = Field(
        None, ge=-(10**9), le=10**9, description="First line (default 1); -n: the last n"
    )
    limit: int | None = Field(None, ge=1, le=LIMIT_MAX, description="Lines at most")


class WriteArguments(Arguments):
    """What `write_file` takes."""

    path: SystemText = Field(min_length=1)
    content: UnicodeText


class Edit(BaseModel):
    """One replacement."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    old: Annotated[UnicodeText, Field(min_length=1)]
    new: UnicodeText
    all: bool = Field(default=False, description="Every occurrence")


class EditArguments(Arguments):
    """What `edit_file` takes."""

    path: SystemText = Field(min_length=1)
    edits: list[Edit] = Field(min_length=1, max_length=EDITS_MAX)
    dry_run: bool | None = Field(None, description="Only show the diff")


class ListArguments(Arguments):
    """What `list_directory` takes."""

    path: SystemText | None = Field(None, min_length=1, description="Default: the workspace")
    depth: int | None = Field(None, ge=1, le=DEPTH_MAX, description="Levels (default 1)")


class SearchArguments(Arguments):
    """What `search_files` takes."""

    pattern: UnicodeText | None = Field(
        None, min_length=1, description="Regular expression; without it files are listed"
    )
    path: SystemText | None = Field(None, min_length=1, description="Default: the workspace")
    globs: list[SystemText] | None = Field(None, description='As "*.py", "src/**", "!*.min.js"')
    literal: bool | None = Field(None, description="pattern is plain text")
    ignore_case: bool | None = None
    context: int | None = Field(None, ge=0, le=CONTEXT_MAX, description="Lines around a match")
    names_only: bool | None = Field(None, description="Only the names of files that match")
    everything: bool | None = Field(None, description="Hidden and ignored files too")
