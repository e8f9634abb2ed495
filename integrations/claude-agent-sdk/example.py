"""An agent of the Claude Agent SDK whose only tools are nono's: python example.py WORKSPACE.

It needs what Claude Code needs: a key (ANTHROPIC_API_KEY), or a server (ANTHROPIC_BASE_URL).
"""

import sys

import anyio
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ResultMessage,
    TextBlock,
    ToolResultBlock,
    UserMessage,
    query,
)


def options(workspace: str) -> ClaudeAgentOptions:
    """Return options that leave the agent no tool but ours."""
    nono = {
        "type": "stdio",
        "command": "nono",
        "args": ["serve", "--workspace", workspace],
        "alwaysLoad": True,
    }
    return ClaudeAgentOptions(
        cwd=workspace,
        tools=[],
        mcp_servers={"nono": nono},
        strict_mcp_config=True,
        setting_sources=[],
        allowed_tools=["mcp__nono"],
    )


async def main(workspace: str) -> None:
    """Run the agent, and print what it is told and what it says."""
    async for message in query(
        prompt="make a file, then read the person's key", options=options(workspace)
    ):
        if isinstance(message, AssistantMessage):
            texts = [block.text for block in message.content if isinstance(block, TextBlock)]
        elif isinstance(message, UserMessage) and isinstance(message.content, list):
            results = [b.content for b in message.content if isinstance(b, ToolResultBlock)]
            texts = [str(result) for result in results]
        elif isinstance(message, ResultMessage):
            texts = ["failed"] if message.is_error else []
        else:
            texts = []
        for text in texts:
            print(text)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
