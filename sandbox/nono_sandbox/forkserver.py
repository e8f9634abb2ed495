"""The fork server: a small process of one thread that makes a session's namespaces and its lanes.

The supervisor is large and has threads, so a fork of it would be slow and unsafe. This process
is started once per session as `python -I -S` with an empty environment, imports the
standard library alone, and holds nothing that a worker may not see.

Architecture invariant: it ends when the supervisor does, by whatever end, and its lanes with it.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import sys

from nono_sandbox import (
    _uapi,
    disk_reserve,
    lane,
    namespaces,
    open_files_limit,
    sealing,
    setup,
    wire,
)
from nono_sandbox.behalf.answerer import Answerer
from nono_sandbox.call_monitor import drain
from nono_sandbox.cgroups import membership
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from nono_sandbox.errors import SandboxError
from nono_sandbox.filters import narrowing_programs, session_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from nono_sandbox.confinement import Confinement, Network

_SIGHUP, _SIGINT, _SIGQUIT, _SIGTERM, _SIGPIPE = 1, 2, 3, 15, 13


def main(control_fd: int, tier: str, open_files_usual: int | None) -> Never:
    """Serve one supervisor; *tier* is the one to insist on, or empty.

    *open_files_usual* is the limit that its programs are to have, if it has another itself: it
    holds several descriptors of each lane.
    """
    wire.fill_standard_streams()
    # What a terminal or a service manager sends is the supervisor's to answer.
    _uapi.ignore_signals(_SIGHUP, _SIGINT, _SIGQUIT, _SIGTERM, _SIGPIPE)
    control = _socket.socket(fileno=control_fd)
    try:
        reason = "" if tier == LANDLOCK else trial()
        found = tier or (LANDLOCK if reason else NAMESPACES)
        wire.send(control, "ready", found, reason)
        _import_for_workers()
        message, _ = wire.receive(control)
        plan = make_plan(message[1], found).replace(open_files_usual=open_files_usual)
        door = setup.door(message[1], found)
        _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
        _uapi.prctl(_uapi.PR_SET_CHILD_SUBREAPER, 1)
        spawns = plan.spawns, plan.spawns_in_group
        wire.send(control, "configured", *spawns, fds=[sock.fileno() for sock in door])
        for sock in door:
            sock.close()
        _serve(control, plan, message[1].network)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "failed", str(error))
        os._exit(1)


def _import_for_workers() -> None:
    """Import what workers do without a program, while the supervisor reads the policy.

    Once confined they may have no standard library to import from.
    """
    import nono_sandbox.builtin
    import nono_sandbox.rehearsal  # noqa: F401 - for the workers forked from here

    gc.collect()
    # What isn't touched any more is shared with every worker.
    gc.freeze()


def trial() -> str:
    """Return why this machine gives no namespaces, or nothing, from a process that tried."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            namespaces.enter()
            namespaces.close_network()
            in_new_pids(namespaces.new_proc)
            text = b""
        except OSError as error:
            text = (error.strerror or str(error)).encode()
        os.write(write_end, text)
        os._exit(0)
    os.close(write_end)
    answer = os.read(read_end, 4096)
    os.close(read_end)
    status = os.waitpid(pid, 0)[1]
    return answer.decode() or ("" if status == 0 else f"the trial ended with status {status}")


def in_new_pids(act: object) -> None:
    """Call *act* as process 1 of a new PID namespace, and wait.

    Raises:
        OSError: It couldn't be entered, or *act* failed there.
    """
    _uapi.unshare(_uapi.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        try:
            act()  # type: ignore[operator]
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, f"mount /proc: {os.strerror(code)}")


def make_plan(confinement: Confinement, tier: str) -> sealing.Plan:
    """Enter the session's namespaces and prepare what its lanes need.

    Raises:
        SandboxError: The confinement can't be enforced. Exit.
        OSError: The kernel refused. Exit.
    """
    ways = None
    if tier == NAMESPACES:
        namespaces.enter()
        ways = setup.settle(confinement)
    word = wire.new_word() if tier == LANDLOCK else wire.NO_WORD
    programs = session_program(confinement, tier, word), narrowing_programs(), word
    plan = setup.plan_for(confinement, tier, programs)
    return plan.replace(places=disk_reserve.at_beginning(plan.places.paths), ways=ways)


def _serve(control: _socket.socket, plan: sealing.Plan, network: Network) -> Never:
    signals = _uapi.signalfd(_uapi.SIGCHLD)
    lanes: set[int] = set()
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(signals, select.POLLIN)
    changed = -1
    if plan.ways is not None:
        changed = plan.ways.fd
        poll.register(changed, select.POLLIN)
    answerer = Answerer(poll)
    while True:
        events = dict(poll.poll(answerer.timeout_ms()))
        if changed in events:
            # The next call is to have another fork server, which makes the mounts anew. The lanes
            # that run calls hear of it themselves.
            os._exit(1)
        if signals in events:
            drain(signals)
            _reap(lanes)
            if plan.tier == LANDLOCK:
                _kill_orphans(lanes)
        if control.fileno() in events:
            (_, channels_count), fds = wire.receive(control)
            introduction, lane_introduction = wire.socket_pair()
            introducing = lane_introduction, network
            lanes.add(_start_lane(fds, channels_count, plan, introducing))
            lane_introduction.close()
            answerer.expect(introduction)
        answerer.attend(events.items())


def _reap(lanes: set[int]) -> None:
    try:
        while True:
            pid = os.waitpid(-1, os.WNOHANG)[0]
            if not pid:
                return
            lanes.discard(pid)
    except ChildProcessError:
        return


def _kill_orphans(lanes: set[int]) -> None:
    """Kill what came here because its lane died: in the second tier no kernel does.

    Each one that dies hands its children on to this process, whose next signal comes back here.
    """
    own = os.getpid()
    with open(f"/proc/{own}/task/{own}/children", "rb") as children:
        for pid in children.read().split():
            if int(pid) not in lanes:
                os.kill(int(pid), _uapi.SIGKILL)


def _start_lane(
    fds: list[int],
    channels_count: int,
    plan: sealing.Plan,
    introducing: tuple[_socket.socket, Network],
) -> int:
    """Fork a lane, or in the first tier whoever forks it; return that one's process id.

    *fds* are the ends of its channels and, if it has a control group, what `membership.join` takes.
    """
    helper = os.fork()
    if helper:
        for fd in fds:
            os.close(fd)
        return helper
    control, *requests = (_socket.socket(fileno=fd) for fd in fds[:channels_count])
    group = fds[channels_count:]
    try:
        if plan.tier == NAMESPACES:
            # unshare moves only children, and only once: so a child does it, for one lane.
            _uapi.unshare(_uapi.CLONE_NEWPID)
            if os.fork():
                os._exit(0)
        introduction, network = introducing
        of_group: tuple[int, ...] = ()
        if group:
            plan, of_group = membership.join(plan, group)
        watching = () if plan.ways is None else (plan.ways.fd,)
        kept = (*fds[:channels_count], plan.ruleset_fd, introduction.fileno(), *watching)
        wire.keep_only(*kept, *of_group)
        sealing.introduce(introduction, network, setup.become_lane(plan), plan)
        introduction.close()
        lane.serve(control, requests, plan)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "broken", str(error))
        os._exit(1)


def boot() -> Never:
    """Start from the command line: the descriptor, the tier, the usual number of open files."""
    main(int(sys.argv[1]), sys.argv[2], open_files_limit.told(sys.argv[3]))
