"""What a search printed, line by line: each with the name of its file, which no content can forge.

Names come ended by NUL, as ripgrep's `--null` has it, since they may hold whatever else a line
does: line breaks, colons, what looks like a note of ours.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import os
import re

from nono_mcp.policy.errors import quoted
from nono_mcp.server.text import readable

_NAME_CHARACTERS_MAX = 400
_GAP = re.compile(rb"--\r?\n")
# What ripgrep says of a file that it doesn't show stands without a NUL.
_SAID = re.compile(
    rb": (binary file matches|WARNING: stopped searching binary file after match)[^\n]*\n"
)
_NUMBER = re.compile(rb"[0-9]+([:-])")


def names(output: bytes, top: str) -> list[str]:
    """Return the files that *output* lists; *top* is where the search began."""
    return [_name(name, top) for name in output.split(b"\0")[:-1]]


def lines(output: bytes, top: str) -> list[str]:
    """Return the lines that *output* shows, as path:line:text, or path-line-text around them."""
    found: list[str] = []
    at = 0
    while at < len(output):
        if gap := _GAP.match(output, at):
            found.append("--")
            at = gap.end()
            continue
        end_of_name = output.find(b"\0", at)
        said = _SAID.search(output, at, len(output) if end_of_name < 0 else end_of_name)
        if said is not None:
            found.append(f"{_name(output[at : said.start()], top)}: {said[1].decode()}")
            at = said.end()
            continue
        if end_of_name < 0:
            break  # cut off in the middle of a name
        end = output.find(b"\n", end_of_name)
        end = len(output) if end < 0 else end
        found.append(_line(output[at:end_of_name], output[end_of_name + 1 : end], top))
        at = end + 1
    return found


def _line(name: bytes, rest: bytes, top: str) -> str:
    number = _NUMBER.match(rest)
    mark = ":" if number is None else number[1].decode()
    text = readable(rest.rstrip(b"\r").replace(b"\r", b" "))
    return f"{_name(name, top)}{mark}{text}"


def _name(name: bytes, top: str) -> str:
    path = os.fsdecode(name)
    base = top.rstrip("/")
    if path.startswith(f"{base}/"):
        path = path[len(base) + 1 :]
    elif path == base:
        path = path[path.rfind("/") + 1 :]
    return quoted(path)[:_NAME_CHARACTERS_MAX]
