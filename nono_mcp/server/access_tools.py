"""`request_access`: one more path or host for this session, if the person says yes.

What is asked for is looked up once, before the question. The question shows where it leads, and
the answer is to that: what was swapped by the time of the yes isn't given.

Architecture invariant: nobody is asked for more than the policy's ceiling, for what would stay
closed, or more often than `QUESTIONS_MAX` times; and nothing takes effect that isn't in the log.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.elicitation import AcceptedElicitation, CancelledElicitation
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve

from nono_mcp.audit.errors import AuditError
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.server import results
from nono_mcp.server.access_requests import AccessRequests, NotAskedError, Open, Question
from nono_mcp.server.attending import refusal
from nono_mcp.server.client_info import asked_by, can_ask
from nono_mcp.server.consent import UNASKED, Agreement
from nono_sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.elicitation import ElicitationResult
    from mcp_types import CallToolResult

    from nono_mcp.server.arguments import AccessArguments
    from nono_mcp.session import Session

REQUEST = (
    "Ask the person to open one more path or host to this session. They or the policy may say no. "
    "why is shown to them: one sentence."
)
QUESTIONS_MAX = 20
"""Of one session. Who is asked for ever says yes in the end."""
REQUESTS_MAX = 100
"""Looked up in one session, asked or not: an answer tells whether something is there."""
ANSWER_S_MAX = 600.0
"""How long a client of the 2026 protocols may take to come back with an answer."""
TOOL = "request_access"


class AccessTools:
    """The tool that has a person give more to one session."""

    def __init__(self, session: Session, changed: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._requests = AccessRequests(session)
        self._changed = changed
        self._asked: dict[AccessArguments, tuple[float, Question]] = {}
        self._refused: set[str] = set()
        self._questions_count = 0
        self._requests_count = 0

    def resolved(self) -> dict[str, tuple[Resolve, bool]]:
        """Return what the SDK is to find out before the tool is run: the question, its answer."""
        question = Resolve(self._question)

        async def consent(question: Question | Open, context: Context[Any, Any]) -> object:
            return await self._put(question, context)

        # By hand, since an annotation can't name what is only there at run time.
        consent.__annotations__ |= {
            "question": Annotated[object, question],
            "context": Context[Any, Any],
            "return": Elicit[Agreement] | Agreement,
        }
        return {"question": (question, False), "consent": (Resolve(consent), True)}

    async def request_access(
        self,
        arguments: AccessArguments,
        context: Context[Any, Any],
        question: Question | Open,
        consent: ElicitationResult[Agreement],
    ) -> CallToolResult:
        """Give what the person agreed to.

        Raises:
            ToolError: It wasn't given.
        """
        if isinstance(question, Open):
            return results.plain(question.text)
        self._asked.pop(arguments, None)
        agreed = isinstance(consent, AcceptedElicitation) and consent.data.agreed
        dismissed = isinstance(consent, CancelledElicitation)
        answer = "yes" if agreed else "dismissed" if dismissed else "no"
        self._record(question, arguments, context, answer)
        if dismissed:
            raise ToolError(
                "the person gave no answer, so nothing was given: do without, or ask again later"
            )
        if not agreed:
            self._refused.add(question.request)
            raise ToolError("the person said no: do without, and don't ask for it again")
        try:
            await question.give()
        except (PolicyError, RefusedError, SandboxError, AuditError, OSError) as error:
            reason = f"agreed to, but not given: {refusal(error)}"
            raise self._refusal(reason, context) from error
        await self._changed()
        return results.plain(
            f"given until the session ends: {question.request}\n"
            "Calls from now on have it; what runs already doesn't. They begin with an empty "
            "$TMPDIR, and don't reach what a job serves on localhost: start that again."
        )

    async def _question(
        self,
        arguments: Any,  # noqa: ANN401 - the SDK reads the annotations, ours isn't to be imported
        context: Context[Any, Any],
    ) -> Question | Open:
        """Return what to ask, or was asked: an answer is to what was shown."""
        if context.request_state is not None:
            asked = self._asked.get(arguments)
            if asked is None or time.monotonic() - asked[0] > ANSWER_S_MAX:
                raise self._refusal("the question has expired: ask again", context)
            return asked[1]
        if self._requests_count >= REQUESTS_MAX:
            raise self._refusal("too much was asked for in this session: do without", context)
        self._requests_count += 1
        try:
            question = await self._requests.question(arguments)
        except NotAskedError as error:
            raise self._refusal(str(error), context) from error
        if isinstance(question, Open):
            return question
        self._verify_askable(question, context)
        self._questions_count += 1
        question = question.numbered(self._questions_count, QUESTIONS_MAX)
        self._asked[arguments] = time.monotonic(), question
        return question

    def _verify_askable(self, question: Question, context: Context[Any, Any]) -> None:
        if question.request in self._refused:
            raise self._refusal("the person said no to that already: do without", context)
        if not can_ask(context):
            reason = f"this client can't ask a person; one could {question.remedy}"
            raise self._refusal(reason, context)
        if self._questions_count >= QUESTIONS_MAX:
            reason = f"the person was asked {QUESTIONS_MAX} times; they could {question.remedy}"
            raise self._refusal(reason, context)

    async def _put(
        self, question: Question | Open, context: Context[Any, Any]
    ) -> Elicit[Agreement] | Agreement:
        if isinstance(question, Open):
            return UNASKED
        if not can_ask(context):
            raise self._refusal("this client can't ask a person any more", context)
        return Elicit(question.text, Agreement)

    def _record(
        self,
        question: Question,
        arguments: AccessArguments,
        context: Context[Any, Any],
        answer: str,
    ) -> None:
        """Record an answer, before it has any effect.

        Raises:
            ToolError: It isn't in the log: it has none.
        """
        if self._session.log is None:
            return
        told = {"request": question.request, "answer": answer, "why": arguments.why}
        told["asked"] = arguments.path or arguments.host or ""
        try:
            self._session.log.append("approval", {**asked_by(context), **told, "tool": TOOL})
        except AuditError as error:
            raise ToolError(f"not recorded, so nothing was given: {error}") from error

    def _refusal(self, reason: str, context: Context[Any, Any]) -> ToolError:
        """Return *reason* as an error, once it's recorded."""
        try:
            self._session.refused(reason, tool=TOOL, asked=asked_by(context))
        except AuditError as error:
            return ToolError(f"{reason} (and not recorded: {error})")
        return ToolError(reason)
