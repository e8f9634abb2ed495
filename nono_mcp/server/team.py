"""Who may use a server that several people share, and under what: the file of `--team`.

    sessions_max = 16

    [principals.alice]
    tokens_sha256 = ["9f86d0...0f00a08"]        # nono serve --make-token
    workspace = "/srv/alice"
    profile = "python"

The file has no secret in it: of a token it holds the SHA-256, which is as good as it, tokens being
256 random bits.

Architecture invariant: this module does no I/O. What isn't known is an error, which says where.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.lines import locate
from nono_mcp.policy.paths import covers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
COUNT_MAX = 1024
IDLE_S_MAX = 30 * 24 * 3600.0

# To pydantic's expressions `$` is the end, and not a newline before it.
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Principal(_Table):
    """Somebody who has sessions of their own."""

    tokens_sha256: Annotated[list[Digest], Field(max_length=16)] = []
    """More than one for as long as an old one is replaced."""
    subject: Text | None = None
    """Who that is to the authorization server: `sub`, or the client's id where there's none."""
    workspace: AbsolutePath
    profile: Text | None = None
    calls_max: Count = 16
    """Commands at once; more wait."""
    requests_max: Count = 64
    """Requests at once; more are refused."""
    sessions_max: Count = 16
    """Sessions at once, one a client: for one more, the one that isn't used for longest ends."""


class OAuth(_Table):
    """An authorization server whose tokens are taken, too (RFC 9728, RFC 7662)."""

    issuer: Text
    resource: Text
    """This server, as tokens have to name it: `https://HOST[:PORT]/mcp`."""
    introspection: Text
    """Where the issuer tells what a token is."""
    client_id: Text
    secret: Text
    """Where this server's secret for that is kept, as a credential's source: `env://NAME` ..."""
    scopes: list[Text] = []
    """What a token has to have."""


class Team(_Table):
    """The whole file."""

    sessions_max: Count = 64
    """Of everybody, of which nobody has the last that somebody without any may want."""
    calls_max: Count = 64
    """Commands of everybody at once; whose turn it is goes round."""
    idle_s: Annotated[float, Field(gt=0, le=IDLE_S_MAX, strict=False)] = 1800.0
    """How long a session that nobody uses stays."""
    metrics_tokens_sha256: Annotated[list[Digest], Field(max_length=16)] = []
    """Who reads /metrics, which tells of everybody."""
    principals: Annotated[dict[str, Principal], Field(min_length=1, max_length=COUNT_MAX)]
    oauth: OAuth | None = None


def parse(text: str, file: str) -> Team:
    """Return what the team's file says.

    Raises:
        PolicyError: It isn't one, or lets two into one place; the error says where.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"not TOML: {error}", file=file) from None
    try:
        team = Team.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = tuple(first["loc"])
        message, hint = _mistake(first["type"], path, first["msg"])
        raise PolicyError(message, file=file, line=locate(text, path), hint=hint) from None
    for path, message in _problems(team):
        raise PolicyError(message, file=file, line=locate(text, path))
    return team


def _mistake(kind: str, path: tuple[str | int, ...], text: str) -> tuple[str, str]:
    key = ".".join(str(part) for part in path)
    if kind != "extra_forbidden":
        return f"{quoted(key)}: {text[0].lower()}{text[1:]}", ""
    tables = {"principals": Principal.model_fields, "oauth": OAuth.model_fields}
    fields = tables.get(str(path[0]), {}) if len(path) > 1 else Team.model_fields
    near = get_close_matches(str(path[-1]), fields, n=1, cutoff=0.5)
    known = f"known are {', '.join(fields)}"
    return f"unknown key {quoted(key)}", f"did you mean {near[0]}?" if near else known


def _problems(team: Team) -> Sequence[tuple[tuple[str, ...], str]]:
    """Return what is wrong although every value is one: where, and what."""
    found: list[tuple[tuple[str, ...], str]] = []
    owners: dict[str, str] = {}
    subjects: dict[str, str] = {}
    for name, one in team.principals.items():
        at = ("principals", name)
        if not _NAME.fullmatch(name):
            found.append((at, f"{quoted(name)} isn't a name: letters, digits, dots and dashes"))
        if not one.tokens_sha256 and (one.subject is None or team.oauth is None):
            found.append((at, f"{name} has no token, and so no way in"))
        found += [
            ((*at, "tokens_sha256"), f"a token of {name}'s is somebody else's too")
            for digest in one.tokens_sha256
            if owners.setdefault(digest, name) != name or digest in team.metrics_tokens_sha256
        ]
        if one.subject is not None and subjects.setdefault(one.subject, name) != name:
            found.append(((*at, "subject"), f"{name}'s subject is somebody else's too"))
    for name, other in overlapping({name: one.workspace for name, one in team.principals.items()}):
        where = ("principals", name, "workspace")
        found.append((where, f"{name}'s workspace overlaps {other}'s"))
    return found


def overlapping(workspaces: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield whose workspaces are one, or one in the other.

    They would see each other's files and undo each other's work.
    """
    for (name, path), (other, root) in itertools.combinations(workspaces.items(), 2):
        if covers(root, path) or covers(path, root):
            yield other, name
