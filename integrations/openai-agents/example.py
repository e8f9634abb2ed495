"""An agent of the OpenAI Agents SDK whose only tools are nono's: python example.py WORKSPACE.

The model is a script, so that this runs anywhere; leave `model` out for a real one.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.items import TResponseInputItem, TResponseStreamEvent
from agents.mcp import MCPServerStdio
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)

COMMANDS = ("echo made here > made.txt; cat made.txt", "cat ~/.ssh/id_ed25519 /etc/shadow")


class Scripted(Model):
    """Asks for one command after the other, then says what came of them."""

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        *_settings: object,
        **_more: object,
    ) -> ModelResponse:
        """Return the next call, or the end."""
        items = [] if isinstance(input, str) else input
        results = [
            "".join(part["text"] for part in item["output"])
            for item in items
            if item.get("type") == "function_call_output"
        ]
        output: ResponseOutputItem
        if len(results) < len(COMMANDS):
            output = ResponseFunctionToolCall(
                type="function_call",
                call_id=f"call_{len(results)}",
                name="run_sandboxed",
                arguments=json.dumps({"command": COMMANDS[len(results)]}),
            )
        else:
            text = ResponseOutputText(type="output_text", text="\n".join(results), annotations=[])
            output = ResponseOutputMessage(
                type="message", id="end", role="assistant", status="completed", content=[text]
            )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(
        self, *_asked: object, **_more: object
    ) -> AsyncIterator[TResponseStreamEvent]:
        """Refuse: nothing here streams."""
        raise NotImplementedError


async def main(workspace: str) -> None:
    """Run the agent, and print what it says."""
    set_tracing_disabled(disabled=True)
    parameters = {"command": "nono", "args": ["serve", "--workspace", workspace]}
    async with MCPServerStdio(parameters, client_session_timeout_seconds=60) as nono:
        agent = Agent(name="worker", model=Scripted(), mcp_servers=[nono])
        done = await Runner.run(agent, "make a file, then read the person's key")
    print(done.final_output)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
