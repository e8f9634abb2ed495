"""What a person can ask for by name in chat, and the policy as something to read.

Architecture invariant: nothing here acts; a prompt is a message of the person's to the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.server import policy_text
from nono_mcp.server.text import shortened

if TYPE_CHECKING:
    from collections.abc import Container

    from mcp.server.mcpserver import MCPServer

    from nono_mcp.server.enforcement import Enforcement
    from nono_mcp.session import Session

POLICY_URI = "nono://policy"
WHAT_CHANGED = """\
Tell me what you changed in this workspace{since}. Look it up instead of remembering it: {how} \
Say for each file what changed and by which call, and name separately what was refused, what ended \
by a limit, and which jobs still run (read_output{jobs}).\
"""
BY_DIFF = """\
diff with base {base} tells what is different now{each}.\
"""
EACH = ", diff with a call's id as base what that call changed"
BY_GIT = """\
git status --short and git diff --stat show what is different now, where there is a repository.\
"""
BY_LOG = 'audit_tail with kind "call" names every command and file tool that ran.'
WHY_DENIED = """\
Something was denied to you{what}. Find out why and tell me: {log}explain_policy, asked about the \
very path (with its operation) or host, names the rule. Then give me the exact change of \
configuration that its answer names, what else it would open, and how you could do without. Change \
nothing and work around nothing.\
"""
WHY_BY_LOG = 'audit_tail with decision "deny" shows what was refused outright; '
ROLLBACK = """\
I want the workspace back as it was{where}{path}. {which} Show me with rollback's dry_run what it \
would do, in few words: what comes back, what is put back, what is removed, and what stays \
unprotected. Then do it, by rollback and nothing else, and tell me by which id it can be undone.\
"""
OLDEST = "the oldest snapshot of this session (list_snapshots)"
FIRST = "the id that your first answer with a change said to undo it by"
WHICH = "Find out by list_snapshots (and audit_tail, for what a call did) which snapshot I mean."


class Prompts:
    """The prompts and the policy of one session."""

    def __init__(
        self, session: Session, enforcement: Enforcement, *, are_listed: bool = True
    ) -> None:
        self._are_listed = are_listed
        """What a session began is listed to who asks."""
        self._session = session
        self._tools: Container[str] = ()
        self._enforcement = enforcement

    def offer(self, app: MCPServer[None], tools: Container[str]) -> None:
        """Add those to *app* whose *tools* are offered."""
        self._tools = tools
        if "rollback" in tools:
            app.prompt(
                name="rollback",
                title="Roll back",
                description="Have the agent put the workspace back, and show you first.",
            )(self.rollback)
        app.prompt(
            name="what-changed",
            title="What did you change?",
            description="Have the agent report what it changed here, from the records.",
        )(self.what_changed)
        app.prompt(
            name="why-denied",
            title="Why was that denied?",
            description="Have the agent explain a denial, and what you could change.",
        )(self.why_denied)
        app.resource(
            POLICY_URI,
            name="policy",
            title="The sandbox's policy",
            description="What may be done here, and how that is enforced.",
            mime_type="text/plain",
        )(self.policy)

    def rollback(self, snapshot: str = "", path: str = "") -> str:
        """Return the message that asks to go back to *snapshot*, as far as *path* goes."""
        where = f" in {_line(snapshot)}" if snapshot else " before the last change"
        find = WHICH if "list_snapshots" in self._tools else ""
        which = f"The snapshot (or call) is {_line(snapshot)}." if snapshot else find
        return ROLLBACK.format(
            where=where, path=f", as far as {_line(path)} goes" if path else "", which=which
        )

    def what_changed(self, since: str = "") -> str:
        """Return the message that asks what changed, in this session or since a snapshot."""
        told = f" since {_line(since)}" if since else " in this session"
        oldest = OLDEST if "list_snapshots" in self._tools else FIRST
        base = _line(since) if since else oldest
        each = EACH if "list_snapshots" in self._tools else ""
        ways = [BY_DIFF.format(base=base, each=each)] if "diff" in self._tools else [BY_GIT]
        ways += [BY_LOG] if "audit_tail" in self._tools else []
        how = " ".join(ways)
        jobs = " without a job" if self._are_listed else " for each that you began"
        return WHAT_CHANGED.format(since=told, how=how, jobs=jobs)

    def why_denied(self, what: str = "") -> str:
        """Return the message that asks why *what*, a path or a host, was denied."""
        log = WHY_BY_LOG if "audit_tail" in self._tools else ""
        return WHY_DENIED.format(what=f": {_line(what)}" if what else "", log=log)

    def policy(self) -> str:
        """Return what the policy allows."""
        return policy_text.summary(self._session.prepared, self._enforcement)


def _line(text: str) -> str:
    """Return what a person typed, on one line."""
    return shortened(" ".join(text.split()))
