"""Run under dbus-run-session with an unlocked gnome-keyring: `nono credential`, start to end."""

import os
import pty
import select
import subprocess
import sys
import time

VALUE = "sk-typed-and-not-shown"
DEADLINE_S = 60.0


def nono(program: str, *words: str, stdin: bytes = b"") -> tuple[int, str]:
    done = subprocess.run(
        [program, "credential", *words], input=stdin, capture_output=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def typed(program: str, name: str) -> str:
    """Type the value at the prompt of a terminal, and return all that was shown."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(program, [program, "credential", "set", name])  # noqa: S606
    shown = b""
    deadline = time.monotonic() + DEADLINE_S
    sent = False
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        shown += chunk
        if b"not shown" in shown and not sent:
            os.write(master, VALUE.encode() + b"\n")
            sent = True
        if not chunk:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    return shown.decode()


def main(program: str) -> None:
    assert nono(program, "test", "openai", "--offline")[0] == 1
    shown = typed(program, "openai")
    assert "keyring://nono/openai is in the keychain" in shown
    assert VALUE not in shown
    assert nono(program, "set", "github", stdin=b"ghp_x\n")[0] == 0
    assert nono(program, "set", "bad", stdin=b"a\nb\n")[0] == 1
    assert nono(program, "list") == (0, "github\nopenai\n")
    status, said = nono(program, "test", "openai", "--offline")
    assert (status, said) == (0, "keyring://nono/openai can be had\n")
    assert nono(program, "remove", "github")[0] == 0
    assert nono(program, "remove", "github")[0] == 1
    assert nono(program, "list") == (0, "openai\n")
    sys.stdout.write("held\n")


if __name__ == "__main__":
    main(sys.argv[1])
