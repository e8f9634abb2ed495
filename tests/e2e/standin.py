"""A model that does as it is told: stands in for Anthropic's and OpenAI's, on loopback.

    python standin.py --turns turns.json --log log.jsonl -- CLIENT ARGUMENT...

The turns are a list; each is {"tool": NAME, "arguments": {...}} or {"text": TEXT}, and may have
"marks": PATH, a file that it makes when it comes to that turn, and "once": PATH, for which it then
waits to be there. A request that holds n tool results is answered by turn n, so one that is
repeated is answered as before. In a
tool's arguments {last:REGEX} is what its group finds in the newest result that has it. In the
arguments of the client, and in its environment, {port} is the port. Every request that offers
tools is logged on a line: what they are called, what is said of them, what the results were.

With --alone it first takes itself to a network that has nothing but loopback.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Standin(BaseHTTPRequestHandler):
    """Answers by the turns."""

    protocol_version = "HTTP/1.1"
    turns: ClassVar[list[dict[str, Any]]] = []
    log_path: ClassVar[str] = ""
    lock: ClassVar[threading.Lock] = threading.Lock()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing: standard error is the client's."""

    def do_GET(self) -> None:
        self._send_json({"data": [], "models": [], "object": "list"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        path = self.path.partition("?")[0]
        if path.endswith("/v1/messages"):
            self._anthropic(body)
        elif path.endswith("/responses"):
            self._openai(body)
        else:
            self._send_json({"input_tokens": 1})

    def _turn(self, wire: str, tools: list[dict[str, Any]], results: list[str]) -> dict[str, Any]:
        seen = {"wire": wire, "tools": tools, "results": results}
        with self.lock, open(self.log_path, "a", encoding="utf-8") as log:  # noqa: PTH123 - a log
            log.write(json.dumps(seen) + "\n")
        if len(results) >= len(self.turns):
            return {"text": "no more"}
        written = json.dumps(self.turns[len(results)])

        def found(wanted: re.Match[str]) -> str:
            expression = re.compile(json.loads(f'"{wanted[1]}"'))
            matches = [match for text in results if (match := expression.search(text))]
            return json.dumps(matches[-1][1])[1:-1]

        turn: dict[str, Any] = json.loads(re.sub(r"\{last:(.+?)\}(?!\})", found, written))
        if "marks" in turn:
            open(turn["marks"], "w").close()  # noqa: PTH123 - short
        while "once" in turn and not os.path.exists(turn["once"]):  # noqa: PTH110 - short
            time.sleep(0.02)
        return turn

    def _anthropic(self, body: dict[str, Any]) -> None:
        blocks = [
            block
            for message in body["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
        ]
        results = [_text(b.get("content")) for b in blocks if b["type"] == "tool_result"]
        # Titles and summaries are asked for without tools.
        turn = (
            self._turn("anthropic", body["tools"], results) if body.get("tools") else {"text": "x"}
        )
        if "tool" in turn:
            block = {"type": "tool_use", "id": f"toolu_{len(results)}", "name": turn["tool"]}
            start, reason = block | {"input": {}}, "tool_use"
            part = {"type": "input_json_delta", "partial_json": json.dumps(turn["arguments"])}
            whole = block | {"input": turn["arguments"]}
        else:
            start, reason = {"type": "text", "text": ""}, "end_turn"
            part = {"type": "text_delta", "text": turn["text"]}
            whole = {"type": "text", "text": turn["text"]}
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if not body.get("stream"):
            self._send_json(message | {"content": [whole], "stop_reason": reason})
            return
        end = {"stop_reason": reason, "stop_sequence": None}
        self._send_events(
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": part},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        )

    def _openai(self, body: dict[str, Any]) -> None:
        outputs = [item for item in body["input"] if item["type"] == "function_call_output"]
        results = [_text(item["output"]) for item in outputs]
        turn = self._turn("openai", body.get("tools", []), results)
        if "tool" in turn:
            namespace, _, name = turn["tool"].rpartition("/")
            item = {
                "type": "function_call",
                "id": f"fc_{len(results)}",
                "call_id": f"call_{len(results)}",
                "name": name,
                "arguments": json.dumps(turn["arguments"]),
                "status": "completed",
            }
            item |= {"namespace": namespace} if namespace else {}
        else:
            content = [{"type": "output_text", "text": turn["text"], "annotations": []}]
            item = {"type": "message", "id": "m", "role": "assistant", "content": content}
        response = {
            "id": f"resp_{len(results)}",
            "object": "response",
            "status": "completed",
            "model": body.get("model"),
            "output": [item],
            "usage": {
                "input_tokens": 1,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 1,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 2,
            },
        }
        self._send_events(
            {"type": "response.created", "response": response | {"output": []}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response},
        )

    def _send_json(self, value: dict[str, Any]) -> None:
        self._send("application/json", json.dumps(value).encode())

    def _send_events(self, *events: dict[str, Any]) -> None:
        texts = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        self._send("text/event-stream", "".join(texts).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(block.get("text", "") for block in content)
    return str(content)


def bring_loopback_up() -> None:
    """Bring up what there is in a new network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def main() -> int:
    """Run the client beside the stand-in, and return its exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("client", nargs="+")
    options = parser.parse_args()
    if options.alone:
        bring_loopback_up()
    with open(options.turns, encoding="utf-8") as turns:  # noqa: PTH123 - short
        Standin.turns = json.load(turns)
    Standin.log_path = options.log
    server = ThreadingHTTPServer(("127.0.0.1", 0), Standin)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = str(server.server_port)
    environ = {name: value.replace("{port}", port) for name, value in os.environ.items()}
    command = [word.replace("{port}", port) for word in options.client]
    return subprocess.run(command, check=False, env=environ).returncode


if __name__ == "__main__":
    sys.exit(main())
