"""What clients may pass to the tools for jobs.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nono_mcp.server.arguments import Arguments, SystemText, UnicodeText

WAIT_S_MAX = 300
INPUT_CHARACTERS_MAX = 65536


class OutputArguments(Arguments):
    """What `read_output` takes."""

    job: SystemText | None = Field(None, description="Without it: the jobs there are")
    offset: int | None = Field(
        None, ge=0, le=1 << 60, description="From this byte (default: where you left off)"
    )
    tail: int | None = Field(None, ge=1, le=9000, description="Instead: the last bytes")
    wait_s: float | None = Field(
        None, ge=0, le=WAIT_S_MAX, allow_inf_nan=False, description="Wait for more, or its end"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.offset is not None and self.tail is not None:
            raise PydanticCustomError("place", "give offset or tail, not both")
        return self


class InputArguments(Arguments):
    """What `send_input` takes."""

    job: SystemText
    text: UnicodeText | None = Field(
        None, max_length=INPUT_CHARACTERS_MAX, description="As typed: end lines with a newline"
    )
    end: bool | None = Field(None, description="Then end the input")
    wait_s: float | None = Field(
        None, ge=0, le=WAIT_S_MAX, allow_inf_nan=False, description="Wait for output (default 1)"
    )


class StopArguments(Arguments):
    """What `stop_job` takes."""

    job: SystemText
    signal: Literal["INT", "TERM", "KILL"] | None = Field(
        None, description="Default TERM; 2 s later KILL"
    )
