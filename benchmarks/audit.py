"""What the audit log costs, beside the bare operations it can't do without.

    python benchmarks/audit.py [--records N]

Ratios in one run: on a busy machine the microseconds move, the ratios hardly.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nono_mcp.audit import reading, verify
from nono_mcp.audit.keys import Checker, SigningKey
from nono_mcp.audit.log import SEGMENT_BYTES_MAX, AuditLog
from nono_mcp.audit.reading import Filters

CALL: dict[str, object] = {
    "argv": ["sh", "-c", "make -j8 test 2>&1 | tail -50"],
    "call": "c1",
    "cwd": "/home/user/project",
    "decision": "allow",
    "meta": {"claudecode/toolUseId": "toolu_01AbCdEfGh"},
    "policy_sha256": "ab" * 32,
    "tier": "namespaces",
    "timeout_ms": 120_000,
    "tool": "run_sandboxed",
}


def median_us(act: Callable[[], object], count: int) -> float:
    """Return the median duration of *act*."""
    durations = []
    for _ in range(count):
        start = time.perf_counter_ns()
        act()
        durations.append(time.perf_counter_ns() - start)
    return statistics.median(durations) / 1000


def line(name: str, value: float, unit: str, note: str = "") -> None:
    """Print one figure."""
    sys.stdout.write(f"{name:44}{value:12.2f} {unit:8}{note}\n")


def append(state: str, count: int) -> None:
    """Append with and without sync, beside a bare signature and a bare write."""
    key, message = SigningKey(), b"x" * 600
    sign = median_us(lambda: key.sign(message), 2000)
    with tempfile.TemporaryFile(dir=state, buffering=0) as file:
        write = median_us(lambda: file.write(message), 2000)

        def synced() -> None:
            file.write(message)
            os.fsync(file.fileno())

        fsync = median_us(synced, 100)
    line("Ed25519 signature, bare", sign, "us")
    line("write, bare", write, "us")
    line("write and fsync, bare", fsync, "us")
    with AuditLog.open(state, None) as log, log.session({}) as session:
        plain = median_us(lambda: session.append("call.start", CALL), count)
        line("append", plain, "us", f"{plain / sign:.2f} signatures")
        sync = median_us(lambda: session.append("call.start", CALL, sync=True), 100)
        line("append with sync", sync, "us", f"{sync / fsync:.2f} bare")


def verification(state: str) -> None:
    """Verify what was appended, with all signatures and without."""
    key, message = SigningKey(), b"x" * 600
    signature, check = key.sign(message), Checker()
    bare = median_us(lambda: check(key.public, signature, message), 1000)
    line("Ed25519 verification, bare", bare, "us")
    for signatures in (False, True):
        # CPU time: the bar is for one core, whatever else runs on it.
        start = time.process_time()
        report = verify.verify(state, None, signatures=signatures)
        took = (time.process_time() - start) * 1e6 / report.size
        name = "all signatures" if signatures else "chain alone"
        note = f"100k records in {took / 10:.1f} s of CPU, {took / bare:.2f} bare verifications"
        line(f"verify a record, {name}", took, "us", note)


def big_tail(state: str) -> None:
    """Read the end of 1 GB: the older segments have the size, and are never looked into."""
    audit = Path(state) / "audit"
    first = int(max(audit.glob("0*.jsonl")).stem)
    for number in range(128):
        path = audit / f"{first + 10**9 + number:016d}.jsonl"
        path.touch(0o600)
        os.truncate(path, SEGMENT_BYTES_MAX)
    last = audit / f"{first + 2 * 10**9:016d}.jsonl"
    last.write_bytes((audit / f"{first:016d}.jsonl").read_bytes())
    size = sum(path.stat().st_size for path in audit.glob("0*.jsonl"))
    took = median_us(lambda: reading.tail(state, Filters(), 20), 20) / 1000
    line(f"tail -n 20 of {size / 1e9:.2f} GB", took, "ms")


def imports() -> None:
    """What `nono run` would pay before its program starts."""

    def start(code: str) -> float:
        command = [sys.executable, "-I", "-c", code]
        return median_us(lambda: subprocess.run(command, check=True), 10) / 1000  # noqa: S603 - ours

    bare = start("pass")
    for name in ("nono_mcp.audit.log", "nono_mcp.audit.keys", "keyring.backends.SecretService"):
        line(f"import {name}", start(f"import {name}") - bare, "ms", "over bare python -I")
    with tempfile.TemporaryDirectory() as state:
        code = (
            "from nono_mcp.audit.log import AuditLog\n"
            f"s = AuditLog.open({state!r}, None).session({{}})\n"
            f"s.append('call.start', {CALL!r})\n"
            "import os; os._exit(0)"
        )
        start(code)
        line("open, session.start, call.start, key file", start(code) - bare, "ms", "over bare")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        append(state, args.records)
        verification(state)
        start = time.perf_counter()
        AuditLog.open(state, None).close()
        line("open and close", (time.perf_counter() - start) * 1000, "ms")
        big_tail(state)
    imports()


if __name__ == "__main__":
    main()
