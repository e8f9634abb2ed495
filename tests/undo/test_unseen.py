"""Programs that change files past what events and times tell; a look at everything is the judge.

What is known of the workspace after a call, by events and times, has to be what a store that has
never seen it finds by reading all of it.
"""

import textwrap
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from nono_mcp.policy.request import Request
from nono_mcp.session import Command, Result, Session
from nono_mcp.snapshots import values
from nono_mcp.snapshots.snapshots import Snapshots

pytestmark = [pytest.mark.linux, pytest.mark.claim("undo.complete")]

LONG_ENOUGH_S = 60
PAGE = 4096
ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
TOOLS = """
    import array, ctypes, mmap, os, socket, time
    RDWR = os.O_RDWR
    here = os.open(".", os.O_RDONLY)
    def pause():
        print("waiting", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.005)
    def link(fd, name):
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=here, follow_symlinks=True)
    def in_flight(fd):
        ours, theirs = socket.socketpair()
        ring = array.array("i", [fd, ours.fileno(), theirs.fileno()])
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ring)])
    def mapped(fd):
        shared = mmap.mmap(fd, 4096)
        assert shared[0] is not None
        return shared
"""
ATTACKS = {
    "nameless, then linked": """
        fd = os.open(".", os.O_TMPFILE | RDWR, 0o644)
        os.write(fd, b"1" * 4096); link(fd, "new"); pause(); os.pwrite(fd, b"2", 0)
    """,
    "its first name gone": """
        fd = os.open("a", RDWR)
        os.link("a", "b"); os.unlink("a"); pause(); os.pwrite(fd, b"2", 0)
    """,
    "one of two names gone": """
        fd = os.open("linked/one", RDWR); os.unlink("linked/one"); pause(); os.pwrite(fd, b"2", 0)
    """,
    "one of two names gone later": """
        fd = os.open("linked/one", RDWR); pause(); os.unlink("linked/one"); os.pwrite(fd, b"2", 0)
    """,
    "a mode by a lost name": """
        fd = os.open("a", os.O_RDONLY)
        os.link("a", "b"); os.unlink("a"); pause(); os.fchmod(fd, 0o600)
    """,
    "mapped": """
        shared = mapped(os.open("a", RDWR)); shared[0] = 50
    """,
    "mapped, before and after": """
        shared = mapped(os.open("a", RDWR)); shared[0] = 50; pause(); shared[1] = 51
    """,
    "mapped by a lost name": """
        shared = mapped(os.open("a", RDWR)); shared[0] = 50
        os.link("a", "b"); os.unlink("a"); pause(); shared[1] = 51
    """,
    "mapped, nameless, then linked": """
        fd = os.open(".", os.O_TMPFILE | RDWR, 0o644); os.write(fd, b"1" * 4096)
        shared = mapped(fd); link(fd, "new"); shared[0] = 50; pause(); shared[1] = 51
    """,
    "mapped by one of two names": """
        shared = mapped(os.open("linked/one", RDWR)); shared[0] = 50; pause(); shared[1] = 51
    """,
    "mapped by one of two names at once": """
        shared = mapped(os.open("linked/one", RDWR)); shared[0] = 50
    """,
    "written and mapped by a name that goes to and fro": """
        fd = os.open("a", RDWR); shared = mapped(fd); os.mkdir("d"); os.rename("a", "d/a")
        shared[0] = 50; pause(); os.rename("d", "e"); shared[1] = 51; os.rename("e/a", "a")
    """,
    "in flight": """
        fd = os.open("a", RDWR); in_flight(fd); mapped(fd)[0] = 50
    """,
    # It isn't closed when its process has ended, but some time later, by the kernel.
    "in flight, and read by others": """
        fd = os.open("a", RDWR); os.pwrite(fd, b"2", 0); in_flight(fd); shared = mapped(fd); pause()
        shared[1] = 51
    """,
    "more events than are kept": """
        shared = mapped(os.open("a", RDWR)); shared[0] = 50; pause(); shared[1] = 51
        for number in range(40_000): os.utime("linked/one", (number, 1))
    """,
    "exchanged": """
        fd = os.open("a", RDWR); shared = mapped(fd); shared[0] = 50
        libc = ctypes.CDLL(None); libc.renameat2(-100, b"a", -100, b"linked/two", 2); pause()
        shared[1] = 51
    """,
}


def furnished(root: Path, tier: str) -> Request:
    (root / "home").mkdir()
    workspace = root / "work"
    for number in range(len(ATTACKS)):
        directory = workspace / str(number)
        # Where there are several names of a file, all in their directory is looked at each time.
        (directory / "linked").mkdir(parents=True)
        for name in ("a", "linked/one"):
            (directory / name).write_bytes(b"1" * PAGE)
        (directory / "linked" / "two").hardlink_to(directory / "linked" / "one")
    return Request(
        workspace=str(workspace),
        tier=tier,
        environ=ENVIRON,
        home=str(root / "home"),
        state_dir=str(root / "state" / "nono"),
        config_dir=str(root / "config" / "nono"),
    )


async def attacked(session: Session, other: Session, script: str, go: Callable[[], None]) -> Result:
    """Run *script* in a session, and a call in the *other* while it pauses."""
    paused = anyio.Event()
    results: list[Result] = []
    said: list[bytes] = []

    def hear(data: bytes) -> None:
        said.append(data)
        if b"waiting" in data:
            paused.set()

    async def run() -> None:
        command = Command(("/usr/bin/python3", "-I", "-S", "-c", script))
        results.append(await session.run(command, on_output=hear))
        paused.set()

    await session.run(Command(("/bin/true",)))
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await paused.wait()
        if not results:
            await other.run(Command(("/bin/true",)))
            go()
    assert results[0].status == 0, b"".join(said).decode()
    return results[0]


def judge_all(root: Path, tier: str, attacks: dict[str, str], *, is_shared: bool) -> None:
    """Do each of *attacks*, and see that what is kept at its end is what is there."""
    request = furnished(root, tier)

    async def act() -> None:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(Session.open(request, tier=tier))
            other = session
            if is_shared:
                other = await stack.enter_async_context(Session.open(request, tier=tier))
            for number, (name, script) in enumerate(attacks.items()):
                go = (Path(request.workspace) / str(number) / "go").touch
                parts = textwrap.dedent(TOOLS), textwrap.dedent(script)
                text = f"import os; os.chdir({str(number)!r})\n{parts[0]}{parts[1]}"
                with anyio.fail_after(LONG_ENOUGH_S):
                    changed = (await attacked(session, other, text, go)).changed
                assert changed is not None
                assert changed.after is not None, changed.error
                with Snapshots.open(str(root / name), request.workspace) as judge:
                    assert changed.after.root == judge.take("auto").root, name
                assert session.undo is not None
                assert (await session.undo.take("auto")).root == changed.after.root

    anyio.run(act)


@pytest.mark.parametrize("is_shared", [False, True], ids=["one server", "two servers"])
def test_what_a_call_changed_is_kept_when_it_has_ended(
    tmp_path: Path, tier: str, *, is_shared: bool
) -> None:
    judge_all(tmp_path, tier, ATTACKS, is_shared=is_shared)


def test_of_more_than_is_kept_track_of_all_is_looked_at(
    tmp_path: Path, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "UNSURE_MAX", 0)
    names = ("its first name gone", "mapped by a lost name")
    judge_all(tmp_path, tier, {name: ATTACKS[name] for name in names}, is_shared=False)
