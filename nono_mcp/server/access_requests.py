"""What a request for access comes to: nothing, since it's open; a refusal; or a question.

Paths are looked up here with the person's eyes, since no worker sees what isn't granted yet. So
no answer tells more of a path than that it's closed, may not be asked for, or isn't there.

Architecture invariant: nothing here gives anything, and no word of an agent's stands in a question
but in quotes, on a line of its own that says whose it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio.to_thread

from nono_mcp.audit.display import escape
from nono_mcp.policy import ceiling, egress, egress_syntax, resolve
from nono_mcp.policy.decide import Deny, decide
from nono_mcp.policy.document import Document, FilesystemSection, NetworkSection
from nono_mcp.policy.effective_grants import DENIED, OWN, PROTECTED
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_mcp.policy.toml import emit
from nono_mcp.policy.widening import given, widened, with_host
from nono_mcp.server import hints
from nono_mcp.server.attending import refusal
from nono_sandbox.confinement import READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nono_mcp.policy.decide import Allow
    from nono_mcp.server.arguments import AccessArguments
    from nono_mcp.session import Session

SHOWN_CHARACTERS_MAX = 400
"""What takes more isn't asked for: what isn't shown whole isn't agreed to."""
WHY_CHARACTERS_MAX = 300
_CLOSED = (PROTECTED, DENIED, OWN)
_VERBS = {READ: "read", READ | WRITE: "read and write"}
_OPERATIONS = {READ: ("read",), READ | WRITE: ("read", "write")}


class NotAskedError(Exception):
    """It isn't given, and nobody is asked; the text says why, for a model to read."""


@dataclass(frozen=True, slots=True)
class Open:
    """It's open already."""

    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is to be asked, and what a yes gives."""

    request: str
    """What it's for, in a line."""
    text: str
    give: Callable[[], Awaitable[None]]
    remedy: str
    """What a person would do to give it for good."""

    def numbered(self, number: int, most: int) -> Self:
        """Return it as the session's question *number*, so that no two read the same."""
        head = (
            f"An agent asks for more than its sandbox lets it do, until this session ends "
            f"(question {number} of at most {most}):"
        )
        return replace(self, text=f"{head}\n{self.text}")


class AccessRequests:
    """Judges what an agent asks of a person, for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def question(self, arguments: AccessArguments) -> Question | Open:
        """Return what to ask for *arguments*.

        Raises:
            NotAskedError: Nothing.
        """
        if ceiling.mode(self._session.prepared.document.ask) == ceiling.NEVER:
            raise NotAskedError('the policy forbids asking ([ask] mode = "never"): do without')
        try:
            if arguments.path is not None:
                return await self._for_path(arguments, arguments.path)
            return await self._for_host(arguments, arguments.host or "")
        except (PolicyError, RefusedError) as error:
            raise NotAskedError(refusal(error)) from error

    async def _for_path(self, arguments: AccessArguments, asked: str) -> Question | Open:
        prepared = self._session.prepared
        path = hints.absolute(asked, prepared.confinement.cwd, prepared.home)
        access = READ | WRITE if arguments.access == "write" else READ
        place = await anyio.to_thread.run_sync(resolve.resolve, path)
        request = f"{_VERBS[access]} {_shown(place.path)}"
        verdicts = [
            decide(prepared, place.path, one, place.kind or "file") for one in _OPERATIONS[access]
        ]
        denied = [one for one in verdicts if isinstance(one, Deny)]
        if not denied:
            return Open(f"open already: {request}")
        if denied[0].code in _CLOSED:
            # Whether it's there, and where it leads, is no agent's to know.
            raise NotAskedError(
                f"{denied[0].code}: {_shown(path)} stays closed, whoever asks for it"
            )
        if not place.kind:
            raise NotAskedError(
                f"nothing is to be had at {_shown(path)}: ask for what is there, or for the "
                "directory that is to hold it"
            )
        _verify(ceiling.above_for_path(prepared, place, access))
        one = await anyio.to_thread.run_sync(given, place.path, access, place.identity)
        foreseen = await self._session.foresee(lambda flags: widened(flags, [one]))
        for operation in _OPERATIONS[access]:
            _verify(decide(foreseen, place.path, operation, place.kind))
        kind = "a directory, and all in it" if place.kind == "directory" else "a file"
        return Question(
            request,
            _text(f"{request} ({kind})", asked, place.path, arguments.why),
            partial(self._session.grant, place.path, access, place.identity),
            _remedy(f"--{one.key.replace('_', '-')}", path, _for_good(one.key, path)),
        )

    async def _for_host(self, arguments: AccessArguments, asked: str) -> Question | Open:
        from nono_proxy.config import HostRule  # noqa: PLC0415 - as everywhere, by who needs it

        prepared = self._session.prepared
        egress_syntax.check_host(asked)
        rule = HostRule.parse(asked)
        if rule.pattern.startswith("*"):
            raise NotAskedError("ask for one host, not for a zone of them")
        request = f"connect to {_shown(str(rule))}"
        verdict = egress.judge_host(prepared, rule.pattern, rule.port)
        if not isinstance(verdict, Deny):
            return Open(f"open already: {request}")
        _verify(ceiling.above_for_host(prepared, str(rule)))
        foreseen = await self._session.foresee(lambda flags: with_host(flags, str(rule), prepared))
        _verify(egress.judge_host(foreseen, rule.pattern, rule.port))
        document = Document(network=NetworkSection(allow_domains=(str(rule),)))
        return Question(
            request,
            _text(f"{request}, and send it what it can read", asked, asked, arguments.why),
            partial(self._session.grant_host, str(rule)),
            _remedy("--allow-domain", str(rule), document),
        )


def _verify(verdict: Allow | Deny | None) -> None:
    if isinstance(verdict, Deny):
        rule = f" ({verdict.rule})" if verdict.rule and verdict.rule not in verdict.reason else ""
        remedy = f"; {verdict.remedy}" if verdict.remedy else ""
        raise NotAskedError(f"{verdict.code}: {verdict.reason}{rule}{remedy}")


def _shown(text: str) -> str:
    """Return *text* as it's shown to the person: whole, on one line.

    Raises:
        NotAskedError: It's too long for that.
    """
    shown = quoted(text)
    if len(shown) > SHOWN_CHARACTERS_MAX:
        raise NotAskedError(f"{len(text)} characters are too many to be shown to a person")
    return shown


def _text(request: str, asked: str, found: str, why: str) -> str:
    lines = [f"  {request}"]
    if not found.isascii():
        # Letters that look alike, or run the other way, are told apart by their numbers.
        lines.append(f"  which is, spelled out: {found!a}")
    if asked.rstrip("/") != found:
        lines.append(f"  asked for as: {_shown(asked)}")
    said = escape(why, WHY_CHARACTERS_MAX).replace('"', '\\"')
    return "\n".join([*lines, f'Why, in the agent\'s own words: "{said}"'])


def _for_good(key: str, path: str) -> Document:
    return Document(filesystem=FilesystemSection().replace(**{key: (path,)}))


def _remedy(flag: str, value: str, document: Document) -> str:
    try:
        head, *lines = emit(document).split("\n")
    except PolicyError:
        return f"start nono serve with {flag} {quoted(value)}"
    written = f"{' '.join(lines).strip()} under {head} of a policy"
    return f"start nono serve with {flag} {quoted(value)}, or write {written}"
