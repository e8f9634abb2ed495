"""A deep agent whose sandbox is nono's: python example.py WORKSPACE.

The model is a script, so that this runs anywhere; put a real one in its place.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from deepagents import create_deep_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool
from nono_backend import NonoBackend

Turn = tuple[str, dict[str, object]]


def turns(workspace: str) -> list[Turn]:
    """Return what the model asks for."""
    made = f"{workspace}/made.txt"
    return [
        ("write_file", {"file_path": made, "content": "made there\n"}),
        (
            "edit_file",
            {"file_path": made, "old_string": "there", "new_string": "here"},
        ),
        ("execute", {"command": "cat made.txt; cat ~/.ssh/id_ed25519 /etc/shadow"}),
        ("read_file", {"file_path": made}),
        ("grep", {"pattern": "here", "path": workspace}),
        ("glob", {"pattern": "*.txt", "path": workspace}),
    ]


class Scripted(BaseChatModel):
    """Asks for one thing after the other, then says what came of them."""

    script: list[Turn]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **_more: Any
    ) -> "Scripted":
        """Take the tools for granted."""
        return self

    def _generate(self, messages: list[BaseMessage], *_asked: Any, **_more: Any) -> ChatResult:
        results = [str(message.text) for message in messages if isinstance(message, ToolMessage)]
        if len(results) < len(self.script):
            name, arguments = self.script[len(results)]
            call = {"name": name, "args": arguments, "id": f"call_{len(results)}"}
            message = AIMessage("", tool_calls=[call])
        else:
            message = AIMessage("\n".join(results))
        return ChatResult(generations=[ChatGeneration(message=message)])


def main(workspace: str) -> None:
    """Run the agent, and print what it says."""
    with NonoBackend(workspace, timeout_s=60.0) as backend:
        agent = create_deep_agent(model=Scripted(script=turns(workspace)), backend=backend)
        done = agent.invoke({"messages": [("user", "make a file, then read the person's key")]})
    print(done["messages"][-1].text)


if __name__ == "__main__":
    main(sys.argv[1])
