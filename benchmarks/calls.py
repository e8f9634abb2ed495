"""What one confined call costs, beside the bare operation and the peers that install here.

    python -m benchmarks.calls

Peers are measured where they are installed: nono-py and sandlock from PyPI, bubblewrap and
firejail from the distribution. A peer that is missing is said to be.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from benchmarks.timing import interleaved, interleaved_async, show
from nono_mcp.kept_lanes import LANE_IDLE_S_MAX, LANES_KEPT
from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.policy.request import Request
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TRUE = "/bin/true"
ROUNDS = 200
BARE = "posix_spawn + wait"
_ROOT = Path(__file__).resolve().parent.parent
NONO = str(Path(sys.executable).parent / "nono")
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc")


def request(base: Path, *, rules: int = 0) -> Request:
    """Return a session's request with a workspace in *base* and *rules* grants more."""
    workspace = base / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    granted = []
    for number in range(rules):
        directory = base / "granted" / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        granted.append(str(directory))
    return Request(
        workspace=str(workspace),
        tier=NAMESPACES,
        environ=dict(os.environ),
        home=str(Path.home()),
        state_dir=str(base / "state"),
        config_dir=str(base / "config"),
        flags=Document(filesystem=FilesystemSection(read=tuple(granted))),
    )


def spawn() -> None:
    """Run the bare operation."""
    os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)


def peers(workspace: str) -> dict[str, Callable[[], object]]:
    """Return the peers that are installed, as callables that run the program once."""
    found: dict[str, Callable[[], object]] = {}
    if importlib.util.find_spec("nono_py"):
        found |= _nono_py(workspace)
    if importlib.util.find_spec("sandlock"):
        found |= _sandlock(workspace)
    bwrap = shutil.which("bwrap")
    if bwrap:
        command = [bwrap, "--ro-bind", "/", "/", "--bind", workspace, workspace, "--unshare-all"]
        command += ["--dev", "/dev", "--proc", "/proc", "--die-with-parent", TRUE]
        found["bubblewrap"] = lambda: subprocess.run(command, check=True)  # noqa: S603
    return found


def _nono_py(workspace: str) -> dict[str, Callable[[], object]]:
    import nono_py  # noqa: PLC0415 - a peer that need not be there

    caps = nono_py.CapabilitySet()
    for path in _SYSTEM:
        caps.allow_path(path, nono_py.AccessMode.READ)
    caps.allow_path(workspace, nono_py.AccessMode.READ_WRITE)
    caps.block_network()
    return {
        "nono-py": lambda: nono_py.sandboxed_exec(caps, [TRUE], cwd=workspace),
        "nono-py, with a timeout": lambda: nono_py.sandboxed_exec(
            caps, [TRUE], cwd=workspace, timeout_secs=30.0
        ),
    }


def _sandlock(workspace: str) -> dict[str, Callable[[], object]]:
    import sandlock  # noqa: PLC0415 - a peer that need not be there

    def run() -> object:
        readable = [*_SYSTEM, "/proc", "/dev"]
        return sandlock.Sandbox(fs_readable=readable, fs_writable=[workspace]).run([TRUE])

    return {"sandlock": run}


@asynccontextmanager
async def sessions(base: Path) -> AsyncIterator[dict[str, Session]]:
    """Open the sessions that are compared."""
    async with (
        Session.open(request(base)) as plain,
        # Of one workspace, each would pay for a look at what the other's calls did.
        Session.open(request(base / "ruled", rules=1000)) as ruled,
    ):
        yield {"plain": plain, "1,000 rules": ruled}


async def calls(base: Path) -> None:
    """Compare one call, warm, through Session."""
    async with sessions(base) as opened:
        await _small(opened)
        ballast = bytearray(os.urandom(1 << 20) * 500)
        await _big(opened)
        del ballast
        for count in (8, 64):
            await _many(opened["plain"], count)
        _memory(opened["plain"], "just after 64 callers at once")
        with anyio.move_on_after(2 * LANE_IDLE_S_MAX):
            # Other processes' ends raise no event here.
            while len(_below(opened["plain"].fork_server_pid)) > LANES_KEPT:  # noqa: ASYNC110
                await anyio.sleep(0.1)
        _memory(opened["plain"], f"{LANE_IDLE_S_MAX:g} s later")


def _true(session: Session, timeout_s: float | None = None) -> Callable[[], Awaitable[object]]:
    command = Command((TRUE,), timeout_s=timeout_s)
    return lambda: session.run(command)


def _awaited(act: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def run() -> object:
        return act()

    return run


async def _small(opened: dict[str, Session]) -> None:
    plain = opened["plain"]
    contenders = {
        BARE: _awaited(spawn),
        f"Session ({plain.tier})": _true(plain),
        "Session, with a timeout": _true(plain, 60.0),
        "Session, 1,000 rules": _true(opened["1,000 rules"]),
    }
    others = peers(plain.prepared.confinement.cwd)
    contenders |= {name: _awaited(act) for name, act in others.items()}
    show(
        "one confined /bin/true, warm",
        await interleaved_async(contenders, rounds=ROUNDS, bare=BARE),
    )


async def _big(opened: dict[str, Session]) -> None:
    contenders = {BARE: _awaited(spawn), "Session": _true(opened["plain"], 60.0)}
    rows = await interleaved_async(contenders, rounds=ROUNDS, bare=BARE)
    show("the same from a supervisor of 500 MB", rows)


async def _many(session: Session, count: int) -> None:
    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(session.run, Command((TRUE,)))

    with ThreadPoolExecutor(count) as pool:
        contenders = {
            BARE: _awaited(
                lambda: [task.result() for task in [pool.submit(spawn) for _ in range(count)]]
            ),
            "Session": all_of_them,
        }
        rows = await interleaved_async(contenders, rounds=4 * ROUNDS // count, bare=BARE)
    show(f"{count} callers at once", rows)


def _memory(session: Session, when: str) -> None:
    fork_server = session.fork_server_pid
    lanes = _below(fork_server)
    sys.stdout.write(f"\nmemory of a session {when}\n{'':<44} {'PSS MiB':>10} {'own MiB':>8}\n")
    _print_memory("supervisor", [os.getpid()])
    _print_memory("fork server", [fork_server])
    _print_memory(f"its {len(lanes)} lanes and waiting workers", lanes)


def _below(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in children.read_text(encoding="ascii").split():
                found += [int(child), *_below(int(child))]
    return found


def _print_memory(name: str, pids: list[int]) -> None:
    total = own = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            told = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            kib = {line.split(":")[0]: int(line.split()[1]) for line in told[1:]}
            total += kib["Pss"]
            own += kib["Private_Clean"] + kib["Private_Dirty"]
    sys.stdout.write(f"{name:<44} {total / 1024:>10.1f} {own / 1024:>8.1f}\n")


async def _done(client: Client, tool: str, **arguments: object) -> None:
    answer = await client.call_tool(tool, arguments)
    if answer.is_error:
        raise RuntimeError(f"{tool}: {answer.content}")


async def over_mcp(base: Path) -> None:
    """Compare a tool call that runs a program with the SDK's own round trip."""
    nothing = StdioServerParameters(
        command=sys.executable, args=[str(Path(__file__).with_name("noop_server.py"))]
    )
    real = StdioServerParameters(
        command=NONO, args=["serve", "--workspace", str(base / "workspace")]
    )
    bare = "a tool that does nothing (the SDK's own cost)"
    (base / "workspace" / "file").write_text("one\n" * 20)
    there_and_back = (("one", "two"), ("two", "one"))
    edits = itertools.cycle({"old": old, "new": new, "all": True} for old, new in there_and_back)
    async with Client(stdio_client(nothing)) as noop, Client(stdio_client(real)) as nono:
        contenders: dict[str, Callable[[], Awaitable[object]]] = {
            bare: lambda: _done(noop, "noop"),
            "run_sandboxed true": lambda: _done(nono, "run_sandboxed", argv=[TRUE]),
            "read_file": lambda: _done(nono, "read_file", path="file"),
            "edit_file": lambda: _done(nono, "edit_file", path="file", edits=[next(edits)]),
        }
        rows = await interleaved_async(contenders, rounds=ROUNDS, bare=bare)
    show("over MCP, stdio", rows)


def installed(base: Path) -> str:
    """Install a wheel of this program as people have it, and return the path of its command.

    From a checkout that is installed in place a start is longer: `site` has to find the packages.
    """
    wheels, environment = base / "wheels", base / "installed"
    for command in (
        ["hatchling", "build", "-t", "wheel", "-d", str(wheels)],
        ["venv", "--without-pip", str(environment)],
    ):
        subprocess.run(  # noqa: S603 - the commands above
            [sys.executable, "-m", *command], check=True, cwd=_ROOT, stdout=subprocess.DEVNULL
        )
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    (wheel,) = wheels.iterdir()
    options = ["--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "install", *options, str(wheel)], check=True)  # noqa: S603
    return str(environment / "bin" / "nono")


def command_line(base: Path) -> None:
    """Compare the start of `nono run` with that of a bare interpreter."""
    nono = installed(base)
    python = os.path.realpath(sys.executable)
    bare = "python3 -I -S -c pass"
    commands = {
        bare: [python, "-I", "-S", "-c", "pass"],
        "nono run": [nono, "run", "--", TRUE],
        "nono run, the directory written": [nono, "run", "--allow-cwd", "--", TRUE],
    }
    others = {
        "bubblewrap": ["bwrap", "--ro-bind", "/", "/", "--unshare-all", TRUE],
        "firejail": ["firejail", "--quiet", "--noprofile", "--net=none", TRUE],
    }
    commands |= {name: command for name, command in others.items() if shutil.which(command[0])}
    environment = {"PATH": os.environ["PATH"], "HOME": str(base)}

    def runner(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(  # noqa: S603 - the commands above
            command, check=True, cwd=base / "workspace", env=environment, stdout=subprocess.DEVNULL
        )

    contenders = {name: runner(command) for name, command in commands.items()}
    show("from the command line", interleaved(contenders, rounds=60, bare=bare))


def main() -> None:
    """Run every comparison."""
    with tempfile.TemporaryDirectory(prefix="nono-bench-", dir="/var/tmp") as directory:
        base = Path(directory)
        anyio.run(calls, base)
        anyio.run(over_mcp, base)
        command_line(base)


if __name__ == "__main__":
    main()
