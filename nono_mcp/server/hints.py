"""From what a failed command printed: what the policy denied it, if that is the likely cause.

The kernel says "permission denied" and no more. What a model needs is the rule, and the words
for the person who could change it.

Architecture invariant: this module does no I/O and decides nothing: it asks `policy.decide`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nono_mcp.policy import ceiling, egress, unreachable
from nono_mcp.policy.decide import Allow, Deny, decide, decide_host
from nono_mcp.policy.errors import quoted
from nono_mcp.policy.paths import as_any_process_names_it
from nono_mcp.server import policy_text
from nono_sandbox.confinement import OPEN, WRITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.policy.egress import Refused
    from nono_mcp.policy.request import Prepared

SUSPECTS_MAX = 4
"""How many accesses of one output are looked into."""
_SHOWN_MAX = 4
_LINE_CHARACTERS_MAX = 2000
_READ_ONLY = re.compile(r"read-only file system|EROFS", re.IGNORECASE)
_REFUSED = re.compile(r"permission denied|operation not permitted|EACCES|EPERM", re.IGNORECASE)
_ABSENT = re.compile(
    r"no such file or directory|nonexistent|can't cd to|not found|ENOENT", re.IGNORECASE
)
_MAKES = re.compile(r"cannot (?:create|touch|make|move|copy|open .* for writing)", re.IGNORECASE)
_PATHS = re.compile(r"(?<![\w./:-])[\w.@%+,=~-]{0,255}/[\w./@%+,=~-]{1,400}")
_ASKABLE = frozenset(
    [
        "fs.outside-grants",
        "fs.private-home",
        "fs.private-tmp",
        "fs.read-only",
        "net.closed",
        "net.host",
    ]
)
_KINDS = {b"d": "directory", b"f": "file"}

# What paths lead to is asked of a worker: it sees what it may, and nothing else. Its answer is
# a line with the kind of each, then its own process and each path as it really is, ended by NUL.
LOCATE = """\
for path; do
  if [ -d "$path" ]; then echo d; elif [ -e "$path" ]; then echo f; else echo -; fi
done
exec readlink -mz -- /proc/self "$@"
"""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An access that the policy may have refused."""

    path: str
    operation: str
    """read or write"""


@dataclass(frozen=True, slots=True)
class Located:
    """A path that a command named, and what it leads to as the command sees it."""

    path: str
    kind: str
    """directory, file, or nothing if nothing is to be seen there."""


def absolute(path: str, cwd: str, home: str) -> str:
    """Return *path* from the root, as a person or a shell may have written it."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return path if path.startswith("/") else f"{cwd}/{path}"


def located(paths: list[str], status: int, answer: bytes) -> list[Located]:
    """Return where the absolute *paths* lead, from what a worker that looked answered."""
    *kinds, rest = answer.split(b"\n", len(paths))
    own, *real = map(os.fsdecode, rest.split(b"\0")[:-1] or [b""])
    normal = [os.path.normpath(path) for path in paths]
    if status or len(kinds) != len(paths) or len(real) != len(paths):
        return [Located(path, "") for path in normal]
    return [
        Located(as_any_process_names_it(path, found, own), _KINDS.get(kind, ""))
        for path, found, kind in zip(normal, real, kinds, strict=True)
    ]


def suspects(output: str, cwd: str, home: str) -> list[Suspect]:
    """Return what *output* says was refused, the last first."""
    found: dict[Suspect, None] = {}
    for line in reversed(output.splitlines()):
        for operation in _operations(line):
            for text in _paths(line[:_LINE_CHARACTERS_MAX]):
                found[Suspect(absolute(text, cwd, home), operation)] = None
        if len(found) >= SUSPECTS_MAX:
            break
    return list(found)[:SUSPECTS_MAX]


def _paths(line: str) -> list[str]:
    found: list[str] = _PATHS.findall(line)
    # A program that names itself first (`/bin/sh: 1: cannot create x/y`) isn't what was refused.
    return found[1:] if len(found) > 1 and line.startswith(f"{found[0]}:") else found


def mentions_refusal(output: str) -> bool:
    """Tell whether *output* reads as if an access had been refused."""
    return bool(_REFUSED.search(output) or _READ_ONLY.search(output))


def _operations(line: str) -> tuple[str, ...]:
    """Return what may have been refused where a program prints *line*."""
    if _READ_ONLY.search(line):
        return ("write",)
    if _REFUSED.search(line):
        return ("write", "read") if _MAKES.search(line) else ("read", "write")
    if _ABSENT.search(line):
        return ("write",) if _MAKES.search(line) else ("read",)
    return ()


def of_paths(prepared: Prepared, suspected: list[Suspect], places: list[Located]) -> str:
    """Return one line about the first of these accesses that the policy refuses, or nothing."""
    for suspect, place in zip(suspected, places, strict=True):
        verdict = decide(prepared, place.path, suspect.operation, place.kind or "file")
        if isinstance(verdict, Deny):
            return denial(prepared, verdict, suspect.operation)
    return ""


def of_hosts(prepared: Prepared, refused: Sequence[Refused]) -> str:
    """Return one line about the first of the hosts that the proxy refused, or nothing."""
    if not refused:
        return ""
    first = refused[0]
    verdict = egress.judge_host(prepared, first.host, first.port)
    at = f"{first.host}:{first.port}"
    others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    if isinstance(verdict, Allow):
        # The policy has it: what it leads to is refused, or the call named fewer hosts itself.
        return f"net.host: the proxy refused {at}{others}: {first.detail.removeprefix(f'{at}: ')}"
    reason = verdict.reason.removeprefix(f"{at}: ")
    text = f"{verdict.code}: the proxy refused {at}{others}: {reason}"
    return f"{text}; {_for_a_person(prepared, verdict)}" if verdict.remedy else text


def of_network(prepared: Prepared, output: str, status: int, argv: tuple[str, ...]) -> str:
    """Return one line about the network, if a host couldn't be reached.

    That is told by the *output* of what *argv* ran, or the *status* that it ended with.
    """
    network = prepared.confinement.network
    if network.mode == OPEN:
        return ""
    if not unreachable.says(output) and not unreachable.is_told_by(status, argv):
        return ""
    if prepared.document.network.mode == egress.PROXY:
        return "net.host: everything leaves by the proxy; programs that don't use it reach nobody"
    verdict = decide_host(network, "it", 0)
    if not isinstance(verdict, Deny):
        return ""
    return (
        f"{verdict.code}: nothing leaves the sandbox ({verdict.rule}); "
        f"{_for_a_person(prepared, verdict)}"
    )


def denial(prepared: Prepared, verdict: Deny, operation: str) -> str:
    """Return *verdict* on one line: what, which rule, what instead, and who can change it."""
    parts = [f"{verdict.code}: {verdict.reason}"]
    if verdict.rule and verdict.rule not in verdict.reason:
        parts.append(f"rule: {verdict.rule}")
    if operation == "write":
        parts.append(f"you may write: {writable(prepared)}")
    if verdict.remedy:
        parts.append(_for_a_person(prepared, verdict))
    return "; ".join(parts)


def _for_a_person(prepared: Prepared, verdict: Deny) -> str:
    remedy = verdict.remedy
    words = f"start nono serve with {remedy}" if remedy.startswith("--") else remedy
    may_ask = verdict.code in _ASKABLE and ceiling.mode(prepared.document.ask) != ceiling.NEVER
    how = " (request_access asks them)" if may_ask else ""
    return f"only a person can change that{how}: {words}"


def writable(prepared: Prepared) -> str:
    """Return where a worker may write, of the person's own files, as text."""
    paths = [quoted(grant.path) for grant in policy_text.theirs(prepared, WRITE)]
    shown = ", ".join(paths[:_SHOWN_MAX]) or "nothing but $TMPDIR and your own $HOME"
    return shown if len(paths) <= _SHOWN_MAX else f"{shown} and {len(paths) - _SHOWN_MAX} more"
