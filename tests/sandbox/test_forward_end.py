"""What was sent through a carried port arrives, though who sent it has ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from nono_sandbox import wire

SENT_AND_GONE = """
import os, signal, socket, sys
sys.path.insert(0, sys.argv[1])
from nono_sandbox import forward, wire
before = {int(pid) for pid in open("/proc/thread-self/children").read().split()}
channel = forward.start()
(carrier,) = {int(pid) for pid in open("/proc/thread-self/children").read().split()} - before
with socket.create_server(("127.0.0.1", 0)) as outside, \\
        socket.create_server(("127.0.0.1", 0)) as inside:
    os.set_blocking(inside.fileno(), False)
    wire.send(channel, "inside", outside.getsockname()[1], fds=[inside.fileno()])
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    wire.send(channel, "outside", (), fds=[network])
    print(wire.receive(channel)[0][0])
    # It isn't run while somebody sends, and ends.
    os.kill(carrier, signal.SIGSTOP)
    os.waitpid(carrier, os.WUNTRACED)
    with socket.create_connection(inside.getsockname()) as program:
        program.sendall(b"said, and gone")
    channel.close()
    os.kill(carrier, signal.SIGCONT)
    outside.settimeout(60)
    accepted, _ = outside.accept()
    with accepted:
        accepted.settimeout(60)
        print(accepted.makefile().read())
os.waitpid(carrier, 0)
"""


@pytest.mark.linux
def test_what_a_program_sent_before_it_ended_is_carried() -> None:
    source = str(Path(wire.__file__).parent.parent)
    command = [sys.executable, "-I", "-c", SENT_AND_GONE, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert (done.stdout, done.stderr) == ("carried\nsaid, and gone\n", "")
