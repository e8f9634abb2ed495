"""Where nothing moves nothing is looked through; and what moves unseen by who watches is caught."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.guard import root, spots
from nono_mcp.session import Command, Session
from nono_mcp.snapshots.scan import Scan
from nono_mcp.undo.thinning import Thinning
from nono_sandbox.confinement import LANDLOCK
from tests.guard.conftest import LONG_ENOUGH_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.put-right")]

PADDING = "#" + "x" * 40
EVIL = "[core]fsmonitor=evil"
# The file stays open in a socket's queue, in a ring that the kernel takes apart some time after
# the process is gone. Until then no event says that it was written.
IN_FLIGHT = f"""
    import array, ctypes, mmap, os, socket, sys
    fd = os.open(sys.argv[1], os.O_RDWR)
    at = os.pread(fd, 4096, 0).index({PADDING!r}.encode())
    evil = {EVIL!r}.ljust({len(PADDING)}).encode()
    ours, theirs = socket.socketpair()
    ring = array.array("i", [fd, ours.fileno(), theirs.fileno()])
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ring)])
"""
MAPPED = """
    shared = mmap.mmap(fd, os.fstat(fd).st_size)
    shared[at : at + len(evil)] = evil
"""
SUBMITTED = """
    libc = ctypes.CDLL(None, use_errno=True)
    context = ctypes.c_ulong(0)
    assert libc.syscall(206, 1, ctypes.byref(context)) == 0, ctypes.get_errno()
    data = ctypes.create_string_buffer(evil, len(evil))
    request = (ctypes.c_uint64 * 8)(0, 0, 1 | fd << 32, ctypes.addressof(data), len(evil), at)
    requests = (ctypes.c_void_p * 1)(ctypes.addressof(request))
    assert libc.syscall(209, context, 1, requests) == 1, ctypes.get_errno()
    done = (ctypes.c_uint64 * 4)()
    assert libc.syscall(208, context, 1, 1, done, None) == 1, ctypes.get_errno()
"""


def python(path: str, *parts: str) -> str:
    script = "".join(textwrap.dedent(part) for part in parts)
    return f"/usr/bin/python3 -I -S - {path} <<'END'\n{script}\nEND"


@pytest.fixture
def padded(repository: Path) -> Path:
    """Return a repository whose configuration has room for another of the same size."""
    (repository / "sub" / ".git").mkdir(parents=True)
    for directory in (repository, repository / "sub"):
        with (directory / ".git" / "config").open("a") as config:
            config.write(f"{PADDING}\n")
    return repository


class Looks:
    """Counts what is looked through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guard = self.snapshots = 0
        visit, run = spots.visit, Scan.run

        def visited(*args: object) -> None:
            self.guard += 1
            visit(*args)  # type: ignore[arg-type]

        def ran(*args: object, **options: object) -> object:
            self.snapshots += 1
            return run(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(spots, "visit", visited)
        monkeypatch.setattr(Scan, "run", ran)

    @property
    def taken(self) -> tuple[int, int]:
        """Return how many looks the guard and the snapshots had since this was asked last."""
        found = self.guard, self.snapshots
        self.guard = self.snapshots = 0
        return found


@pytest.mark.exact_times
def test_a_call_that_changes_nothing_costs_no_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No real repository: of one Git itself may be tidying up yet.
    (bench.workspace / ".git").mkdir()
    (bench.workspace / ".git" / "config").write_text("[core]\n")
    (bench.workspace / "file").write_text("1")
    looks = Looks(monkeypatch)
    # It begins with the first snapshot, and has the index for itself now and then.
    monkeypatch.setattr(Thinning, "taken", lambda *_: None)

    async def act() -> None:
        async with Session.open(bench.request(), tier=bench.tier) as session:

            async def run(script: str) -> tuple[int, int]:
                result = await session.run(Command(("/bin/sh", "-c", script)))
                assert result.status == 0
                return looks.taken

            assert looks.taken, "of what the policy has to protect"
            if bench.tier == LANDLOCK:
                # Without mounts of its own a call may link a file to where nobody watches.
                assert await run("cat file") == (2, 2)
                assert await run("cat file") == (2, 2)
                return
            assert await run("cat file") == (1, 1), "of what was there before the first"
            assert await run("cat file; echo > $TMPDIR/x; exec true") == (0, 0)
            assert await run("echo 2 > file") == (1, 1)
            guard, snapshots = await run("cat file")
            assert guard <= 1, "the one at the last end may have come before all was told"
            assert snapshots == 0
            assert await run("cat file") == (0, 0)
            (bench.workspace / "file").write_text("the person's")
            assert await run("cat file") == (1, 1)
            assert session.undo is not None
            taken = await session.undo.look(lambda store: store.list())
            calls = [one.call for one in reversed(taken)]
            assert calls[::2] == calls[1::2]
            assert len(set(calls)) == 6

    anyio.run(act)


def test_a_grant_with_nothing_guarded_costs_a_status_and_what_is_planted_there_is_taken_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = bench.root / "other"
    other.mkdir()
    monkeypatch.setattr(root, "_OLD_NS", 50 * 10**6)
    opened: list[str] = []
    open_one = root.Root.open

    def noting(one: root.Root) -> int | None:
        opened.append(one.path)
        return open_one(one)

    monkeypatch.setattr(root.Root, "open", noting)

    async def act() -> None:
        request = bench.request(allow=(str(other),))
        async with Session.open(request, tier=bench.tier) as session:
            with anyio.fail_after(LONG_ENOUGH_S):
                opened.append(str(other))
                while str(other) in opened:
                    opened.clear()
                    await session.run(Command(("true",)))
            for name in (".envrc", ".git/hooks/pre-commit", ".envrc"):
                script = f"cd {other}; mkdir -p .git/hooks; echo evil >{name}"
                result = await session.run(Command(("/bin/sh", "-c", script)))
                assert f"{other}/{name}" in {one.path for one in result.guarded}
                assert not (other / name).exists()

    anyio.run(act)


@pytest.mark.parametrize("path", [".git/config", "sub/.git/config"])
@pytest.mark.parametrize("how", [MAPPED, SUBMITTED], ids=["mapped", "submitted"])
def test_what_changes_before_any_event_tells_is_put_right(
    bench: Bench, padded: Path, how: str, path: str
) -> None:
    before = (padded / path).read_text()
    attack = python(path, IN_FLIGHT, how)
    put_right = bench.run("cat file", attack, "cat file", attack, "cat file", attack)
    assert put_right == [f"restored {path}"] * 3
    assert (padded / path).read_text() == before


def test_what_a_running_job_has_mapped_is_put_right_when_another_call_ends(
    bench: Bench, padded: Path
) -> None:
    before = (padded / ".git" / "config").read_text()

    async def act() -> None:
        with anyio.fail_after(LONG_ENOUGH_S):
            async with Session.open(bench.request(), tier=bench.tier) as session:
                say = 'print("stored", flush=True)\nsys.stdin.read()'
                script = python(".git/config", IN_FLIGHT, MAPPED, say)
                stored = anyio.Event()

                async def job() -> None:
                    # Its standard input is the script: what it waits on ends with the session.
                    command = Command(("/bin/sh", "-c", f"{script}\nsleep {LONG_ENOUGH_S}"))
                    await session.run(command, on_output=lambda _: stored.set())

                async with anyio.create_task_group() as group:
                    await session.run(Command(("/bin/true",)))
                    group.start_soon(job)
                    await stored.wait()
                    other = await session.run(Command(("/bin/true",)))
                    assert [one.action for one in other.guarded] == ["restored"]
                    assert (padded / ".git" / "config").read_text() == before
                    group.cancel_scope.cancel()

    anyio.run(act)
