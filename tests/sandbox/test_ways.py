"""What is granted beneath the private home, while others who share that change the way there.

The adversary is another session of the workspace, which has the same private home and not the
grant. What it does it does confined; that no call which was told to be well has written into the
private home is looked at from outside.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import GRANT_MOVED, NAMESPACES, READ, WRITE, Grant, Limits, Link
from nono_sandbox.errors import SandboxError
from tests.sandbox.conftest import supervisor_argv, system_links
from tests.sandbox.test_fresh_root import flipping
from tests.sandbox.test_single_run import LONG_ENOUGH_S, Run, call_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nono_sandbox.confinement import Call
    from tests.sandbox.conftest import Confine, Running, Yard

__all__ = ["call_for"]

pytestmark = [
    pytest.mark.linux,
    pytest.mark.claim("fs.own-home-shared"),
    pytest.mark.parametrize("tier", [NAMESPACES], indirect=True),
]

# It writes by the absolute path until it's told to stop, and ends well whatever came of that.
WRITE_ON = """
    granted, stop = ARGUMENTS
    say("began", True)
    until = time.monotonic() + 60
    while not os.path.exists(stop) and time.monotonic() < until:
        try:
            write(granted + "/written")
        except OSError:
            pass
    """
# Each begins in the home that it has in common with whom it attacks, and leaves another way there.
ATTACKS = {
    "removes it": """
        os.rmdir("work/data")
        os.mkdir("work/data")
        """,
    "removes it, standing in it": """
        os.chdir("work/data")
        os.rmdir("../data")
        os.mkdir("../data")
        say("changed", True)
        sleep_for_ever()
        """,
    "renames what is above it": """
        os.rename("work", "elsewhere")
        os.makedirs("work/data")
        """,
    "puts another in its place": """
        os.mkdir("empty")
        os.rename("empty", "work/data")
        """,
    "exchanges what is above it": """
        os.makedirs("other/data")
        syscall("renameat2", AT_FDCWD, "other", AT_FDCWD, "work", RENAME_EXCHANGE)
        """,
    "renames it, and back": """
        os.rename("work/data", "elsewhere")
        os.rename("elsewhere", "work/data")
        """,
    "renames what is above it, and back": """
        os.rename("work", "elsewhere")
        os.rename("elsewhere", "work")
        """,
}
AT_ONCE = {ATTACKS["renames it, and back"], ATTACKS["renames what is above it, and back"]}
"""What leaves nothing to be led astray by."""


@dataclass(frozen=True)
class Shared:
    """A private home that is shared, and a directory beneath the person's that is granted."""

    yard: Yard
    confine: Confine

    @property
    def home(self) -> Path:
        return self.yard.path / "person"

    @property
    def granted(self) -> Path:
        return self.home / "work" / "data"

    @property
    def private(self) -> Path:
        return self.yard.path / "private"

    @property
    def stop(self) -> Path:
        return self.yard.workspace / "stop"

    @property
    def astray(self) -> list[Path]:
        """Whatever was written into the private home, wherever it lies there by now."""
        return list(self.private.rglob("written"))

    @property
    def grants(self) -> tuple[Grant, Grant]:
        """The private home, and what is mounted in it."""
        whole = Grant(str(self.home), READ | WRITE, source=str(self.private))
        return whole, self.yard.granted(self.granted, READ | WRITE)

    def attack(self, script: str) -> Running:
        """Begin what another session does in the home, which lacks the grant, and await it."""
        other = self.confine(self.grants[0])
        begin = f"    os.chdir(ARGUMENTS[0])\n{script}    say('changed', True)\n"
        running = other.begin_attack(
            "\n".join(line.strip() for line in begin.splitlines()), self.home
        )
        running.wait_for("changed")
        return running


@pytest.fixture
def shared(yard: Yard, confine: Confine) -> Shared:
    found = Shared(yard, confine)
    found.granted.mkdir(parents=True)
    found.private.mkdir()
    return found


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_ENOUGH_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_call_is_ended_when_another_session_changes_the_way_to_what_it_writes(
    shared: Shared, attack: str
) -> None:
    sandbox = shared.confine(*shared.grants)
    victim = sandbox.begin_attack(WRITE_ON, shared.granted, shared.stop)
    victim.wait_for("began")
    until((shared.granted / "written").exists)
    attacker = shared.attack(attack)
    # What no event tells of is found at the end, however well that comes.
    until(lambda: attack in AT_ONCE or bool(shared.astray) or victim.lane.receive())
    shared.stop.touch()
    outcome = victim.wait()
    assert (outcome.ended.limit, outcome.status) == (GRANT_MOVED, 128 + 9)
    attacker.lane.end("cancelled")
    attacker.wait()


def test_what_another_session_led_astray_is_put_right_by_the_next(shared: Shared) -> None:
    (shared.private / "work").mkdir()
    (shared.private / "work" / "data").symlink_to(shared.yard.outside)
    with shared.confine(*shared.grants) as sandbox:
        outcome = sandbox.attack('write(ARGUMENTS[0] + "/written")', shared.granted)
    assert outcome.ended.limit == ""
    assert (shared.granted / "written").exists()
    assert shared.astray == []


def test_a_single_run_is_ended_when_another_changes_the_way_to_what_it_writes(
    shared: Shared, tier: str, call_for: Callable[..., Call]
) -> None:
    call = call_for(WRITE_ON, shared.granted, shared.stop)
    run = Run(tier, shared.yard.confinement(*shared.grants), call)
    run.wait_for(b"began")
    shared.attack(ATTACKS["renames what is above it"]).wait()
    answer, _ = run.wait()
    assert answer[:3] == ("ended", 9, GRANT_MOVED)


def test_a_call_that_begins_after_it_runs_nothing_that_is_told_to_be_well(shared: Shared) -> None:
    """Whoever keeps its lane, and its fork server, is told at the next call's end."""
    sandbox = shared.confine(*shared.grants)
    assert sandbox.run("true").ended.limit == ""
    attacker = shared.attack(ATTACKS["removes it, standing in it"])
    writes = 'write(ARGUMENTS[0] + "/written")'
    victim = sandbox.begin_attack(writes, shared.granted).wait()
    assert len(shared.astray) == 1
    assert (victim.ended.limit, victim.status) == (GRANT_MOVED, 128 + 9)
    attacker.lane.end("cancelled")
    attacker.wait()


def test_a_fork_server_ends_once_a_way_was_changed(shared: Shared) -> None:
    sandbox = shared.confine(*shared.grants)
    assert sandbox.server.alive()
    shared.attack(ATTACKS["renames it, and back"]).wait()
    until(lambda: not sandbox.server.alive())


def test_a_long_call_hears_of_what_no_event_tells(shared: Shared) -> None:
    sandbox = shared.confine(*shared.grants)
    looked_at = Limits(disk_free_bytes_min=1)
    victim = sandbox.begin_attack("sleep_for_ever()", limits=looked_at)
    attacker = shared.attack(ATTACKS["removes it, standing in it"])
    assert victim.wait().ended.limit == GRANT_MOVED
    attacker.lane.end("cancelled")
    attacker.wait()


def test_who_has_the_grant_moves_nothing_of_the_way(shared: Shared) -> None:
    """Not even a session's own call leads its later ones elsewhere."""
    sandbox = shared.confine(*shared.grants)
    outcome = sandbox.attack(
        """
        home, = ARGUMENTS
        os.chdir(home)
        for each in ("work", "work/data"):
            attempt("rename " + each, lambda: os.rename(each, "elsewhere"))
            attempt("remove " + each, lambda: os.rmdir(each))
            os.makedirs("other/data", exist_ok=True)
            exchange = AT_FDCWD, "other", AT_FDCWD, each, RENAME_EXCHANGE
            attempt("exchange " + each, lambda: syscall("renameat2", *exchange))
            attempt("replace " + each, lambda: os.rename("other/data", each))
        attempt("write beside it", lambda: write("work/beside"))
        attempt("write there", lambda: write("work/data/there"))
        """,
        shared.home,
    )
    assert outcome.ended.limit == ""
    assert outcome.done == ["write beside it", "write there"]
    assert (shared.granted / "there").exists()


def test_other_work_in_the_home_ends_no_call(shared: Shared) -> None:
    sandbox = shared.confine(*shared.grants)
    victim = sandbox.begin_attack(WRITE_ON, shared.granted, shared.stop)
    victim.wait_for("began")
    shared.attack(
        """
        os.makedirs("cache/deep")
        os.rename("cache", "other")
        os.makedirs("work/beside")
        os.rename("work/beside", "work/moved")
        os.rmdir("work/moved")
        os.chmod("work", 0o711)
        os.utime("work/data")
        """
    ).wait()
    shared.stop.touch()
    outcome = victim.wait()
    assert (outcome.ended.limit, outcome.status) == ("", 0)


def test_a_granted_file_is_held_to_as_well(shared: Shared) -> None:
    file = shared.home / "work" / "settings"
    file.write_text("as it was")
    sandbox = shared.confine(shared.grants[0], shared.yard.granted(file, READ | WRITE))
    victim = sandbox.begin_attack("sleep_for_ever()")
    # Renamed over, as editors do; who has it open keeps the kernel from telling that it's gone.
    attacker = shared.attack('write("new")\nos.rename("new", "work/settings")\n')
    attacker.wait()
    assert victim.wait().ended.limit == GRANT_MOVED
    assert file.read_text() == "as it was"


def test_a_call_that_shuts_what_is_above_it_shuts_nobody_out_for_good(shared: Shared) -> None:
    sandbox = shared.confine(*shared.grants)
    sandbox.run("chmod", "0", str(shared.home / "work"))
    with shared.confine(*shared.grants) as again:
        outcome = again.attack('write(ARGUMENTS[0] + "/there")', shared.granted)
    assert outcome.ended.limit == ""
    assert (shared.granted / "there").exists()


@pytest.fixture
def linked(shared: Shared) -> dict[str, object]:
    """Return a confinement's symlinks, one of them from the home to what is granted elsewhere."""
    path = str(shared.home / "deep" / "link")
    return {"links": (*system_links(), Link(path, str(shared.yard.workspace)))}


def test_a_call_is_ended_when_another_session_replaces_a_symlink_it_writes_by(
    shared: Shared, linked: dict[str, object]
) -> None:
    sandbox = shared.confine(shared.grants[0], **linked)
    by_link = shared.home / "deep" / "link"
    victim = sandbox.begin_attack(WRITE_ON, by_link, shared.stop)
    victim.wait_for("began")
    until((shared.yard.workspace / "written").exists)
    shared.attack("os.unlink('deep/link')\nos.mkdir('deep/link')\n").wait()
    until(lambda: bool(shared.astray) or victim.lane.receive())
    shared.stop.touch()
    outcome = victim.wait()
    assert (outcome.ended.limit, outcome.status) == (GRANT_MOVED, 128 + 9)
    (shared.yard.workspace / "written").unlink()
    for written in shared.astray:
        written.unlink()
    with shared.confine(shared.grants[0], **linked) as again:
        outcome = again.attack('write(ARGUMENTS[0] + "/written")', by_link)
    assert outcome.ended.limit == ""
    assert (shared.yard.workspace / "written").exists()


def test_who_has_a_symlink_in_the_home_moves_nothing_of_it(
    shared: Shared, linked: dict[str, object]
) -> None:
    sandbox = shared.confine(shared.grants[0], **linked)
    outcome = sandbox.attack(
        """
        os.chdir(ARGUMENTS[0])
        attempt("remove", lambda: os.unlink("deep/link"))
        attempt("rename", lambda: os.rename("deep/link", "deep/other"))
        attempt("rename what is above it", lambda: os.rename("deep", "other"))
        attempt("write there", lambda: write("deep/link/there"))
        """,
        shared.home,
    )
    assert outcome.ended.limit == ""
    assert outcome.done == ["write there"]
    assert (shared.yard.workspace / "there").exists()


def test_where_a_symlink_in_the_home_has_no_room_nothing_runs(
    shared: Shared, linked: dict[str, object]
) -> None:
    kept = shared.private / "deep" / "link" / "kept"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(SandboxError, match=f"remove {kept.parent}"):
        shared.confine(shared.grants[0], **linked)
    assert kept.exists()


@pytest.fixture
def granted_file(shared: Shared) -> Path:
    """Return a file beneath the home, where the private one has an empty directory."""
    file = shared.home / "deep" / "file"
    file.parent.mkdir(exist_ok=True)
    file.write_text("granted")
    (shared.private / "deep" / "file").mkdir(parents=True)
    return file


def test_an_empty_directory_makes_room_for_a_granted_file(
    shared: Shared, granted_file: Path
) -> None:
    with shared.confine(shared.grants[0], shared.yard.granted(granted_file, READ)) as sandbox:
        assert sandbox.run("cat", str(granted_file)).text == "granted"


def test_where_a_granted_file_has_no_room_nothing_runs_and_it_is_said_what_is_in_the_way(
    shared: Shared, granted_file: Path
) -> None:
    in_the_way = shared.private / "deep" / "file"
    (in_the_way / "kept").touch()
    with pytest.raises(SandboxError, match=f"Directory not empty; remove {in_the_way}$"):
        shared.confine(shared.grants[0], shared.yard.granted(granted_file, READ))
    assert (in_the_way / "kept").exists()


def test_more_grants_than_descriptors_are_mounted(
    shared: Shared, tier: str, call_for: Callable[..., Call]
) -> None:
    paths = [shared.home / f"above-{number}" / "granted" for number in range(80)]
    for path in paths:
        path.mkdir(parents=True)
    grants = shared.grants[0], *(shared.yard.granted(path, READ) for path in paths)
    by = ("/bin/sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")
    run = Run(tier, shared.yard.confinement(*grants), call_for("say('began', True)"), by=by)
    answer, _ = run.wait()
    assert answer[:3] == ("ended", 0, ""), answer


def test_what_is_mounted_while_the_way_flips_is_never_written_past(shared: Shared) -> None:
    for name in ("work", "other"):
        (shared.private / name / "data").mkdir(parents=True)
    well = []
    with flipping(shared.private, "work", "other"):
        for number in range(6):
            script = f"echo {number} > '{shared.granted}/written'"
            with suppress(SandboxError):
                ended = shared.confine(*shared.grants).run("sh", "-c", script).ended
                if not ended.limit:
                    well.append(f"{number}\n")
                    assert (shared.granted / "written").read_text() == well[-1]
    assert [path for path in shared.astray if path.read_text() in well] == []


# It stops where it's told to while it makes its root, so that who shares the home gets between:
# after it has opened what is above the mount point, or when all is mounted.
SLOWLY = """
    from nono_sandbox import namespaces, setup, wire, ways
    from nono_sandbox.errors import ConfinementError
    confinement, where = wire.whole(eval(sys.argv[2])), sys.argv[3]
    act = getattr(ways.Ways, where)

    def awaited(self, *arguments, **named):
        if where == "_watch":
            stop()
        result = act(self, *arguments, **named)
        if where != "_watch":
            stop()
        return result

    def stop():
        setattr(ways.Ways, where, act)
        os.write(1, b"now")
        os.read(0, 1)

    setattr(ways.Ways, where, awaited)
    namespaces.enter()
    try:
        setup.settle(confinement)
    except ConfinementError as error:
        os.write(1, str(error).encode())
    """


@pytest.fixture
def being_made(shared: Shared, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """Return what makes a root, and waits before it watches a way, or once it's laid."""
    from nono_sandbox import wire  # noqa: PLC0415 - named like what is started

    words = repr(wire.plain(shared.yard.confinement(*shared.grants))), str(request.param)
    with subprocess.Popen(
        supervisor_argv(SLOWLY, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process


@pytest.mark.parametrize(
    ("being_made", "attack"),
    [
        ("_watch", ATTACKS["renames what is above it"]),
        # Which it could lead elsewhere later, and back, without an event.
        ("_watch", "os.rename('work', 'elsewhere')\nos.symlink('elsewhere', 'work')\n"),
        ("lay", ATTACKS["exchanges what is above it"]),
        ("lay", ATTACKS["renames it, and back"]),
    ],
    indirect=["being_made"],
    ids=["renamed", "a symlink", "exchanged", "back"],
)
def test_nothing_runs_where_the_way_was_changed_while_it_was_laid(
    shared: Shared, being_made: subprocess.Popen[bytes], attack: str
) -> None:
    assert being_made.stdout is not None
    assert being_made.stdout.read(3) == b"now"
    shared.attack(f"os.makedirs('work/data', exist_ok=True)\n{attack}").wait()
    told, _ = being_made.communicate(b"\n", timeout=LONG_ENOUGH_S)
    assert b"was moved or removed meanwhile" in told


def test_where_nothing_can_be_watched_nothing_runs(
    shared: Shared, tier: str, call_for: Callable[..., Call]
) -> None:
    none = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    by = ("/usr/bin/unshare", "-r", "/bin/sh", "-c", none, "sh")
    answer, _ = Run(tier, shared.yard.confinement(*shared.grants), call_for(""), by=by).wait()
    assert answer[0] in ("failed", "refused"), answer
    assert "fs.inotify.max_user_instances" in answer[1]
