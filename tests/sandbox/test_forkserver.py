"""Ends: whichever process of ours dies, by whatever end, nothing confined outlives it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.client import ForkServer, Lane
from nono_sandbox.confinement import NAMESPACES, OPEN, READ, Call, Limits, Narrowing, Network
from nono_sandbox.errors import ConfinementError, LaneLostError, SandboxError, StartError
from tests.sandbox.conftest import below, supervisor_argv

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Confine, Sandbox, Yard

    Alive = Callable[[str], list[str]]

LONG_ENOUGH_S = 60
STUBBORN = """
    for _ in range(3):
        if not os.fork():
            os.setsid()
            for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            if os.uname().sysname == "Linux":
                libc.prctl(1, 0, 0, 0, 0)
            os.fork()
            sleep_for_ever()
    if os.uname().sysname == "Linux":
        libc.prctl(1, 0, 0, 0, 0)
    os.setpgid(0, 0) if os.getpgid(0) != os.getpid() else None
    say("ready", True)
    sleep_for_ever()
    """


def assert_all_end(alive: Alive, token: str) -> None:
    deadline = time.monotonic() + LONG_ENOUGH_S
    while left := alive(token):
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.linux  # by /proc: who whose parent is
@pytest.mark.claim("process.nothing-survives")
def test_nothing_survives_its_lane(sandbox: Sandbox, yard: Yard, alive: Alive) -> None:
    running = sandbox.begin_attack(STUBBORN, yard.secret, lane=sandbox.new_lane())
    running.wait_for("ready")
    os.kill(parent_of(running.pid()), signal.SIGKILL)
    with pytest.raises(LaneLostError):
        running.wait()
    assert_all_end(alive, yard.secret)
    # Others go on.
    assert sandbox.run("true", lane=sandbox.new_lane()).status == 0


@pytest.mark.claim("process.nothing-survives")
def test_nothing_survives_the_end_of_its_lane(sandbox: Sandbox, yard: Yard, alive: Alive) -> None:
    running = sandbox.begin_attack(STUBBORN, yard.secret, lane=sandbox.new_lane())
    running.wait_for("ready")
    running.lane.close()
    assert_all_end(alive, yard.secret)


@pytest.mark.claim("process.nothing-survives")
def test_nothing_survives_the_end_of_its_session(
    sandbox: Sandbox, yard: Yard, alive: Alive
) -> None:
    for _ in range(3):
        lane = sandbox.new_lane()
        sandbox.begin_attack(STUBBORN, yard.secret, lane=lane).wait_for("ready")
    sandbox.close()
    assert_all_end(alive, yard.secret)


@pytest.mark.claim("process.nothing-survives")
def test_a_session_whose_fork_server_was_killed_says_so_and_leaves_nothing(
    confine: Confine, yard: Yard, alive: Alive
) -> None:
    sandbox = confine()
    lane = sandbox.new_lane()
    sandbox.begin_attack(STUBBORN, yard.secret, lane=lane).wait_for("ready")
    os.kill(sandbox.server.pid, signal.SIGKILL)
    deadline = time.monotonic() + LONG_ENOUGH_S
    while sandbox.server.alive():
        assert time.monotonic() < deadline
    with pytest.raises(LaneLostError):
        sandbox.begin("true", lane=sandbox.new_lane()).wait()
    sandbox.close()
    assert_all_end(alive, yard.secret)
    assert confine().run("true").status == 0


@pytest.mark.linux
def test_the_descriptor_of_a_running_program_is_its_own(sandbox: Sandbox) -> None:
    lane = sandbox.new_lane()
    for end in range(2):
        # Of a call that has ended nothing comes, in the next one either.
        lane.ask_pidfd()
        read_end, write_end = os.pipe()
        running = sandbox.begin("sh", "-c", f"read x; exit {end}", lane=lane, stdin=read_end)
        os.close(read_end)
        pid = running.pid()
        assert lane.pidfd == -1
        lane.ask_pidfd()
        running.wait_for_descriptor()
        assert pid_of(lane.pidfd) == pid
        assert not select.select([lane.pidfd], [], [], 0)[0]
        os.close(write_end)
        assert running.wait().status == end
        assert select.select([lane.pidfd], [], [], LONG_ENOUGH_S)[0]


def pid_of(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii")
    (number,) = (line.split()[1] for line in text.splitlines() if line.startswith("Pid:"))
    return int(number)


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def leader_of(sandbox: Sandbox) -> int:
    """Return the process of the only lane, once whoever forked it has been collected."""
    deadline = time.monotonic() + LONG_ENOUGH_S
    while True:
        assert time.monotonic() < deadline
        found = children_of(sandbox.server.pid)
        # Who forked it may go between two looks.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if len(found) == 1 and (sandbox.tier != NAMESPACES or leads_namespace(found[0])):
                return found[0]


def leads_namespace(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (ids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(ids) > 1 and ids[-1] == "1"


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


@pytest.mark.linux  # by /proc: who whose parent is
def test_an_idle_lane_of_the_first_tier_has_no_process_beside_it(confine: Confine) -> None:
    sandbox = confine()
    for _ in range(2):
        assert sandbox.run("true").status == 0
    leader = leader_of(sandbox)
    if sandbox.tier == NAMESPACES:
        assert children_of(leader) == []
    else:
        deadline = time.monotonic() + LONG_ENOUGH_S
        while len(children_of(leader)) != 1:
            assert time.monotonic() < deadline


def test_what_can_only_be_set_in_a_child_is_set_in_one(confine: Confine, yard: Yard) -> None:
    """After a call that its lane started itself, on the same lane; and the next is free of it."""
    sandbox = confine()
    write = ("sh", "-c", f"echo 1 > {yard.workspace}/made; ulimit -n")
    free = sandbox.run(*write)
    assert free.status == 0
    narrowed = sandbox.run(*write, narrowing=Narrowing(writes=()), limits=Limits(open_files_max=77))
    assert (narrowed.status, narrowed.text.splitlines()[-1]) == (0, "77")
    assert "denied" in narrowed.text or "not permitted" in narrowed.text.lower()
    assert sandbox.run(*write).text == free.text


@pytest.mark.linux  # by /proc: who whose parent is
def test_a_call_that_no_worker_took_is_never_run(tier: str, confine: Confine, yard: Yard) -> None:
    """Its worker dies after it was sent; the next one finds it waiting."""
    assert tier
    # With which no lane starts a program itself.
    sandbox = confine(ptrace=True)
    lane = sandbox.new_lane()
    assert sandbox.run("true", lane=lane).status == 0
    deadline = time.monotonic() + LONG_ENOUGH_S
    leader = leader_of(sandbox)
    while not (found := children_of(leader)):
        assert time.monotonic() < deadline
    (worker,) = found
    # Nobody takes the call before both of its messages are there.
    os.kill(worker, signal.SIGSTOP)
    os.kill(leader, signal.SIGSTOP)
    while {state_of(worker), state_of(leader)} != {"T"}:
        assert time.monotonic() < deadline
    made = yard.workspace / "made"
    running = sandbox.begin("sh", "-c", f"echo 1 > {made}", lane=lane)
    os.kill(worker, signal.SIGKILL)
    os.kill(leader, signal.SIGCONT)
    with pytest.raises((LaneLostError, StartError)):
        running.wait()
    lane.close()
    while children_of(sandbox.server.pid):
        assert time.monotonic() < deadline
    assert not made.exists()


SUPERVISOR = """
    from nono_sandbox import wire
    from nono_sandbox.client import ForkServer
    tier, confinement, call = wire.whole(eval(sys.stdin.readline()))
    server = ForkServer.start(tier)
    server.configure(confinement)
    lanes = []
    for _ in range(2):
        lane = server.lane()
        lanes.append(lane)
        null = os.open("/dev/null", os.O_RDWR)
        lane.begin(call, (null, 1, 1))
    # Until whoever started this is gone, if it isn't killed before.
    sys.stdin.read()
    """


@pytest.mark.claim("process.nothing-survives")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_nothing_survives_the_supervisor(
    tier: str, yard: Yard, alive: Alive, attack_argv: Callable[..., list[str]], number: int
) -> None:
    from nono_sandbox import wire  # noqa: PLC0415  # what the fixture's text needs

    call = Call(tuple(attack_argv(STUBBORN, yard.secret)), (), str(yard.workspace))
    message = wire.plain((tier, yard.confinement(), call))
    supervisor = subprocess.Popen(
        supervisor_argv(SUPERVISOR),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    supervisor.stdin.write(repr(message).encode() + b"\n")
    supervisor.stdin.flush()
    said = b""
    while said.count(b"ready") < 2:
        assert select.select([supervisor.stdout], [], [], LONG_ENOUGH_S)[0], said
        said += os.read(supervisor.stdout.fileno(), 4096)
    assert len(alive(yard.secret)) >= 8
    supervisor.send_signal(number)
    supervisor.wait()
    supervisor.stdin.close()
    assert_all_end(alive, yard.secret)
    # Every end of the pipe is closed: nobody is left who could speak.
    while select.select([supervisor.stdout], [], [], LONG_ENOUGH_S)[0]:
        if not os.read(supervisor.stdout.fileno(), 4096):
            break
    else:
        pytest.fail("somebody still holds the pipe")
    supervisor.stdout.close()


def test_a_session_runs_call_after_call_and_many_at_once(sandbox: Sandbox) -> None:
    for number in range(20):
        assert sandbox.run("sh", "-c", f"exit {number}").status == number
    running = [
        sandbox.begin("sh", "-c", f"sleep 0.1; echo {number}", lane=sandbox.new_lane())
        for number in range(12)
    ]
    for number, one in enumerate(running):
        assert one.wait().text == f"{number}\n"


@pytest.mark.linux  # macOS has no sockets without paths
def test_calls_at_the_same_time_share_no_domain(confine: Confine) -> None:
    """A socket without a path is reached by its own call alone, in the same network.

    Without namespaces such a name is the session's: its calls reach each other, and nobody else.
    """
    sandbox = confine(network=Network(OPEN))
    name = f"\0nono-{os.urandom(8).hex()}"
    first = sandbox.begin_attack(
        """
        import socket
        listening = socket.socket(1)
        attempt("made", lambda: (listening.bind(ARGUMENTS[0]), listening.listen()))
        attempt("its own", lambda: socket.socket(1).connect(ARGUMENTS[0]))
        say("ready", True)
        sleep_for_ever()
        """,
        name,
        lane=sandbox.new_lane(),
    )
    first.wait_for("ready")
    second = sandbox.begin_attack(
        """
        import socket
        attempt("another's", lambda: socket.socket(1).connect(ARGUMENTS[0]))
        """,
        name,
        lane=sandbox.new_lane(),
    ).wait()
    first.lane.end("enough")
    said = first.wait().said
    assert said["made"] == said["its own"] == "done"
    assert (second.said["another's"] == "done") == (sandbox.tier != NAMESPACES)


def between_two_calls(sandbox: Sandbox) -> tuple[Lane, int]:
    """Return a lane that runs nothing, and its process id; if it parks workers, the next is."""
    lane = sandbox.new_lane()
    running = sandbox.begin("cat", stdin=(ends := os.pipe())[0], lane=lane)
    os.close(ends[0])
    program = running.pid()
    pid = parent_of(program)
    os.close(ends[1])
    assert running.wait().status == 0
    deadline = time.monotonic() + LONG_ENOUGH_S
    while sandbox.tier != NAMESPACES and not {*below(pid)} - {program}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return lane, pid


@pytest.mark.linux  # by /proc: who whose parent is
def test_an_order_to_end_that_comes_late_doesnt_end_the_next_call(sandbox: Sandbox) -> None:
    """Nor hide its beginning: the lane here wakes when all of it has happened."""
    lane, pid = between_two_calls(sandbox)
    os.kill(pid, signal.SIGSTOP)
    lane.end("too late")
    after = sandbox.begin("sh", "-c", "echo whole", lane=lane)
    if sandbox.tier != NAMESPACES:
        after.wait_for_end_of_output()
    os.kill(pid, signal.SIGCONT)
    outcome = after.wait()
    assert (outcome.status, outcome.text, outcome.ended.limit) == (0, "whole\n", "")


@pytest.mark.linux  # by /proc: who whose parent is
def test_a_signal_that_comes_late_doesnt_reach_the_next_call(sandbox: Sandbox) -> None:
    lane, pid = between_two_calls(sandbox)
    os.kill(pid, signal.SIGSTOP)
    lane.signal(int(signal.SIGTERM))
    running = sandbox.begin_attack(
        """
        signal.signal(signal.SIGUSR1, lambda number, frame: say("got", number) or os._exit(5))
        say("ready", True)
        sleep_for_ever()
        """,
        lane=lane,
    )
    try:
        if sandbox.tier != NAMESPACES:
            running.wait_for("ready")
    finally:
        os.kill(pid, signal.SIGCONT)
    running.wait_for("ready")
    lane.signal(int(signal.SIGUSR1))
    outcome = running.wait()
    assert (outcome.status, outcome.said["got"]) == (5, signal.SIGUSR1)


def test_a_signal_reaches_the_program_and_its_group(sandbox: Sandbox) -> None:
    running = sandbox.begin_attack(
        """
        signal.signal(signal.SIGUSR1, lambda number, frame: say("got", number) or os._exit(5))
        say("ready", True)
        sleep_for_ever()
        """
    )
    running.wait_for("ready")
    running.lane.signal(int(signal.SIGUSR1))
    outcome = running.wait()
    assert (outcome.status, outcome.said["got"]) == (5, signal.SIGUSR1)


def test_a_confinement_that_cant_be_kept_starts_nothing(confine: Confine, yard: Yard) -> None:
    bad = yard.granted(yard.outside, READ).replace(identity=(0, 0))
    linux = sys.platform == "linux"
    before = children() if linux else []
    with pytest.raises(ConfinementError):
        confine(bad)
    assert not linux or set(children()) <= set(before)


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.linux  # by /proc: who whose parent is
def test_a_tier_that_isnt_there_is_an_error_and_not_another_tier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With an interpreter that can't start, or dies at once: typed, and nothing is left."""
    dead = tmp_path / "python"
    dead.write_text("#!/bin/sh\nexit 1\n")
    dead.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dead))
    before = children()
    with pytest.raises(LaneLostError, match="died while it started"):
        ForkServer.start(NAMESPACES)
    # Of what other tests left, some may have been collected meanwhile.
    assert set(children()) <= set(before)


@pytest.mark.linux  # macOS has none
def test_why_there_are_no_namespaces_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from nono_sandbox import forkserver, namespaces  # noqa: PLC0415  # they're Linux's alone

    def refused() -> None:
        raise OSError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(namespaces, "enter", refused)
    assert "Operation not permitted" in forkserver.trial()


def test_calls_end_in_order_whatever_they_leave(sandbox: Sandbox) -> None:
    """A lane is used again: no limit, output or process of one call shows in the next."""
    lane = sandbox.new_lane()
    for number in range(5):
        running = sandbox.begin(
            "sh",
            "-c",
            f"sleep 1000 & echo {number}; [ {number} = 3 ] && sleep 1000; exit {number}",
            lane=lane,
            limits=Limits(wall_s=LONG_ENOUGH_S if number == 3 else None),
        )
        if number == 3:
            running.wait_for(f"{number}\n")
            lane.end("enough")
        outcome = running.wait()
        assert outcome.text == f"{number}\n"
        assert outcome.ended.limit == ("enough" if number == 3 else "")
        assert outcome.status == (137 if number == 3 else number)


def test_errors_are_all_of_one_kind() -> None:
    for kind in (ConfinementError, LaneLostError, StartError):
        assert issubclass(kind, SandboxError)
