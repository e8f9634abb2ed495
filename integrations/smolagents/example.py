"""A smolagents agent whose only tools are nono's: python example.py WORKSPACE.

A `ToolCallingAgent`, since a `CodeAgent` runs what its model wrote in this very process. The model
is a script, so that this runs anywhere; put a real one in its place.
"""

import sys

from mcp import StdioServerParameters
from smolagents import MCPClient, ToolCallingAgent
from smolagents.models import (
    ChatMessage,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    MessageRole,
    Model,
)

COMMANDS = ("echo made here > made.txt; cat made.txt", "cat ~/.ssh/id_ed25519 /etc/shadow")


class Scripted(Model):
    """Asks for one command after the other, then says what came of them."""

    def generate(self, messages: list[ChatMessage], **_more: object) -> ChatMessage:
        """Return the next call, or the end."""
        results = [
            str(part["text"])
            for message in messages
            if message.role == MessageRole.TOOL_RESPONSE
            for part in message.content or ()
        ]
        name, arguments = "final_answer", {"answer": "\n".join(results)}
        if len(results) < len(COMMANDS):
            name, arguments = "run_sandboxed", {"command": COMMANDS[len(results)]}
        call = ChatMessageToolCall(
            id=f"call_{len(results)}",
            type="function",
            function=ChatMessageToolCallFunction(name=name, arguments=arguments),
        )
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])


def main(workspace: str) -> None:
    """Run the agent, and print what it says."""
    nono = StdioServerParameters(command="nono", args=["serve", "--workspace", workspace])
    with MCPClient(nono, structured_output=False) as tools:
        for tool in tools:
            for argument in tool.inputs.values():
                # To smolagents what isn't nullable has to be given. Ours says what it misses.
                argument["nullable"] = True
        agent = ToolCallingAgent(tools=tools, model=Scripted(), verbosity_level=0)
        print(agent.run("make a file, then read the person's key"))


if __name__ == "__main__":
    main(sys.argv[1])
