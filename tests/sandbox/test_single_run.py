"""A single run: the same confinement, made by the small process that asked for it."""

from __future__ import annotations

import errno
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox import wire
from nono_sandbox.confinement import (
    CLOSED,
    LANDLOCK,
    NAMESPACES,
    OPEN,
    PORTS,
    READ,
    SEATBELT,
    WRITE,
    Call,
    Confinement,
    Limits,
    Narrowing,
    Network,
)
from nono_sandbox.errors import ConfinementError
from nono_sandbox.single_run import launching
from tests.sandbox.conftest import supervisor_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.conftest import Yard

LONG_ENOUGH_S = 60
REFUSAL = {LANDLOCK: "EACCES", SEATBELT: "EPERM"}
"""What is answered where what is out of reach is still there to be named."""
# The process that `nono run` is: it holds secrets, and asks for one confined program.
DRIVER = """
    from nono_sandbox import wire
    from nono_sandbox.single_run import launching
    from nono_sandbox.errors import SandboxError
    tier, network, confinement, call = wire.whole(eval(sys.argv[2]))
    if len(sys.argv) > 4:
        from nono_sandbox import landlock
        landlock.abi_version = lambda: int(sys.argv[4])
    launch = launching.start(tier, network)
    try:
        launch.await_ready()
        launch.run(confinement, call)
        answer = launch.receive()
        while answer[0] not in ("ended", "broken"):
            answer = launch.receive()
    except SandboxError as error:
        answer = ("refused", str(error))
    os.write(int(sys.argv[3]), repr(answer).encode())
    """


class Run:
    """One such process, and what came of it."""

    def __init__(  # noqa: PLR0913  # three of them are what it starts with
        self,
        tier: str,
        confinement: Confinement,
        call: Call,
        *,
        network: str = CLOSED,
        abi: int | None = None,
        fds: tuple[int, ...] = (),
        stdin: int = subprocess.DEVNULL,
        by: tuple[str, ...] = (),
    ) -> None:
        self._report, report = os.pipe()
        message = wire.plain((tier, network, confinement, call))
        arguments = [repr(message), str(report)]
        arguments += [] if abi is None else [str(abi)]
        self.process = subprocess.Popen(
            [*by, *supervisor_argv(DRIVER, *arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            pass_fds=[report, *fds],
            env={"NONO_SECRET_TOKEN": "hunter2-of-the-environment"},
        )
        os.close(report)

    def wait(self) -> tuple[tuple[Any, ...], bytes]:
        """Return the last message of the lane, and the output."""
        output, _ = self.process.communicate(timeout=LONG_ENOUGH_S)
        with os.fdopen(self._report, "rb") as stream:
            answer = stream.read()
        return eval(answer), output  # noqa: S307  # the driver's own words

    def wait_for(self, text: bytes) -> None:
        assert self.process.stdout is not None
        said = b""
        while text not in said:
            assert select.select([self.process.stdout], [], [], LONG_ENOUGH_S)[0], said
            said += os.read(self.process.stdout.fileno(), 4096)

    def wait_to_be_killed(self) -> None:
        """Wait for whoever asked for the run, and for its program, to be gone."""
        self.process.communicate(timeout=LONG_ENOUGH_S)
        assert self.process.returncode == -signal.SIGKILL
        self.close()

    def lane(self) -> int:
        """Return the child that is the lane."""
        own = self.process.pid
        return int(Path(f"/proc/{own}/task/{own}/children").read_text().split()[0])

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self._report)


def said(output: bytes) -> dict[str, Any]:
    return dict(json.loads(line) for line in output.splitlines())


@pytest.fixture
def call_for(yard: Yard, attack_argv: Callable[..., list[str]]) -> Callable[..., Call]:
    def make(script: str, *arguments: object, **changes: Any) -> Call:  # noqa: ANN401  # fields
        argv = tuple(attack_argv(script, *arguments))
        environment = (("PATH", "/usr/bin:/bin"),)
        return Call(argv, environment, str(yard.workspace)).replace(**changes)

    return make


@pytest.mark.linux  # by /proc
def test_what_a_terminal_sends_to_all_ends_no_lane(
    yard: Yard, tier: str, call_for: Callable[..., Call]
) -> None:
    """It's for the program, which goes on if it likes."""
    go = yard.workspace / "go"
    waiting = """
        say("began", True)
        while not os.path.exists(ARGUMENTS[0]):
            time.sleep(0.005)
        """
    run = Run(tier, yard.confinement(), call_for(waiting, go))
    run.wait_for(b"began")
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        os.kill(run.lane(), number)
    go.touch()
    answer, _ = run.wait()
    assert answer[:3] == ("ended", 0, "")


@pytest.fixture
def secret_fd(yard: Yard) -> Iterator[int]:
    fd = os.open(yard.outside / "secret", os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.mark.claim("fs.deny-by-default")
@pytest.mark.claim("descriptors.none-inherited")
def test_a_run_gets_nothing_of_who_asked_for_it(
    tier: str, yard: Yard, call_for: Callable[..., Call], secret_fd: int
) -> None:
    call = call_for(
        """
        import fcntl
        secret, = ARGUMENTS
        lane = os.getppid()
        attempt("the secret", lambda: read(secret))
        attempt("write outside", lambda: write(os.path.dirname(secret) + "/new"))
        for fd in {*range(3, 300)} - {FREE}:
            attempt(f"descriptor {fd}", lambda: fcntl.fcntl(fd, fcntl.F_GETFD))
        for fd in range(300):
            attempt(f"the lane's {fd}", lambda: read(f"/proc/{lane}/fd/{fd}"))
        attempt("the lane's environment", lambda: read(f"/proc/{lane}/environ"))
        attempt("the lane's memory", lambda: os.open(f"/proc/{lane}/mem", os.O_RDONLY))
        attempt("stop the lane", lambda: os.kill(-lane, 0) if lane > 1 else os.kill(-999, 0))
        attempt("connect", lambda: __import__("socket").create_connection(("127.0.0.1", 9)))
        attempt("set-id", lambda: os.chmod("notes", 0o4755))
        say("environment", dict(os.environ))
        """,
        yard.outside / "secret",
    )
    answer, output = Run(tier, yard.confinement(), call, fds=(secret_fd,)).wait()
    assert answer[:4] == ("ended", 0, "", None), output
    assert [name for name, value in said(output).items() if value == "done"] == []
    assert yard.secret.encode() not in output
    assert b"hunter2-of-the-environment" not in output
    assert not (yard.outside / "new").exists()


@pytest.mark.claim("net.unix-sockets")
def test_a_run_has_local_sockets_of_its_own_alone(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    path = str(yard.outside / "socket")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(path)
        theirs.listen()
        call = call_for(
            """
            import socket
            own = socket.socket(socket.AF_UNIX)
            own.bind("own")
            own.listen()
            def connected(path):
                one = socket.socket(socket.AF_UNIX)
                one.connect(path)
                return one
            attempt("theirs", lambda: connected(ARGUMENTS[0]))
            attempt("own", lambda: connected("own").sendall(b"hello"))
            say("heard", own.accept()[0].recv(5).decode())
            """,
            path,
        )
        answer, output = Run(tier, yard.confinement(), call).wait()
        assert answer[:4] == ("ended", 0, "", None), output
        assert said(output) == {
            "theirs": REFUSAL.get(tier, "ENOENT"),
            "own": "done",
            "heard": "hello",
        }
        assert select.select([theirs], [], [], 0)[0] == []


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("support.required")
@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6])
def test_an_older_kernels_landlock_is_enough_or_is_refused(
    tier: str, yard: Yard, call_for: Callable[..., Call], abi: int
) -> None:
    """What it hasn't got, masked here, other mechanisms of the tier hold."""
    name = f"\0nono-test-{os.urandom(8).hex()}"
    before = yard.seen(yard.outside), yard.seen(yard.reading)
    call = call_for(
        """
        import socket
        outside, reading, name, port, parent = ARGUMENTS
        attempt("read", lambda: read(outside + "/secret"))
        attempt("truncate", lambda: os.truncate(reading + "/kept", 0))
        attempt("write", lambda: write(reading + "/kept"))
        attempt("rename", lambda: os.rename(reading + "/kept", "kept"))
        attempt("chmod", lambda: os.chmod(reading + "/kept", 0))
        attempt("signal", lambda: os.kill(parent, 0))
        attempt("abstract", lambda: socket.socket(1).connect(name))
        attempt("TCP", lambda: socket.create_connection(("127.0.0.1", port)))
        attempt("work", lambda: write("notes"))
        """,
        yard.outside,
        yard.reading,
        name,
        9,
        os.getpid(),
    )
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(name)
        theirs.listen()
        answer, output = Run(tier, yard.confinement(), call, abi=abi).wait()
        assert select.select([theirs], [], [], 0)[0] == []
    from nono_sandbox import domain  # noqa: PLC0415  # it's Linux's alone

    if abi < domain.ABI_REQUIRED[tier]:
        assert answer[0] == "refused"
        assert f"ABI {abi}" in answer[1]
        assert output == b""
    else:
        done = {name for name, value in said(output).items() if value == "done"}
        assert done == {"work"}
    assert (yard.seen(yard.outside), yard.seen(yard.reading)) == before


@pytest.mark.linux  # on macOS a socket in a grant can be connected to
@pytest.mark.claim("net.unix-sockets")
@pytest.mark.parametrize("mode", [CLOSED, PORTS])
def test_a_run_connects_to_its_own_local_sockets_alone(
    tier: str, yard: Yard, call_for: Callable[..., Call], mode: str
) -> None:
    call = call_for(
        """
        import socket
        own = socket.socket(1)
        own.bind("own")
        own.listen()
        for path in ("own", "theirs", "granted"):
            attempt(path, lambda: socket.socket(1).connect(path))
        """
    )
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as given:
        for one, name in ((theirs, "theirs"), (given, "granted")):
            one.bind(str(yard.workspace / name))
            one.listen()
        status = (yard.workspace / "granted").stat()
        granted = ((status.st_dev, status.st_ino),)
        confinement = yard.confinement(sockets=granted, network=Network(mode))
        answer, output = Run(tier, confinement, call, network=mode).wait()
        assert answer[:4] == ("ended", 0, "", None), output
        assert said(output) == {"own": "done", "theirs": "EACCES", "granted": "done"}
        assert select.select([theirs, given], [], [], LONG_ENOUGH_S)[0] == [given]


@pytest.mark.claim("net.ports")
@pytest.mark.parametrize("likely", [CLOSED, PORTS])
def test_a_run_reaches_the_named_port_alone(
    tier: str, yard: Yard, call_for: Callable[..., Call], likely: str
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as named,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        ports = [one.getsockname()[1] for one in (named, other)]
        call = call_for(
            """
            import socket
            for port in ARGUMENTS:
                attempt(str(port), lambda: socket.create_connection(("127.0.0.1", port)).recv(1))
            """,
            *ports,
        )
        confinement = yard.confinement(network=Network(PORTS, connect_ports=(ports[0],)))
        answering = threading.Thread(target=answer_one, args=(named,))
        answering.start()
        answer, output = Run(tier, confinement, call, network=likely).wait()
        assert answer[:4] == ("ended", 0, "", None), output
        refusal = REFUSAL.get(tier, "ECONNREFUSED")
        assert said(output) == {str(ports[0]): "done", str(ports[1]): refusal}
        answering.join()
        assert select.select([named, other], [], [], 0)[0] == []


def answer_one(listener: socket.socket) -> None:
    listener.settimeout(LONG_ENOUGH_S)
    accepted, _ = listener.accept()
    with accepted:
        accepted.sendall(b"x")


@pytest.mark.claim("process.unreachable")
def test_who_asked_for_a_run_is_out_of_its_reach(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    confinement = yard.confinement()
    call = call_for(
        """
        while not os.path.exists("pid"):
            pass
        pid = int(open("pid").read())
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGURG, 0):
            attempt(f"kill {number}", lambda: os.kill(pid, number))
        attempt("attach", lambda: syscall("ptrace", 16, pid, 0, 0))
        attempt("its environment", lambda: read(f"/proc/{pid}/environ"))
        if ARGUMENTS[0] == "linux":  # of macOS it's not known who decides
            attempt("its priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
        """,
        sys.platform,
    )
    run = Run(tier, confinement, call)
    (yard.workspace / "pid.new").write_text(str(run.process.pid))
    (yard.workspace / "pid.new").rename(yard.workspace / "pid")
    answer, output = run.wait()
    assert answer[:2] == ("ended", 0)
    assert [name for name, value in said(output).items() if value == "done"] == []
    assert run.process.returncode == 0


@pytest.mark.claim("process.nothing-survives")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_who_asked_for_a_run(
    tier: str,
    yard: Yard,
    call_for: Callable[..., Call],
    alive: Callable[[str], list[str]],
    number: int,
) -> None:
    call = call_for(
        """
        if os.uname().sysname == "Linux":
            libc.prctl(1, 0, 0, 0, 0)
        for _ in range(3):
            if not os.fork():
                os.setsid()
                for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
                    signal.signal(number, signal.SIG_IGN)
                sleep_for_ever()
        say("ready", True)
        sleep_for_ever()
        """,
        yard.secret,
    )
    run = Run(tier, yard.confinement(), call)
    run.wait_for(b"ready")
    run.process.send_signal(number)
    run.process.wait()
    deadline = time.monotonic() + LONG_ENOUGH_S
    while left := alive(yard.secret):
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
    run.close()


def test_a_run_that_cant_be_confined_runs_nothing(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    replaced = yard.granted(yard.outside, READ).replace(identity=(0, 0))
    call = call_for('write("made")')
    answer, output = Run(tier, yard.confinement(replaced), call).wait()
    assert (answer[0], output) == ("refused", b"")
    assert "was replaced" in answer[1]
    assert not (yard.workspace / "made").exists()


@pytest.mark.claim("net.closed")
@pytest.mark.parametrize("expected", [CLOSED, OPEN])
@pytest.mark.parametrize("mode", [CLOSED, OPEN])
def test_a_run_has_the_network_of_its_confinement_whatever_was_expected(
    tier: str, yard: Yard, call_for: Callable[..., Call], expected: str, mode: str
) -> None:
    import socket  # noqa: PLC0415  # only here

    with socket.create_server(("127.0.0.1", 0)) as server:
        call = call_for(
            """
            import socket
            attempt("connect", lambda: socket.create_connection(("127.0.0.1", ARGUMENTS[0])))
            """,
            server.getsockname()[1],
        )
        confinement = yard.confinement(network=Network(mode))
        answer, output = Run(tier, confinement, call, network=expected).wait()
        reached = bool(select.select([server], [], [], 0)[0])
    assert answer[:2] == ("ended", 0)
    assert (said(output)["connect"] == "done", reached) == (mode == OPEN, mode == OPEN)


@pytest.mark.claim("fs.narrowed")
def test_a_run_can_give_up_writing_and_its_network(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    call = call_for(
        """
        import socket
        attempt("write", lambda: write("new"))
        attempt("socket", lambda: socket.socket())
        """,
        narrowing=Narrowing(writes=(), network_closed=True),
    )
    confinement = yard.confinement(network=Network(OPEN))
    answer, output = Run(tier, confinement, call, network=OPEN).wait()
    assert answer[:2] == ("ended", 0)
    assert "done" not in said(output).values()


@pytest.mark.claim("limits.named")
def test_a_run_ends_by_its_limit_and_says_so(
    tier: str, yard: Yard, call_for: Callable[..., Call], alive: Callable[[str], list[str]]
) -> None:
    call = call_for(
        "os.fork() or os.setsid(); sleep_for_ever()", yard.secret, limits=Limits(wall_s=0.3)
    )
    answer, _ = Run(tier, yard.confinement(), call).wait()
    assert answer[:3] == ("ended", signal.SIGKILL, "wall")
    assert alive(yard.secret) == []


@pytest.mark.linux  # by Linux's calls
@pytest.mark.claim("privilege.none")
def test_a_run_on_a_terminal_types_nothing_into_the_persons(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    master, slave = pty.openpty()
    call = call_for(
        """
        import termios
        for name, number in (("TIOCSTI", 0x5412), ("TIOCSTI, high bits", 1 << 32 | 0x5412)):
            for fd in (0, 1, 2):
                attempt(f"{name} {fd}", lambda: syscall(
                    "ioctl", fd, number, ctypes.byref(ctypes.c_char(b"x"))))
        """,
    )
    answer, output = Run(tier, yard.confinement(), call, stdin=slave).wait()
    assert answer[:2] == ("ended", 0)
    os.write(master, b"\n")
    # The kernel carries it over in its own time.
    assert select.select([slave], [], [], LONG_ENOUGH_S)[0]
    typed = os.read(slave, 100)
    os.close(master)
    os.close(slave)
    assert (typed, "done" in said(output).values()) == (b"\n", False)


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
@pytest.mark.claim("fs.unseen")
def test_a_run_sees_nothing_of_the_machine_but_its_grants(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    call = call_for(
        """
        outside, = ARGUMENTS
        attempt("stat", lambda: os.stat(outside))
        attempt("the machine's processes", lambda: os.stat("/proc/sys/../2/../self/../cpuinfo/x"))
        say("pids", sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
        say("own", sorted([1, os.getpid()]))
        attempt("write /proc/sys", lambda: os.open("/proc/sys/kernel/hostname", os.O_WRONLY))
        """,
        yard.outside,
    )
    answer, output = Run(tier, yard.confinement(), call).wait()
    told = said(output)
    assert answer[:2] == ("ended", 0)
    assert "done" not in told.values()
    assert told["pids"] == told["own"]


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
@pytest.mark.claim("privilege.none")
def test_a_run_writes_nothing_of_the_kernels_though_the_whole_root_is_granted(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    call = call_for(
        """
        for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"):
            attempt("write " + path, lambda: os.close(os.open(path, os.O_WRONLY)))
        attempt("what this is", lambda: read("/proc/self/status"))
        """
    )
    run = Run(tier, yard.confinement(yard.granted(Path("/"), READ | WRITE)), call)
    _, output = run.wait()
    assert [name for name, value in said(output).items() if value == "done"] == ["what this is"]


def children(pid: int) -> list[int]:
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in listed.read_text(encoding="ascii").split()]
    return found


def gone(pid: int) -> bool:
    """Tell whether a process has ended, collected by whoever is to or not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in ("Z", "X")


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LONG_ENOUGH_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.linux  # by /proc: what macOS has beside it is another matter
def test_a_run_is_two_processes_and_its_program_till_a_call_waits(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    call = call_for(
        """
        import socket
        own = socket.socket(1)
        own.bind("own")
        own.listen()
        say("ready", True)
        while not os.path.exists("go"):
            pass
        for _ in range(2):
            attempt("own", lambda: socket.socket(1).connect("own"))
        say("connected", True)
        while not os.path.exists("end"):
            pass
        """
    )
    run = Run(tier, yard.confinement(), call)
    # In the second tier it's asked for a socket that's bound already.
    first = b"ready"
    run.wait_for(first)
    asked_early = tier == LANDLOCK
    (lane, *answerers) = children(run.process.pid)
    assert len(answerers) == asked_early
    assert len(children(lane)) == 1
    (yard.workspace / "go").touch()
    run.wait_for(b"connected")
    _, answerer = children(run.process.pid)
    (yard.workspace / "end").touch()
    answer, _ = run.wait()
    assert answer[:2] == ("ended", 0)
    assert eventually(lambda: gone(answerer))
    assert eventually(lambda: gone(lane))


@pytest.mark.claim("process.nothing-survives")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_a_lane_that_attends_to_nothing_ends_with_who_asked_for_it(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    call = call_for("say('ready', True); sleep_for_ever()")
    run = Run(tier, yard.confinement(), call)
    run.wait_for(b"ready")
    (lane,) = children(run.process.pid)
    (program,) = children(lane)
    os.kill(lane, signal.SIGSTOP)
    run.process.kill()
    run.process.wait()
    assert eventually(lambda: gone(lane) and gone(program))
    run.close()


ASKED = """
    from nono_sandbox import filters, wire
    from nono_sandbox.single_run import launching
    tier, confinement, call = wire.whole(eval(sys.argv[2]))
    launch = launching.start(tier)
    launch.await_ready()
    programs = launching._programs(confinement, call, launch.tier)
    launch.ask(wire.plain(confinement), wire.plain(call), programs)
    print(launch._child[0], flush=True)
    sys.stdin.read()
    launch._control.shutdown(1)  # it hears that nobody is there, and still is heard
    said = []
    try:
        while True:
            said.append(wire.receive(launch._control)[0][0])
    except wire.ClosedError:
        print(said, os.waitpid(launch._child[0], 0)[1])
    """
"""One that asks for a program, and doesn't tell its lane to run it."""


def is_sealed(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return "\nSeccomp:\t2\n" in status


@pytest.mark.linux  # elsewhere nothing is asked for before it's to run
@pytest.mark.claim("process.nothing-survives")
@pytest.mark.parametrize("is_killed", [False, True])
def test_what_was_asked_for_runs_when_it_is_told_to_and_not_before(
    tier: str, yard: Yard, call_for: Callable[..., Call], *, is_killed: bool
) -> None:
    mark = yard.workspace / "ran"
    call = call_for("open(*ARGUMENTS, 'w').close()", str(mark))
    message = repr(wire.plain((tier, yard.confinement(), call)))
    with subprocess.Popen(
        supervisor_argv(ASKED, message), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdin is not None
        assert asking.stdout is not None
        lane = int(asking.stdout.readline())
        assert eventually(lambda: is_sealed(lane))
        if is_killed:
            asking.kill()
        answer, _ = asking.communicate(timeout=LONG_ENOUGH_S)
    assert answer == ("" if is_killed else "['sealed'] 0\n")
    assert eventually(lambda: gone(lane))
    assert not mark.exists()


@pytest.mark.linux
def test_a_lane_that_was_let_go_of_fails_without_a_word() -> None:
    """What it was asked for needn't be there any more: that is why it was let go of."""
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from nono_sandbox import errors, wire\n"
        "from nono_sandbox.single_run import forking, preparing\n"
        "def serve(control, *_):\n"
        "    try: wire.receive(control)\n"
        "    except wire.ClosedError: raise errors.ConfinementError('it is gone') from None\n"
        "preparing.serve = serve\n"
        "ours, (pid, _) = forking.begin('landlock', 'closed')\n"
        "ours.close()\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    source = str(Path(wire.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, source],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


BESIDE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from nono_sandbox.single_run import forking
asked, allowed, moved = sys.argv[2], os.sched_getaffinity(0), []
move = os.sched_setaffinity
forking.os = type(os)("counting")
forking.os.__dict__.update(os.__dict__)
forking.os.sched_setaffinity = lambda pid, at: moved.append(set(at) < allowed) or move(pid, at)
forking._running_count = {"free": lambda: 2, "busy": lambda: len(allowed) + 1}[asked]
ours, (pid, _) = forking.begin("landlock", "closed")
print(moved, os.sched_getaffinity(pid) == allowed)
"""


@pytest.mark.linux
@pytest.mark.parametrize("machine", ["free", "busy"])
def test_a_lane_starts_on_another_processor_and_may_be_on_all(machine: str) -> None:
    source = str(Path(wire.__file__).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", BESIDE, source, machine]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    there_are_others = len(os.sched_getaffinity(0)) > 1
    moved = [True, False] if machine == "free" and there_are_others else []
    assert (done.stdout, done.stderr) == (f"{moved} True\n", "")


@pytest.mark.linux
def test_on_one_processor_a_lane_starts_there() -> None:
    source = str(Path(wire.__file__).parent.parent)
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BESIDE, source, "free"],
        capture_output=True, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {one}),
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[] True\n", "")


UNTOLD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from nono_sandbox.single_run import forking
forking.os = type(os)("elsewhere")
forking.os.__dict__.update(os.__dict__)
forking.os.open = lambda path, flags: os.open(sys.argv[2], flags)
ours, (pid, _) = forking.begin("landlock", "closed")
print(pid > 0, forking._running_count() == sys.maxsize)
"""


@pytest.mark.linux
@pytest.mark.parametrize("instead", ["/dev/null", "/"])
def test_a_lane_starts_where_nobody_tells_what_else_runs(instead: str) -> None:
    source = str(Path(wire.__file__).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", UNTOLD, source, instead]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True True\n", "")


UNFORESEEN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from nono_sandbox import errors
from nono_sandbox.single_run import launching, preparing
def serve(*_):
    raise KeyError("nobody foresaw that")
preparing.serve = serve
try:
    launching.start("landlock").await_ready()
except errors.LaneLostError as error:
    os.write(1, b"lost\\n")
finally:
    os.write(1, b"put right\\n")
"""


@pytest.mark.linux
def test_whatever_a_lane_fails_by_it_goes_no_further() -> None:
    source = str(Path(wire.__file__).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", UNFORESEEN, source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "lost\nput right\n"
    assert done.stderr.endswith("please report it: KeyError('nobody foresaw that')\n")


@pytest.mark.linux
def test_where_nothing_can_be_forked_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from nono_sandbox.single_run import forking  # noqa: PLC0415 - Linux's alone

    def full(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(forking, "_start", full)
    launch = launching.start(None)
    with pytest.raises(ConfinementError, match="Resource temporarily unavailable"):
        launch.await_ready()


HUNG_UP = """
import os, sys
sys.path.insert(0, sys.argv[1])
from nono_sandbox.single_run import preparing
master, slave = os.openpty()
os.close(master)
os.dup2(slave, 0)
try:
    preparing._terminal(as_ours=True)
except OSError as error:
    print(error)
"""


@pytest.mark.linux
def test_a_terminal_that_was_hung_up_is_what_a_lane_fails_by() -> None:
    source = str(Path(wire.__file__).parent.parent)
    command = [sys.executable, "-I", "-c", HUNG_UP, source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[Errno 5] Input/output error\n", "")
