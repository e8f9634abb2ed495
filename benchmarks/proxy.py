"""The proxy against nono-py's (Rust) and nginx, in one run.

    python -m benchmarks.proxy [--peer-python PYTHON] [--seconds S]

PYTHON is an interpreter that has nono-py. It needs `nginx` (which is the upstream too) and `wrk`.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy_peers import CREDENTIAL

MEGA = 1 << 20
BULK = 100 * MEGA
FLOORS = ("asyncio", "epoll")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Contender:
    """A proxy that runs, and how it's spoken to."""

    name: str
    pids: list[int]
    port: int
    path: str
    token: str
    secret: str

    def cpu_s(self) -> float:
        """Return the processor time it has used."""
        total = 0
        for pid in self.pids:
            fields = (
                Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            )
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    def resident_kib(self) -> int:
        """Return its resident memory."""
        total = 0
        for pid in self.pids:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            total += int(status.partition("VmRSS:")[2].split()[0])
        return total

    def head(self, method: str, path: str, extra: str = "") -> bytes:
        """Return a request's head."""
        lines = f"{method} {self.path}{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        return f"{lines}Authorization: Bearer {self.token}\r\n{extra}\r\n".encode()

    def open(self) -> socket.socket:
        """Connect to it."""
        return socket.create_connection(("127.0.0.1", self.port), 30)


_NGINX = """
worker_processes 1; pid {place}/pid; error_log {place}/error.log; daemon off;
events {{ worker_connections 4096; }}
http {{
  access_log {log}; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  client_max_body_size 0; keepalive_requests 10000000; sendfile on;
  {body}
}}
"""
_UPSTREAM = """
server {{ listen 127.0.0.1:{port}; root {place}/www;
  location /up {{ proxy_request_buffering off; proxy_http_version 1.1; proxy_buffering off;
    proxy_pass http://127.0.0.1:{sink}; }}
  location / {{ }} }}
"""
_REVERSE = """
upstream u {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 10000000; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; proxy_http_version 1.1;
  proxy_buffering off; proxy_request_buffering off;
  proxy_set_header Connection ""; proxy_set_header Authorization "Bearer {key}"; }} }}
"""


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def nginx(place: Path, port: int, body: str, log: str = "off") -> Iterator[list[int]]:
    """Run nginx; give its processes."""
    place.mkdir()
    (place / "conf").write_text(_NGINX.format(place=place, body=body, log=log), encoding="ascii")
    command = ["nginx", "-c", f"{place}/conf", "-e", f"{place}/error.log"]
    with subprocess.Popen(command) as process:  # noqa: S603 - our own words
        try:
            _await(port)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            yield [int(pid) for pid in children.read_text(encoding="ascii").split()]
        finally:
            process.terminate()


def _await(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise TimeoutError(port)


@contextmanager
def python_peer(name: str, python: str, upstream: int) -> Iterator[Contender]:
    """Run a proxy of `benchmarks.proxy_peers`."""
    command = [python, "-m", "benchmarks.proxy_peers", name, str(upstream)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            if process.stdout is None:
                raise AssertionError("it has a pipe")
            said = json.loads(process.stdout.readline())
            yield Contender(name, [process.pid], **said)
        finally:
            process.terminate()


def requests(contender: Contender, connections: int, seconds: int) -> list[str]:
    """Ask for a small answer over kept connections; return figures for one row."""
    before = contender.cpu_s()
    url = f"http://127.0.0.1:{contender.port}{contender.path}/small"
    field = f"Authorization: Bearer {contender.token}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", field, url]
    out = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in out:
        raise RuntimeError(f"{contender.name}: {out}")
    words = out.split()
    count = int(words[words.index("requests") - 1])
    used = (contender.cpu_s() - before) / count
    per_s = words[words.index("Requests/sec:") + 1]
    return [
        per_s,
        words[words.index("50%") + 1],
        words[words.index("99%") + 1],
        f"{used * 1e6:.0f}",
    ]


def _until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def connects(contender: Contender, upstream: int, count: int) -> list[str]:
    """Set up tunnels, one after the other, and get one small answer through each."""
    basic = b64encode(f"nono:{contender.secret}".encode()).decode()
    head = (
        f"CONNECT localhost:{upstream} HTTP/1.1\r\nHost: localhost:{upstream}\r\n"
        f"Proxy-Authorization: Basic {basic}\r\n\r\n"
    ).encode()
    before, began = contender.cpu_s(), time.perf_counter()
    for _ in range(count):
        with contender.open() as sock:
            sock.sendall(head)
            said = _until(sock, b"\r\n\r\n")
            if b" 200 " not in said:
                raise RuntimeError(f"{contender.name}: {said!r}")
            sock.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            _until(sock, b"ok")
    took = time.perf_counter() - began
    return [f"{count / took:.0f}", f"{(contender.cpu_s() - before) / count * 1e6:.0f}"]


def bulk(contender: Contender) -> list[str]:
    """Move 100 MB down and up by the route; return MB/s of each and CPU ms per 100 MB."""
    figures: list[str] = []
    for method in ("GET", "POST"):
        before, began = contender.cpu_s(), time.perf_counter()
        try:
            moved = _down(contender) if method == "GET" else _up(contender)
        except OSError as error:
            figures += [type(error).__name__, "-"]
            continue
        took = time.perf_counter() - began
        if moved != BULK:
            figures += ["failed", "-"]
            continue
        figures += [f"{BULK / MEGA / took:.0f}", f"{(contender.cpu_s() - before) * 1e3:.0f}"]
    return figures


def _down(contender: Contender) -> int:
    buffer = bytearray(MEGA)
    with contender.open() as sock:
        sock.sendall(contender.head("GET", "/bulk", "Connection: close\r\n"))
        total = 0
        while count := sock.recv_into(buffer):
            total += count
    return BULK if BULK <= total < BULK + 65536 else total


def _up(contender: Contender) -> int:
    piece = bytes(MEGA)
    with contender.open() as sock:
        sock.sendall(contender.head("POST", "/up", f"Content-Length: {BULK}\r\n"))
        for _ in range(BULK // MEGA):
            sock.sendall(piece)
        return BULK if b" 200 " in _until(sock, b"\r\n\r\n") else 0


def events(contender: Contender, count: int) -> list[str]:
    """Return the median time to the first event, and the memory that idle connections take."""
    taken: list[float] = []
    for _ in range(count):
        with contender.open() as sock:
            began = time.perf_counter()
            sock.sendall(contender.head("GET", "/up/events"))
            _until(sock, b"data: 1")
            taken.append(time.perf_counter() - began)
    return [f"{statistics.median(taken) * 1e3:.2f}"]


def memory(contender: Contender, count: int) -> list[str]:
    """Return the resident memory of a proxy, and what *count* kept connections add to it."""
    before = contender.resident_kib()
    with ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(contender.open())
            sock.sendall(contender.head("GET", "/small"))
            _until(sock, b"ok")
        after = contender.resident_kib()
    return [f"{before / 1024:.0f}", f"{(after - before) / 1024:.0f}"]


def sink(listener: socket.socket) -> None:
    """Swallow bodies, and send events at once."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_swallow, args=(sock,), daemon=True).start()


def _swallow(sock: socket.socket) -> None:
    with sock:
        head, _, rest = _until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
        if b"/events" in head:
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
            )
            sock.recv(1)
            return
        left = BULK - len(rest)
        buffer = bytearray(MEGA)
        while left and (count := sock.recv_into(buffer)):
            left -= count
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def _print(title: str, heads: list[str], rows: dict[str, list[str]]) -> None:
    print(f"\n{title}\n{'':12}" + "".join(f"{head:>14}" for head in heads))  # noqa: T201
    for name, row in rows.items():
        print(f"{name:12}" + "".join(f"{cell:>14}" for cell in row))  # noqa: T201


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    if shutil.which("nginx") is None or shutil.which("wrk") is None:
        sys.exit("error: nginx and wrk are needed")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        Path(directory).chmod(0o755)
        contenders, upstream = _start(stack, Path(directory), options.peer_python)
        for connections in (1, 16, 64):
            rows = {each.name: requests(each, connections, options.seconds) for each in contenders}
            _print(f"GET, {connections} kept", ["requests/s", "p50", "p99", "CPU us/req"], rows)
        ports = [each for each in contenders if each.secret]
        rows = {each.name: connects(each, upstream, 400) for each in ports}
        _print("CONNECT and one answer", ["set-ups/s", "CPU us each"], rows)
        rows = {each.name: bulk(each) for each in contenders}
        _print("100 MB by the route", ["MB/s down", "CPU ms", "MB/s up", "CPU ms"], rows)
        rows = {each.name: events(each, 60) for each in contenders}
        _print("first event", ["ms, median"], rows)
        rows = {each.name: memory(each, 1000) for each in contenders}
        _print("memory", ["MB before", "MB for 1000"], rows)


def _start(stack: ExitStack, place: Path, peer_python: str) -> tuple[list[Contender], int]:
    """Start the upstream and the contenders."""
    upstream, front = _free(), _free()
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
    threading.Thread(target=sink, args=(listener,), daemon=True).start()
    ends = listener.getsockname()[1]
    body = _UPSTREAM.format(port=upstream, place=place / "upstream", sink=ends)
    stack.enter_context(nginx(place / "upstream", upstream, body))
    files = place / "upstream" / "www"
    files.mkdir()
    (files / "small").write_bytes(b"ok")
    with (files / "bulk").open("wb") as file:
        file.truncate(BULK)
    found = [stack.enter_context(python_peer("ours", sys.executable, upstream))]
    if peer_python:
        found.append(stack.enter_context(python_peer("nono-py", peer_python, upstream)))
    found += [stack.enter_context(python_peer(each, sys.executable, upstream)) for each in FLOORS]
    body = _REVERSE.format(port=front, upstream=upstream, key=CREDENTIAL)
    log = str(place / "access.log")
    pids = stack.enter_context(nginx(place / "front", front, body, log))
    found.append(Contender("nginx", pids, front, "", CREDENTIAL, ""))
    return found, upstream


if __name__ == "__main__":
    main()
