"""What confined programs pay for being confined, beside the same programs run bare.

    python -m benchmarks.inside [--files N]

Each program times its own work, so that its start isn't in it, in a workspace where a session's
guard and undo are at work. Then what it takes to begin a session.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from benchmarks.timing import Row, show
from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.policy.request import Request
from nono_mcp.session import Command, Session
from nono_sandbox import landlock
from nono_sandbox.confinement import LANDLOCK, NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PYTHON = "/usr/bin/python3"
BARE = "bare"
ROUNDS = 9
SESSIONS = 15
DIRECTORY_FILES = 100
SOURCES = 12
RULES = 5000

TIMED = """
import os, subprocess, sys, time
def timed(act):
    began_at = time.perf_counter()
    act()
    print(time.perf_counter() - began_at)
def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
"""
OPENS = "open and close, 50,000 times"
FLOOR = """
sys.path.insert(0, {sandbox!r})
from nono_sandbox import _uapi, landlock
rights = landlock.handled(landlock.abi_version())[0]
ruleset = landlock.create_ruleset(rights, 0, 0)
landlock.allow(ruleset, os.open("tree/0", os.O_PATH), rights)
_uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)
_uapi.landlock_restrict_self(ruleset)
"""
PROGRAMS = {
    OPENS: """
def act():
    for _ in range(50_000):
        os.close(os.open("tree/0/0.c", os.O_RDONLY))
timed(act)
""",
    "stat, 100,000 times": """
def act():
    for _ in range(100_000):
        os.stat("tree/0/0.c")
timed(act)
""",
    "read 4 KiB, 100,000 times": """
def act():
    for _ in range(100_000):
        os.pread(fd, 4096, 0)
fd = os.open("tree/0/0.c", os.O_RDONLY)
timed(act)
""",
    "a tree's names and attributes": """
def act():
    for directory, _, names in os.walk("tree"):
        for name in names:
            os.lstat(os.path.join(directory, name))
timed(act)
""",
    "start true, 100 times": """
timed(lambda: [run("/bin/true") for _ in range(100)])
""",
    "git status": """
timed(lambda: run("git", "-C", "tree", "status", "--porcelain"))
""",
    "a C build": """
run("make", "-s", "-C", "build", "clean")
timed(lambda: run("make", "-s", "-C", "build", f"-j{os.cpu_count()}"))
""",
}


def prepare(workspace: Path, files: int) -> None:
    """Make a repository of *files* files, and *SOURCES* sources to compile, in *workspace*."""
    for number in range(0, files, DIRECTORY_FILES):
        directory = workspace / "tree" / str(number // DIRECTORY_FILES)
        directory.mkdir(parents=True)
        for inner in range(min(DIRECTORY_FILES, files - number)):
            (directory / f"{inner}.c").write_text(f"int f{number + inner}(void);\n" * 20)
    git = ["git", "-C", str(workspace / "tree"), "-c", "user.name=b", "-c", "user.email=b@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)  # noqa: S603 - the commands above
    build = workspace / "build"
    build.mkdir()
    for number in range(SOURCES):
        body = "".join(f"int f{number}_{n}(int x) {{ return x * {n}; }}\n" for n in range(300))
        (build / f"s{number}.c").write_text(f"#include <stdio.h>\n#include <stdlib.h>\n{body}")
    (build / "main.c").write_text("int main(void) { return 0; }\n")
    objects = " ".join(["main.o", *(f"s{number}.o" for number in range(SOURCES))])
    (build / "Makefile").write_text(
        f"app: {objects}\n\tcc -o app {objects}\nclean:\n\trm -f app *.o\n"
    )


def request(
    base: Path, tier: str, *, read: tuple[str, ...] = (), deny: tuple[str, ...] = ()
) -> Request:
    """Return a session's request for the workspace in *base*."""
    return Request(
        workspace=str(base / "workspace"),
        tier=tier,
        environ=dict(os.environ),
        home=str(Path.home()),
        state_dir=str(base / "state"),
        config_dir=str(base / "config"),
        flags=Document(filesystem=FilesystemSection(read=read, deny=deny)),
    )


async def programs(base: Path) -> None:
    """Run each program bare and in a session of either tier, in turn."""
    async with (
        Session.open(request(base, NAMESPACES)) as first,
        Session.open(request(base, LANDLOCK)) as second,
    ):
        contenders: dict[str, Callable[[str], Awaitable[str]]] = {
            BARE: lambda source: _bare(base / "workspace", source),
            "first tier (namespaces)": lambda source: _confined(first, source),
            "second tier (Landlock)": lambda source: _confined(second, source),
        }
        for name, source in PROGRAMS.items():
            beside = {"Landlock alone, one rule": lambda source: _at_least(base, source)}
            acts = contenders | (beside if name == OPENS else {})
            taken: dict[str, list[float]] = {who: [] for who in acts}
            for _ in range(ROUNDS + 1):
                for who, act in acts.items():
                    taken[who].append(float(await act(TIMED + source)))
            show(name, rows({who: times[1:] for who, times in taken.items()}))


def rows(taken: dict[str, list[float]]) -> list[Row]:
    """Return the table of *taken*: the ratio is the median of each round's own."""
    return [
        Row(
            who,
            statistics.median(times),
            statistics.median(one / bare for one, bare in zip(times, taken[BARE], strict=True)),
            statistics.quantiles(times, n=10)[-1],
        )
        for who, times in taken.items()
    ]


async def _bare(workspace: Path, source: str) -> str:
    ended = await anyio.run_process([PYTHON, "-I", "-S", "-c", source], cwd=workspace)
    return ended.stdout.decode()


async def _at_least(base: Path, source: str) -> str:
    """Run *source*, with TIMED, under the least that Landlock's looking can cost.

    The kernel goes up from a file to the rules that grant what is asked for: here to the next
    directory, in a session to the workspace, or from what is granted for reading to the root.
    """
    sandbox = str(Path(landlock.__file__).parents[1])
    timed = source.replace(TIMED, TIMED + FLOOR.format(sandbox=sandbox))
    return await _bare(base / "workspace", timed)


async def _confined(session: Session, source: str) -> str:
    result = await session.run(Command((PYTHON, "-I", "-S", "-c", source)))
    if result.status:
        raise RuntimeError(f"{result!r}")
    return result.output.ends()[0].decode()


async def beginnings(base: Path) -> None:
    """Time how long it takes to begin a session, plain and with many rules."""
    for directory in ("granted", "denied"):
        for number in range(RULES):
            (base / directory / str(number)).mkdir(parents=True)
    many = {
        directory: tuple(str(base / directory / str(number)) for number in range(RULES))
        for directory in ("granted", "denied")
    }
    kinds = {
        "plain": request(base, NAMESPACES),
        "5,000 grants": request(base, NAMESPACES, read=many["granted"]),
        "5,000 denials": request(base, NAMESPACES, read=(str(base),), deny=many["denied"]),
    }
    found = []
    for name, wanted in kinds.items():
        times = []
        for _ in range(SESSIONS):
            began_at = time.perf_counter()
            async with Session.open(wanted) as session:
                await session.run(Command(("/bin/true",)))
                times.append(time.perf_counter() - began_at)
        median = statistics.median(times)
        found.append(Row(name, median, 1.0, statistics.quantiles(times, n=10)[-1]))
    show("a session begun, and its first call", found)


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory(prefix="nono-bench-", dir="/var/tmp") as directory:
        base = Path(directory)
        prepare(base / "workspace", files)
        anyio.run(programs, base)
    with tempfile.TemporaryDirectory(prefix="nono-bench-", dir="/var/tmp") as directory:
        base = Path(directory)
        (base / "workspace").mkdir()
        anyio.run(beginnings, base)


if __name__ == "__main__":
    main()
