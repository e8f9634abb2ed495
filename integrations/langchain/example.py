"""A LangChain agent whose only tools are nono's: python example.py WORKSPACE.

The model is a script, so that this runs anywhere; put a real one in its place.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools

COMMANDS = ("echo made here > made.txt; cat made.txt", "cat ~/.ssh/id_ed25519 /etc/shadow")


class Scripted(BaseChatModel):
    """Asks for one command after the other, then says what came of them."""

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
        if len(results) < len(COMMANDS):
            call = {
                "name": "run_sandboxed",
                "args": {"command": COMMANDS[len(results)]},
                "id": f"call_{len(results)}",
            }
            message = AIMessage("", tool_calls=[call])
        else:
            message = AIMessage("\n".join(results))
        return ChatResult(generations=[ChatGeneration(message=message)])


async def main(workspace: str) -> None:
    """Run the agent, and print what it says."""
    server = {"transport": "stdio", "command": "nono", "args": ["serve", "--workspace", workspace]}
    async with MultiServerMCPClient({"nono": server}).session("nono") as session:
        agent = create_agent(Scripted(), await load_mcp_tools(session))
        question = {"messages": [("user", "make a file, then read the person's key")]}
        done = await agent.ainvoke(question)
    print(done["messages"][-1].text)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
