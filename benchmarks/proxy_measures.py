"""What is measured of a proxy for `benchmarks.proxy`, and how it's spoken to."""

import socket
import statistics
import subprocess
import time
from base64 import b64encode
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

MEGA = 1 << 20
BULK = 100 * MEGA
# What nono-py takes at once: beyond 16 MB its uploads fail.
SMALL_BULK = 8 * MEGA


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
        """Return the processor time it has used, of all its threads."""
        tasks = [task for pid in self.pids for task in Path(f"/proc/{pid}/task").iterdir()]
        told = [(task / "schedstat").read_text(encoding="ascii").split()[0] for task in tasks]
        return sum(map(int, told)) / 1e9

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


def requests(contender: Contender, connections: int, seconds: int, script: str = "") -> list[float]:
    """Ask for a small answer over kept connections; return requests/s, ms at p50, p99, CPU us.

    *script* is one of wrk's, for what is asked.
    """
    before = contender.cpu_s()
    url = f"http://127.0.0.1:{contender.port}{contender.path}/small"
    field = f"Authorization: Bearer {contender.token}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", field]
    command += ["-s", script, url] if script else [url]
    out = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in out:
        raise RuntimeError(f"{contender.name}: {out}")
    words = out.split()
    count = int(words[words.index("requests") - 1])
    used = (contender.cpu_s() - before) / count
    per_s = float(words[words.index("Requests/sec:") + 1])
    half, most = (_ms(words[words.index(mark) + 1]) for mark in ("50%", "99%"))
    return [per_s, half, most, used * 1e6]


def _ms(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def until(sock: socket.socket, end: bytes, data: bytes = b"") -> bytes:
    """Read until *end* has come, behind what has been read."""
    while end not in data:
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def connects(contender: Contender, upstream: int, count: int) -> list[float]:
    """Set up tunnels, each with a small answer; return them a second, and CPU us of each."""
    basic = b64encode(f"nono:{contender.secret}".encode()).decode()
    head = (
        f"CONNECT localhost:{upstream} HTTP/1.1\r\nHost: localhost:{upstream}\r\n"
        f"Proxy-Authorization: Basic {basic}\r\n\r\n"
    ).encode()
    before, began = contender.cpu_s(), time.perf_counter()
    for _ in range(count):
        with contender.open() as sock:
            sock.sendall(head)
            said = until(sock, b"\r\n\r\n")
            if b" 200 " not in said:
                raise RuntimeError(f"{contender.name}: {said!r}")
            sock.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            until(sock, b"ok")
    took = time.perf_counter() - began
    return [count / took, (contender.cpu_s() - before) / count * 1e6]


def bulk(contender: Contender) -> list[float]:
    """Move 100 MB down, 8 MB up and 100 MB up; return MB/s of each, and CPU ms of the first."""
    before, began = contender.cpu_s(), time.perf_counter()
    if _down(contender) != BULK:
        raise RuntimeError(contender.name)
    down = BULK / MEGA / (time.perf_counter() - began)
    used = (contender.cpu_s() - before) * 1e3
    return [down, _rate(contender, SMALL_BULK), _rate(contender, BULK), used]


def _rate(contender: Contender, size: int) -> float:
    """Return the MB/s of an upload, 0 if it fails."""
    began = time.perf_counter()
    try:
        moved = _up(contender, size)
    except OSError:
        return 0.0
    return size / MEGA / (time.perf_counter() - began) if moved else 0.0


def _down(contender: Contender) -> int:
    buffer = bytearray(MEGA)
    with contender.open() as sock:
        sock.sendall(contender.head("GET", "/bulk", "Connection: close\r\n"))
        total = 0
        while count := sock.recv_into(buffer):
            total += count
    return BULK if BULK <= total < BULK + 65536 else total


def _up(contender: Contender, size: int) -> bool:
    piece = bytes(MEGA)
    with contender.open() as sock:
        sock.sendall(contender.head("POST", "/up", f"Content-Length: {size}\r\n"))
        for _ in range(size // MEGA):
            sock.sendall(piece)
        return b" 200 " in until(sock, b"\r\n\r\n")


def events(contender: Contender, count: int) -> list[float]:
    """Return the median ms to the first event: after streams that ended, and ones left midway."""
    found: list[float] = []
    for end in (b"\r\n0\r\n\r\n", b""):
        taken: list[float] = []
        for _ in range(count):
            with contender.open() as sock:
                began = time.perf_counter()
                sock.sendall(contender.head("GET", "/up/events"))
                said = until(sock, b"data: 1")
                taken.append(time.perf_counter() - began)
                # Who leaves in the middle of a stream leaves nothing upstream that can be kept.
                if end:
                    until(sock, end, said)
        found.append(statistics.median(taken) * 1e3)
    return found


def memory(contender: Contender, count: int) -> list[float]:
    """Return resident MB: at first, and what *count* connections and 1 GB both ways add to it."""
    before = contender.resident_kib()
    with ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(contender.open())
            sock.sendall(contender.head("GET", "/small"))
            until(sock, b"ok")
        after = contender.resident_kib()
    for _ in range(10):
        _down(contender)
        _rate(contender, BULK)
    end = contender.resident_kib()
    return [before / 1024, (after - before) / 1024, (end - after) / 1024]
