"""A provider on the loopback: it remembers what it was sent, and may be told to misbehave."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Upstream(ThreadingHTTPServer):
    """An HTTP server; what came is in *heard*, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[tuple[str, str, dict[str, str]]] = []
        self.status = 200
        self.says: bytes | None = None
        """What it answers instead of what it was sent."""

    @property
    def keys(self) -> set[str]:
        """Return every Authorization that was sent."""
        return {headers.get("authorization", "") for _, _, headers in self.heard}

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with cls() as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            yield server
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self._note()
        sent = json.dumps(dict(self.headers)).encode()
        says = sent if self.server.says is None else self.server.says
        self._answer({"content-type": "application/json", "location": "/elsewhere"}, [says])

    def do_POST(self) -> None:
        if self.server.says is not None:
            self.do_GET()
            return
        self._note()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.path.endswith("/messages"):
            self._messages()
            return
        sent = self.headers.get("authorization", "")
        if not body.get("stream"):
            self._answer({"content-type": "application/json"}, [json.dumps({"e": sent}).encode()])
            return
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        events = [
            {**chunk, "choices": [{"index": 0, "delta": {"content": piece}}]}
            for piece in ("Hel", "lo ", sent)
        ]
        lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
        # The credential comes back, and in two chunks.
        cut = lines[-1].index(sent.encode()) + len(sent) // 2
        lines[-1:] = [lines[-1][:cut], lines[-1][cut:]]
        self._answer({"content-type": "text/event-stream"}, [*lines, b"data: [DONE]\n\n"])

    def _messages(self) -> None:
        """Answer as Anthropic does, with the key that was sent in the text."""
        about: dict[str, object] = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
        }
        about |= {"stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        sent = self.headers.get("x-api-key") or self.headers["authorization"]
        pieces = [{"type": "text_delta", "text": piece} for piece in ("Hel", "lo ", sent)]
        empty = {"type": "text", "text": ""}
        events: list[dict[str, object]] = [
            {"type": "message_start", "message": about},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            *({"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_stop"},
        ]
        lines = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events]
        self._answer({"content-type": "text/event-stream"}, lines)

    def _note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.heard.append((self.command, self.path, headers))

    def _answer(self, headers: dict[str, str], chunks: list[bytes]) -> None:
        self.send_response(self.server.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for chunk in filter(None, chunks):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass
