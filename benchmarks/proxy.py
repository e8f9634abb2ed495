"""The proxy against nono-py's (Rust) and nginx, in one run, with a verdict on each bar.

    python -m benchmarks.proxy [--peer-python PYTHON] [--seconds S] [--rounds N] [--only ROWS...]

PYTHON is an interpreter that has nono-py. It needs `nginx` (which is the upstream too) and `wrk`.
Contenders take turns. A figure is the median of its rounds; the best of them for bodies and events,
which say more of what else runs on the machine than of the proxy. `asyncio` and `epoll` are relays
that look at nothing: the floor under any proxy in Python (`benchmarks.proxy_floor`).
"""

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.proxy_measures import (
    BULK,
    MEGA,
    Contender,
    bulk,
    connects,
    events,
    memory,
    requests,
    until,
)
from benchmarks.proxy_peers import CREDENTIAL
from benchmarks.proxy_verdicts import (
    judge_bodies,
    judge_events,
    judge_memory,
    judge_requests,
    judge_tunnels,
    judge_unlike,
    show,
    turns,
)

# Bodies are made of events as models stream them: zeros would be easier to look through.
_BETWEEN_EVENTS_S = 0.002
_EACH_ITS_OWN = """
local n = 0
request = function()
  n = n + 1
  wrk.headers["X-Request-Id"] = tostring(n)
  return wrk.format()
end
"""
EVENT = b'data: {"id":"chatcmpl-123","choices":[{"delta":{"content":" hello"}}]}\n\n'
FLOORS = ("asyncio", "epoll")
ROWS = ("requests", "unlike", "tunnels", "bodies", "events", "memory")
_ASKED = ["requests/s", "p50 ms", "p99 ms", "CPU us/req"]


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
            yield _children(process.pid)
        finally:
            process.terminate()


def _children(parent: int) -> list[int]:
    """Return the processes of *parent*, once it has some: it listens before it has."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        told = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        if told:
            return [int(pid) for pid in told.split()]
        time.sleep(0.01)
    raise TimeoutError(parent)


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


def sink(listener: socket.socket) -> None:
    """Swallow bodies, and send events at once."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_swallow, args=(sock,), daemon=True).start()


def _swallow(sock: socket.socket) -> None:
    with sock:
        head, _, rest = until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
        if b"/events" in head:
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
            )
            # Long enough for the first to be seen alone.
            time.sleep(_BETWEEN_EVENTS_S)
            with contextlib.suppress(OSError):
                sock.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
            return
        left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]) - len(rest)
        buffer = bytearray(MEGA)
        while left and (count := sock.recv_into(buffer)):
            left -= count
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def main() -> None:
    """Print every table, and then the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS)
    options = parser.parse_args()
    if shutil.which("nginx") is None or shutil.which("wrk") is None:
        sys.exit("error: nginx and wrk are needed")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        Path(directory).chmod(0o755)
        (script := Path(directory, "each.lua")).write_text(_EACH_ITS_OWN, encoding="ascii")
        everybody, upstream = _start(stack, Path(directory), options.peer_python)
        proxies = [each for each in everybody if each.name not in FLOORS]
        verdicts: list[Callable[[], None]] = []
        for row in options.only:
            if row == "requests":
                verdicts += _requests(everybody, options.seconds, options.rounds)
            elif row == "unlike":
                verdicts += _unlike(proxies, options.seconds, options.rounds, str(script))
            elif row == "tunnels":
                verdicts += _tunnels(everybody, upstream, options.rounds)
            else:
                verdicts += _BY_PROXY[row](proxies, options.rounds)
    print()  # noqa: T201
    for verdict in verdicts:
        verdict()


def _requests(everybody: list[Contender], seconds: int, rounds: int) -> list[Callable[[], None]]:
    verdicts: list[Callable[[], None]] = []
    for count in (1, 16, 64):
        measure = partial(requests, connections=count, seconds=seconds)
        rows = turns(everybody, measure, rounds)
        show(f"GET, {count} kept", _ASKED, rows)
        if count > 1:
            verdicts.append(partial(judge_requests, count, rows))
    return verdicts


def _unlike(
    proxies: list[Contender], seconds: int, rounds: int, script: str
) -> list[Callable[[], None]]:
    measure = partial(requests, connections=16, seconds=seconds, script=script)
    rows = turns(proxies, measure, rounds)
    show("GET, 16 kept, no two heads the same", _ASKED, rows)
    return [partial(judge_unlike, rows)]


def _tunnels(everybody: list[Contender], upstream: int, rounds: int) -> list[Callable[[], None]]:
    tunnels = [each for each in everybody if each.secret]
    rows = turns(tunnels, lambda each: connects(each, upstream, 300), rounds)
    show("CONNECT and one answer", ["set-ups/s", "CPU us each"], rows)
    return [partial(judge_tunnels, rows)]


def _bodies(proxies: list[Contender], rounds: int) -> list[Callable[[], None]]:
    rows = turns(proxies, bulk, rounds, (max, max, max, min))
    show("100 MB by the route", ["MB/s down", "8 MB up", "100 MB up", "CPU ms down"], rows)
    return [partial(judge_bodies, rows)]


def _events(proxies: list[Contender], rounds: int) -> list[Callable[[], None]]:
    rows = turns(proxies, lambda each: events(each, 40), rounds, (min, min))
    show("first event", ["ms, ended", "ms, left"], rows)
    return [partial(judge_events, rows)]


def _memory(proxies: list[Contender], rounds: int) -> list[Callable[[], None]]:
    del rounds
    rows = turns(proxies, lambda each: memory(each, 1000), 1)
    show("memory", ["MB before", "MB for 1000", "MB for 2 GB"], rows)
    return [partial(judge_memory, rows)]


_BY_PROXY = {"bodies": _bodies, "events": _events, "memory": _memory}


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
        piece = (EVENT * MEGA)[:MEGA]
        for _ in range(BULK // MEGA):
            file.write(piece)
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
