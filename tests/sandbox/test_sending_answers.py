"""What is sent on behalf is answered as the kernel answers, and waits for room as there."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import (
    LANDLOCK,
)
from tests.sandbox.local_sockets import sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Sandbox, Yard

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)]


ALIKE = """
    def told(name, act):
        pipes.clear()
        attempt(name, act)
        time.sleep(0)
        if pipes:
            say(name + ", signalled", len(pipes))
    pipes = []
    signal.signal(signal.SIGPIPE, lambda *_: pipes.append(1))
    def message(one, flags=0, **changes):
        return lambda: say("sent", syscall("sendmsg", one.fileno(), header(**changes), flags))
    def pair(kind, spoilt=lambda one, other: None):
        one, other = socket.socketpair(1, kind)
        kept.extend((one, other))
        spoilt(one, other)
        return one
    SPOILT = {
        "whole": lambda one, other: None,
        "closed": lambda one, other: other.close(),
        "shut": lambda one, other: one.shutdown(socket.SHUT_WR),
        "shut there": lambda one, other: other.shutdown(socket.SHUT_RD),
    }
    for kind in (1, 2, 5):
        for how, spoilt in SPOILT.items():
            told(f"{kind} {how}", message(pair(kind, spoilt)))
            told(f"{kind} {how}, quiet", message(pair(kind, spoilt), socket.MSG_NOSIGNAL))
            told(f"{kind} {how}, named",
                 lambda: by_sendto(pair(kind, spoilt), "nothing"))
        told(f"{kind} unconnected", message(socket.socket(1, kind)))
        told(f"{kind} unconnected, named", lambda: by_sendto(socket.socket(1, kind), "nothing"))
        told(f"{kind} no socket there", lambda: by_sendto(socket.socket(1, kind), "notes"))
        told(f"{kind} out of band", message(pair(kind), socket.MSG_OOB, body=b"xy"))
        told(f"{kind} nothing", message(pair(kind), body=b""))
        told(f"{kind} no spans", message(pair(kind), count=0))
        told(f"{kind} at once", message(pair(kind), socket.MSG_DONTWAIT, body=bytes(2 << 20)) if
             kind != 1 else message(pair(kind), socket.MSG_DONTWAIT, body=bytes(2000)))
        told(f"{kind} too many spans", message(pair(kind), count=1025))
        told(f"{kind} spans nowhere", message(pair(kind), spans=16))
        told(f"{kind} body nowhere", message(pair(kind), spans=held(struct.pack("=QQ", 16, 9))))
        told(f"{kind} less than none",
             message(pair(kind), spans=held(struct.pack("=QQ", 16, 1 << 63))))
        told(f"{kind} control nowhere", message(pair(kind), control_bytes=32))
        told(f"{kind} control without end", message(pair(kind), control_bytes=1 << 40))
        told(f"{kind} cut control", message(pair(kind), control=bytes(8)))
        told(f"{kind} control that lies", message(pair(kind), control=rights(0, length=64)))
        told(f"{kind} short control", message(pair(kind), control=rights(0, length=8)))
        told(f"{kind} other control", message(pair(kind), control=rights(0, level=41)))
        told(f"{kind} unknown control", message(pair(kind), control=rights(0, kind=77)))
        told(f"{kind} a closed descriptor", message(pair(kind), control=rights(977)))
        told(f"{kind} no descriptor", message(pair(kind), control=rights()))
        told(f"{kind} many descriptors", message(pair(kind), control=rights(*[0] * 253)))
        kept.clear()  # what is in flight counts for all
        told(f"{kind} too many", message(pair(kind), control=rights(*[0] * 254)))
        told(f"{kind} two of them", message(pair(kind), control=rights(0) + rights(1)))
        me = os.getpid(), os.getuid(), os.getgid()
        told(f"{kind} ids", message(pair(kind), control=ids(*me)))
        told(f"{kind} ids and descriptors", message(pair(kind), control=ids(*me) + rights(1)))
        told(f"{kind} short ids", message(pair(kind), control=rights(0, kind=2)))
        told(f"{kind} negative name", message(pair(kind), name=b"x", name_bytes=-1))
        told(f"{kind} no name, long", message(pair(kind), name_bytes=110))
        told(f"{kind} name of no length", message(pair(kind), name_at=16))
        told(f"{kind} no message", lambda: syscall("sendmsg", pair(kind).fileno(), 0, 0))
        told(f"{kind} several of none", lambda: say("count",
             syscall("sendmmsg", pair(kind).fileno(), 0, 0, 0)))
        one = header(body=b"four")
        told(f"{kind} several of one", lambda: say("count",
             syscall("sendmmsg", pair(kind).fileno(), one, 1, 0)))
        say(f"{kind} length told", ctypes.c_uint32.from_address(one + 56).value)
    for name in (b"\\1\\0", b"\\1", bytes(110), b"\\2\\0" + bytes(14), b"\\1\\0nothing", b"\\1\\0" +
                 b"n" * 109):
        told(f"named {name}", message(socket.socket(1, DGRAM), name=name))
    unbound, one = socket.socket(1, DGRAM), bound("one")
    unbound.connect("one")
    told("connected", message(unbound))
    syscall("connect", unbound.fileno(), held(bytes(16)), 16)
    told("dissolved", message(unbound))
    syscall("connect", unbound.fileno(), held(bytes(2)), 2)
    one.close()
    told("to one that is closed", lambda: by_sendto(unbound, "one"))
    told("connected to it", lambda: unbound.connect("one"))
    two, three = bound("two"), bound("three")
    two.connect("three")
    told("to one that listens to another", lambda: by_sendto(unbound, "two"))
    told("connecting to it", lambda: unbound.connect("two"))
    os.chmod("three", 0o500)
    told("of another kind", lambda: connected("two", 1))
    attempt("no socket", lambda: syscall("sendmsg", 1, header(), 0))
    attempt("closed", lambda: syscall("sendmsg", 977, header(), 0))
    """


def test_what_is_sent_on_behalf_is_answered_as_the_kernel_does(
    sandbox: Sandbox, yard: Yard, attack_argv: Callable[..., list[str]]
) -> None:
    inside = sandbox.attack(sending(ALIKE)).output.decode()
    (yard.reading / "notes").touch()
    outside = subprocess.run(
        attack_argv(sending(ALIKE)), cwd=yard.reading, capture_output=True, text=True, check=True
    ).stdout
    # What the kernel looks at first: its own shut socket, or a path.
    expected = outside.replace('["2 shut, named", "EPIPE"]', '["2 shut, named", "ENOENT"]')
    assert inside.splitlines() == expected.splitlines()
    assert inside.count("\n") > 150


def test_who_waits_for_room_heeds_signals_timeouts_and_the_receiver(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sending(
            """
        own = bound("own")
        filler = socket.socket(1, DGRAM)
        def fill():
            try:
                while True:
                    by_sendmsg(filler, "own", socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
        fill()
        def call(one=None):
            by_sendmsg(one or socket.socket(1, DGRAM), "own")
        quick = socket.socket(1, DGRAM)
        quick.setblocking(False)
        attempt("without blocking", lambda: call(quick))
        patient = socket.socket(1, DGRAM)
        patient.setsockopt(1, socket.SO_SNDTIMEO, struct.pack("@qq", 0, 50000))
        attempt("for a while", lambda: call(patient))
        signal.signal(signal.SIGALRM, lambda *_: say("handled", True))
        # Again and again: the first may come before the call.
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        attempt("interrupted", call)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.siginterrupt(signal.SIGALRM, False)
        def read_later():
            time.sleep(0.2)
            own.recv(9)
        threading.Thread(target=read_later).start()
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        attempt("restarted", call)
        signal.setitimer(signal.ITIMER_REAL, 0)
        fill()
        def close_later():
            time.sleep(0.1)
            own.close()
            kept.clear()
        threading.Thread(target=close_later).start()
        attempt("closed", call)
        """
        )
    )
    said = outcome.said
    assert said["handled"]
    assert (said["without blocking"], said["for a while"]) == ("EAGAIN", "EAGAIN")
    assert (said["interrupted"], said["restarted"]) == ("EINTR", "done")
    assert said["closed"] == "ECONNREFUSED"


def test_others_are_served_while_some_wait_for_room(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sending(
            """
        full, own = bound("full"), bound("own")
        def wait():
            while True:
                by_sendmsg(socket.socket(1, DGRAM), "full")
        for _ in range(8):
            threading.Thread(target=wait, daemon=True).start()
        heard = []
        def listen():
            while len(heard) < 160:
                heard.append(own.recv(20))
        def speak(number):
            for turn in range(10):
                socket.socket(1, DGRAM).sendto(b"%d.%d" % (number, turn), "own")
        threads = [threading.Thread(target=listen)]
        threads += [threading.Thread(target=speak, args=(number,)) for number in range(16)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        say("heard", len(set(heard)))
        sys.stdout.flush()
        os._exit(0)
        """
        )
    )
    assert outcome.said["heard"] == 160


def test_a_call_that_ends_while_it_waits_for_room_leaves_the_next_one_served(
    sandbox: Sandbox,
) -> None:
    running = sandbox.begin_attack(
        sending(
            """
        own, (one, other) = bound("full"), socket.socketpair()
        def wait():
            one.sendmsg([bytes(8 << 20)])
        threading.Thread(target=wait, daemon=True).start()
        say("first", len(other.recv(1)))
        while True:
            say("sending", True)
            by_sendmsg(socket.socket(1, DGRAM), "full")
        """
        )
    )
    running.wait_for("sending")
    running.lane.end("test")
    assert running.wait().ended.limit == "test"
    outcome = sandbox.attack(
        sending(
            """
        own = bound("own")
        attempt("send", lambda: by_sendmsg(socket.socket(1, DGRAM), "own"))
        """
        )
    )
    assert outcome.done == ["send"]


def test_a_long_message_of_a_stream_arrives_whole(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sending(
            """
        import hashlib
        body = os.urandom(1 << 20) * 6 + b"the end"
        def sum_of(one):
            total = hashlib.sha256()
            while chunk := one.recv(1 << 20):
                total.update(chunk)
            say("whole", total.hexdigest() == hashlib.sha256(body).hexdigest())
        one, other = socket.socketpair()
        reader = threading.Thread(target=sum_of, args=(other,))
        reader.start()
        split = [body[at:at + 70001] for at in range(0, len(body), 70001)]
        say("sent", one.sendmsg(split) == len(body))
        one.close()
        reader.join()
        one, other = socket.socketpair()
        one.setblocking(False)
        first = one.sendmsg([body])
        say("part", 0 < first < len(body))
        attempt("no more", lambda: one.sendmsg([body]))
        say("that part", len(other.recv(first, socket.MSG_WAITALL)) == first)
        """
        )
    )
    assert outcome.said == {
        **dict.fromkeys(("whole", "sent", "part", "that part"), True),
        "no more": "EAGAIN",
    }


def test_a_program_that_made_itself_unreadable_sends_what_needs_no_judging(
    sandbox: Sandbox,
) -> None:
    outcome = sandbox.attack(
        sending(
            """
        own, (one, other) = bound("own"), socket.socketpair()
        libc.prctl(4, 0, 0, 0, 0)
        attempt("send", lambda: one.send(b"x"))
        attempt("sendmsg", lambda: one.sendmsg([b"x"]))
        attempt("sendto", lambda: by_sendto(socket.socket(1, DGRAM), "own"))
        """
        )
    )
    others = "done" if os.geteuid() == 0 else "EACCES"
    assert outcome.said == {"send": "done", "sendmsg": others, "sendto": others}
