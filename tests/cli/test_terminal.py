"""A program on a terminal: it has one of its own, and the person's is as it was afterwards."""

import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import LONG_ENOUGH_S, NONO, Person, Terminal, eventually, running

pytestmark = pytest.mark.linux

Open = Callable[..., Terminal]
WAITS = "echo ready; while :; do sleep 0.05; done"
CONTINUED = shlex.quote(
    "import os, signal, time\n"
    "signal.signal(signal.SIGCONT, lambda *_: os.write(1, b'went-' + b'on'))\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    "os.write(1, b'rea' + b'dy')\n"
    "time.sleep(1000)"
).replace("\n", "; ")


def nono(tier: str, *command: str) -> tuple[str, ...]:
    return (str(NONO), "run", "--tier", tier, "--allow-cwd", "--", *command)


def typed(command: tuple[str, ...]) -> str:
    """Return *command* as a line for a shell; only where nono is may hold a space."""
    return " ".join((shlex.quote(command[0]), *command[1:]))


def sh(tier: str, script: str) -> tuple[str, ...]:
    return nono(tier, "sh", "-c", script)


def test_every_standard_stream_is_a_terminal(terminal: Open, tier: str) -> None:
    window = terminal(*sh(tier, "for n in 0 1 2; do test -t $n && echo tty$n; done"))
    window.expect("tty0\r\ntty1\r\ntty2\r\n")
    assert window.status() == 0


def test_it_isnt_the_persons_terminal(terminal: Open, tier: str) -> None:
    look = "import os; s = os.fstat(0); print('rdev', s.st_rdev, s.st_dev, s.st_ino, 'end')"
    window = terminal(*nono(tier, "/usr/bin/python3", "-c", look))
    window.expect("rdev ")
    told = window.expect(" end").split()[:3]
    mine = os.fstat(window.slave)
    assert told != [str(mine.st_rdev), str(mine.st_dev), str(mine.st_ino)]
    assert window.status() == 0


def test_a_stream_that_is_no_terminal_stays_what_it_is(
    terminal: Open, person: Person, tier: str
) -> None:
    window = terminal("/bin/sh", "-c", 'exec "$@" 2>errors', "sh", *sh(tier, "echo to-file >&2"))
    assert window.status() == 0
    assert (person.workspace / "errors").read_text() == "to-file\n"
    assert "to-file" not in window.shown


def test_where_output_is_a_pipe_nothing_is_put_in_between(terminal: Open, tier: str) -> None:
    window = terminal(
        "/bin/sh", "-c", '"$@" | cat', "sh", *sh(tier, "test -t 0 && ! test -t 1 && echo so")
    )
    window.expect("so")
    assert window.status() == 0


def test_the_window_size_is_passed_on(terminal: Open, tier: str) -> None:
    window = terminal(*sh(tier, "stty size; trap 'stty size' WINCH; " + WAITS))
    window.expect("24 80\r\n")
    window.expect("ready")
    window.resize(33, 101)
    window.expect("33 101\r\n")
    window.type("\3")
    assert window.status() == 130


def test_the_interrupt_key_reaches_the_program_alone(terminal: Open, tier: str) -> None:
    window = terminal(*sh(tier, "trap 'echo got; exit 5' INT; " + WAITS))
    window.expect("ready")
    window.type("\3")
    window.expect("got")
    assert window.status() == 5


@pytest.mark.parametrize(("key", "status"), [("\3", 130), ("\34", 131)])
def test_keys_that_end_a_program_end_it(terminal: Open, tier: str, key: str, status: int) -> None:
    window = terminal(*nono(tier, "sh", "-c", "echo ready; exec sleep 100"))
    window.expect("ready")
    window.type(key)
    assert window.status() == status


def test_what_is_typed_arrives_and_is_echoed_once(terminal: Open, tier: str) -> None:
    window = terminal(*sh(tier, "echo ready; read line; echo got=$line"))
    window.expect("ready")
    window.type("word\r")
    assert window.expect("got=word").count("word") == 2
    assert window.status() == 0


def test_what_is_typed_while_echo_is_off_is_not_shown(terminal: Open, tier: str) -> None:
    window = terminal(*sh(tier, "stty -echo; echo ready; read line; stty echo; echo done"))
    window.expect("ready")
    window.type("secret\r")
    assert "secret" not in window.expect("done")


def test_much_output_arrives_whole(terminal: Open, tier: str) -> None:
    window = terminal(*nono(tier, "seq", "30000"))
    shown = window.expect("\r\n30000\r\n")
    assert shown.split() == [str(number) for number in range(1, 30001)]
    assert window.status() == 0


def test_much_input_arrives_whole(terminal: Open, person: Person, tier: str) -> None:
    window = terminal(*sh(tier, "stty -echo; echo ready; cat > typed"))
    window.expect("ready")
    lines = "".join(f"line {number} of what is pasted\n" for number in range(3000))
    window.type(lines)
    window.type("\4")
    assert window.status() == 0
    assert (person.workspace / "typed").read_text() == lines


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 3", 3), ("stty raw -echo; exit 0", 0), ("stty raw; kill -9 $$", 137)],
)
def test_the_settings_are_restored(terminal: Open, tier: str, script: str, status: int) -> None:
    window = terminal(*sh(tier, script))
    assert window.status() == status
    assert window.settings() == window.at_first


def test_the_settings_are_restored_when_a_signal_ends_it(terminal: Open, tier: str) -> None:
    window = terminal(*sh(tier, WAITS))
    window.expect("ready")
    assert window.settings() != window.at_first
    window.process.send_signal(signal.SIGTERM)
    assert window.status() == 143
    assert window.settings() == window.at_first


def test_the_settings_are_restored_when_time_is_up(terminal: Open, tier: str) -> None:
    command = (str(NONO), "run", "--tier", tier, "--timeout", "0.5", "--", "sleep", "100")
    window = terminal(*command)
    assert window.status() == 124
    window.expect("over its limit of 0.5 s")
    assert window.settings() == window.at_first


def test_the_stop_key_stops_the_whole_job_and_fg_goes_on(terminal: Open, tier: str) -> None:
    window = terminal("/bin/bash", "--norc", "-i", PS1="> ")
    window.expect("> ")
    window.type(typed(nono(tier, "/usr/bin/python3", "-c", CONTINUED)) + "\r")
    window.expect("ready")
    window.type("\32")
    window.expect("Stopped")
    window.type("echo shell-$((40 + 2))\r")
    window.expect("shell-42")
    window.type("fg\r")
    window.expect("went-on")
    window.type("\3")
    window.expect("> ")
    window.type("echo status-$?\r")
    window.expect("status-130")
    window.type("exit 0\r")
    assert window.status() == 0


def test_in_a_pipeline_the_stop_key_stops_all_of_the_call(
    terminal: Open, tier: str, tmp_path: Path
) -> None:
    mark = f"mark-of-{tmp_path.name}"
    # What left the group of processes would read the shell's input from now on. It starts
    # nothing: a child stopped before its exec would carry the mark as well.
    escape = f"setsid -f /usr/bin/python3 -c 'import time; time.sleep(1000)' {mark}"
    window = terminal("/bin/bash", "--norc", "-i", PS1="> ")
    window.expect("> ")
    command = nono(tier, "sh", "-c", shlex.quote(f"{escape}; exec /usr/bin/python3 -c {CONTINUED}"))
    window.type(typed(command) + " | cat\r")
    window.expect("ready")
    window.type("\32")
    window.expect("Stopped")
    (escaped,) = running(mark)
    assert eventually(lambda: state(escaped) == "T")
    window.type("fg\r")
    window.expect("went-on")
    assert eventually(lambda: state(escaped) == "S")
    window.type("\3")
    window.expect("> ")
    window.type("exit 0\r")
    assert window.status() == 0
    assert not running(mark)


def state(pid: int) -> str:
    """Return the letter that proc(5) has for what a process is doing."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_program_that_stops_itself_stops_the_job(terminal: Open, tier: str) -> None:
    window = terminal("/bin/bash", "--norc", "-i", PS1="> ")
    window.expect("> ")
    window.type(typed(nono(tier, "sh", "-c", "'kill -STOP $$; echo went-\"\"on'")) + "\r")
    window.expect("Stopped")
    window.type("fg\r")
    window.expect("went-on")
    window.expect("> ")
    window.type("exit 0\r")
    assert window.status() == 0


def test_in_the_background_it_runs_and_takes_no_input(
    terminal: Open, person: Person, tier: str
) -> None:
    window = terminal("/bin/bash", "--norc", "-i", PS1="> ")
    window.expect("> ")
    command = nono(tier, "sh", "-c", "'echo be\"\"gun; read word; echo $word > stolen'")
    window.type(typed(command) + " &\r")
    window.expect("begun")
    window.type("echo mine-$((40 + 2))\r")
    window.expect("mine-42")
    assert not (person.workspace / "stolen").exists()
    window.type("fg\r")
    window.expect("> stolen'\r\n")
    # It notices within its next look that it is in the foreground.
    window.type("given\r")
    assert eventually((person.workspace / "stolen").exists)
    window.expect("> ")
    window.type("exit 0\r")
    assert window.status() == 0
    assert (person.workspace / "stolen").read_text() == "given\n"


def test_a_shell_has_job_control(terminal: Open, tier: str) -> None:
    window = terminal(str(NONO), "shell", "--tier", tier, SHELL="/bin/bash", PS1="> ")
    window.expect("# " if os.getuid() == 0 else "$ ")
    window.type(f"/usr/bin/python3 -c {CONTINUED}\r")
    window.expect("ready")
    window.type("\32")
    window.expect("Stopped")
    window.type("fg\r")
    window.expect("went-on")
    window.type("\3")
    window.expect("# " if os.getuid() == 0 else "$ ")
    window.type("exit 3\r")
    assert window.status() == 3


def test_a_terminal_that_is_hung_up_ends_the_program(
    terminal: Open, tier: str, tmp_path: Path
) -> None:
    mark = f"mark-of-{tmp_path.name}"
    window = terminal(*nono(tier, "sh", "-c", WAITS, mark))
    window.expect("ready")
    assert running(mark)
    window.hang_up()
    assert eventually(lambda: not running(mark))
    assert window.process.wait(LONG_ENOUGH_S) == 129


@pytest.mark.claim("process.nothing-survives")
def test_killing_it_leaves_nothing(terminal: Open, tier: str, tmp_path: Path) -> None:
    mark = f"mark-of-{tmp_path.name}"
    script = "setsid -f sh -c 'trap \"\" HUP TERM; while :; do sleep 1; done' " + mark
    window = terminal(*sh(tier, f"{script}; {WAITS}"))
    window.expect("ready")
    assert eventually(lambda: bool(running(mark)))
    window.process.send_signal(signal.SIGKILL)
    assert eventually(lambda: not running(mark))
