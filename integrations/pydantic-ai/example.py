"""A pydantic-ai agent whose only tools are nono's: python example.py WORKSPACE.

The model is a script, so that this runs anywhere; put a real one in its place.
"""

import asyncio
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

COMMANDS = ("echo made here > made.txt; cat made.txt", "cat ~/.ssh/id_ed25519 /etc/shadow")


def scripted(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Ask for one command after the other, then say what came of them."""
    results = [
        str(part.content)
        for message in messages
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    if len(results) < len(COMMANDS):
        call = ToolCallPart("run_sandboxed", {"command": COMMANDS[len(results)]})
        return ModelResponse(parts=[call])
    return ModelResponse(parts=[TextPart("\n".join(results))])


async def main(workspace: str) -> None:
    """Run the agent, and print what it says."""
    nono = MCPToolset(StdioTransport("nono", ["serve", "--workspace", workspace]), init_timeout=60)
    agent = Agent(FunctionModel(scripted), toolsets=[nono])
    async with agent:
        done = await agent.run("make a file, then read the person's key")
    print(done.output)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
