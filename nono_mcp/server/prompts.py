"""What a person can ask for by name in chat, and the policy as something to read.

Architecture invariant: nothing here acts; a prompt is a message of the person's to the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.server import account
from nono_mcp.server.text import shortened

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from nono_mcp.server.enforcement import Enforcement
    from nono_mcp.session import Session

POLICY_URI = "nono://policy"
WHAT_CHANGED = """\
Tell me what you changed in this workspace in this session. Look it up instead of remembering it: \
audit_tail with kind "call" names every command and file tool that ran; git status --short and \
git diff --stat show what is different now, where there is a repository. Say for each file what \
changed and by which call, and name separately what was refused, what ended by a limit, and which \
jobs still run (read_output without a job).\
"""
WHY_DENIED = """\
Something was denied to you{what}. Find out why and tell me: audit_tail with decision "deny" shows \
what was refused outright; explain_policy, asked about the very path (with its operation) or host, \
names the rule. Then give me the exact change of configuration that its answer names, what else it \
would open, and how you could do without. Change nothing and work around nothing.\
"""


class Prompts:
    """The prompts and the policy of one session."""

    def __init__(self, session: Session, enforcement: Enforcement) -> None:
        self._session = session
        self._enforcement = enforcement

    def offer(self, app: MCPServer[None]) -> None:
        """Add them to *app*."""
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

    def what_changed(self) -> str:
        """Return the message that asks what changed."""
        return WHAT_CHANGED

    def why_denied(self, what: str = "") -> str:
        """Return the message that asks why *what*, a path or a host, was denied."""
        return WHY_DENIED.format(what=f": {shortened(' '.join(what.split()))}" if what else "")

    def policy(self) -> str:
        """Return what the policy allows."""
        return account.summary(self._session.prepared, self._enforcement)
