"""Drives `codex app-server` for one turn, as an editor does, and says yes to what it is asked.

    python appserver.py CODEX PROMPT

Every message is a line on standard output. The protocol is JSON-RPC without its version.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

YES = {"action": "accept", "content": {"agreed": True}}


class Server:
    """One running app server."""

    def __init__(self, codex: str) -> None:
        self.process = subprocess.Popen(
            [codex, "app-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._id = 0

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a request."""
        self._id += 1
        self.send({"id": self._id, "method": method, "params": params})
        answer = self.until(
            lambda message: message.get("id") == self._id and "method" not in message
        )
        return dict(answer["result"])

    def until(self, is_wanted: Any) -> dict[str, Any]:  # noqa: ANN401 - a predicate
        """Return the first message that is wanted, answering questions meanwhile."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            sys.stdout.write(line)
            message: dict[str, Any] = json.loads(line)
            if "id" in message and "method" in message:
                yes = message["method"] == "mcpServer/elicitation/request"
                self.send({"id": message["id"], "result": YES if yes else {"action": "decline"}})
            elif is_wanted(message):
                return message
        raise EOFError("the app server has ended")


def main() -> int:
    """Run one turn, and return 0 if it came to its end."""
    codex, prompt = sys.argv[1:]
    server = Server(codex)
    client = {"name": "editor", "title": None, "version": "0"}
    server.ask("initialize", {"clientInfo": client, "capabilities": {"experimentalApi": True}})
    server.send({"method": "initialized"})
    where = {"cwd": os.getcwd(), "approvalPolicy": "on-request", "sandbox": "read-only"}  # noqa: PTH109 - ours
    thread = server.ask("thread/start", where)["thread"]["id"]
    said = [{"type": "text", "text": prompt, "text_elements": []}]
    server.ask("turn/start", {"threadId": thread, "input": said})
    server.until(lambda message: message.get("method") == "turn/completed")
    assert server.process.stdin is not None
    server.process.stdin.close()
    return server.process.wait(20)


if __name__ == "__main__":
    sys.exit(main())
