"""When a server is ready, and what it holds when idle: beside the SDK's import and no-op server.

python -m benchmarks.startup
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.timing import interleaved, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 15
BARE = "python -c 'import mcp.server.mcpserver'"
_ROOT = Path(__file__).resolve().parent.parent
NONO = str(Path(sys.executable).parent / "nono")
_INFO = {"name": "bench", "version": "0"}
_OPENINGS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": _INFO,
    },
    "server/discover": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": _INFO,
        }
    },
}


@contextmanager
def opened(command: list[str], method: str, environ: dict[str, str]) -> Iterator[int]:
    """Start a server, ask it for *method*, and yield its process id once it has answered."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": _OPENINGS[method]}
    process = subprocess.Popen(  # noqa: S603 - ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if "result" not in answer:
            raise RuntimeError(f"{command[0]}: {answer}")
        yield process.pid
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def resident_kib(pid: int) -> int:
    """Return how much memory a process has to itself or shares, as VmRSS says."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    # A child is the thread's that made it.
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            found += descendants(int(child))
    return found


def main() -> None:
    """Measure both, and print them."""
    with tempfile.TemporaryDirectory() as base:
        environ = dict(os.environ) | {"HOME": base, "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
        work = Path(base) / "work"
        work.mkdir()
        nono = [NONO, "serve", "--workspace", str(work)]
        noop = [sys.executable, str(_ROOT / "benchmarks" / "noop_server.py")]

        def ready(command: list[str], method: str) -> Callable[[], None]:
            def run() -> None:
                with opened(command, method, environ):
                    pass

            return run

        importing = [sys.executable, "-c", "import mcp.server.mcpserver"]
        contenders: dict[str, Callable[[], object]] = {
            BARE: lambda: subprocess.run(importing, check=True),  # noqa: S603 - ours
        }
        for method in _OPENINGS:
            contenders[f"no-op server, {method}"] = ready(noop, method)
            contenders[f"nono serve, {method}"] = ready(nono, method)
        show(
            "From the start of a process to its answer, and to its end",
            interleaved(contenders, rounds=ROUNDS, bare=BARE),
        )
        for name, command in (("no-op server", noop), ("nono serve", nono)):
            with opened(command, "initialize", environ) as pid:
                all_of_them = [resident_kib(one) for one in descendants(pid)]
                mib = ", ".join(f"{kib / 1024:.0f}" for kib in all_of_them)
                sys.stdout.write(f"idle RSS of {name}, each process, MiB: {mib}\n")


if __name__ == "__main__":
    main()
