"""Datagrams, and sockets with names that aren't paths, without namespaces: whom they reach.

What is sent is copied, judged and sent by another; so all that the kernel answers to a worker's
own `sendmsg` is compared with what that one answers.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import textwrap
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import CLOSED, LANDLOCK, OPEN, READ, WRITE, Narrowing, Network
from tests.sandbox.conftest import supervisor_argv
from tests.sandbox.local_sockets import sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)]

WORDS = """
    DGRAM, SEQPACKET = socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
    kept = []
    def bound(path, kind=DGRAM):
        one = socket.socket(1, kind)
        one.bind(path)
        kept.append(one)
        return one
    def held(content):
        kept.append(ctypes.create_string_buffer(content, len(content)))
        return ctypes.addressof(kept[-1])
    def header(body=b"x", name=b"", control=b"", **changes):
        "Return a struct mmsghdr, the first part of which is a struct msghdr."
        fields = {
            "name_at": held(name) if name else 0, "name_bytes": len(name),
            "spans": held(struct.pack("=QQ", held(body), len(body))), "count": 1,
            "control": held(control) if control else 0, "control_bytes": len(control),
        } | changes
        packed = struct.pack("=Qi4xQQQQi4xI4x", *fields.values(), 0, 99)
        return held(packed)
    def rights(*fds, **changes):
        fields = {"length": 16 + 4 * len(fds), "level": 1, "kind": 1} | changes
        return struct.pack(f"=Qii{len(fds)}i", *fields.values(), *fds) + bytes(-4 * len(fds) % 8)
    def ids(pid, uid, gid):
        return struct.pack("=QiiiII4x", 28, 1, 2, pid, uid, gid)
    def by_sendto(one, path, flags=0):
        return syscall("sendto", one.fileno(), b"x", 1, flags, held(address(path)), 110)
    def by_sendmsg(one, path, flags=0):
        return syscall("sendmsg", one.fileno(), header(name=address(path)), flags)
    def by_sendmmsg(one, path, flags=0):
        return syscall("sendmmsg", one.fileno(), header(name=address(path)), 1, flags)
    def by_connecting(one, path, flags=0):
        syscall("connect", one.fileno(), held(address(path)), 110)
        return one.send(b"x", flags)
    WAYS = (by_sendto, by_sendmsg, by_sendmmsg, by_connecting)
    """


def sending(*scripts: str) -> str:
    """Return an attack program with what these have in common."""
    return sockets("") + "".join(textwrap.dedent(script) for script in (WORDS, *scripts))


class Receiver:
    """A program outside that takes datagrams at some paths and a name, and notices each."""

    def __init__(self, yard: Yard) -> None:
        self.name = f"\0nono-test-{os.urandom(8).hex()}"
        self._all = []
        places = (yard.workspace, yard.reading, yard.outside)
        for address in (*(str(place / "theirs") for place in places), self.name):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            one.bind(address)
            self._all.append(one)
        for place in places:
            (place / "theirs").chmod(0o777)

    def reached(self) -> list[str]:
        return [one.getsockname() for one in select.select(self._all, [], [], 0)[0]]

    def close(self) -> None:
        for one in self._all:
            one.close()


@pytest.fixture
def receiver(yard: Yard) -> Iterator[Receiver]:
    with contextlib.closing(Receiver(yard)) as them:
        yield them


@pytest.mark.claim("net.unix-datagrams")
def test_no_datagram_reaches_a_program_outside_wherever_it_is(
    sandbox: Sandbox, yard: Yard, receiver: Receiver
) -> None:
    outcome = sandbox.attack(
        sending(
            """
        workspace, reading, outside, name = ARGUMENTS
        own = bound("own")
        os.link("theirs", "linked")
        os.symlink(f"{outside}/theirs", "symlinked")
        os.mkdir("sub2")
        fd = os.open("theirs", os.O_PATH)
        paths = ["theirs", f"{workspace}/theirs", f"{reading}/theirs", f"{outside}/theirs",
                 "linked", "symlinked", "sub2/../theirs", name, f"/proc/self/fd/{fd}",
                 *(f"/proc/self/fd/{number}" for number in range(3, 40))]
        def senders():
            yield "a socket", socket.socket(1, DGRAM)
            yield "a bound one", bound(f"b{len(kept)}")
            one, other = socket.socketpair(1, DGRAM)
            kept.append(other)
            yield "one of a pair", one
            one = socket.socket(1, DGRAM)
            one.connect("own")
            yield "a connected one", one
        for path in paths:
            for what, one in senders():
                for way in WAYS:
                    attempt(f"{path}, {what}, {way.__name__}", lambda: way(one, path))
        os.rename("own", "kept")
        os.rename("linked", "own")
        attempt("replaced", lambda: socket.socket(1, DGRAM).sendto(b"x", "own"))
        attempt("moved", lambda: socket.socket(1, DGRAM).sendto(b"x", "kept"))
        """
        ),
        yard.workspace,
        yard.reading,
        yard.outside,
        receiver.name,
    )
    assert outcome.done == ["moved"]
    assert len(outcome.said) == 46 * 16 + 2 - 16
    assert receiver.reached() == []


SWAPS = {
    "the address": """
        name = in_memory("own")
        one = header(name_at=ctypes.addressof(name), name_bytes=110)
        def swap():
            ctypes.memmove(name, theirs, 110)
            ctypes.memmove(name, ours, 110)
        """,
    "where the address is": """
        one = header(name=ours)
        first, other = held(ours), held(theirs)
        def swap():
            ctypes.c_uint64.from_address(one).value = other
            ctypes.c_uint64.from_address(one).value = first
        """,
    "whether there is an address": """
        sender.connect("own")
        one = header(name=theirs)
        where = held(theirs)
        def swap():
            ctypes.c_uint64.from_address(one).value = 0
            ctypes.c_uint64.from_address(one).value = where
        """,
    "the socket": """
        one = header(name=theirs)
        datagrams, (stream, other) = os.dup(sender.fileno()), socket.socketpair(1, SEQPACKET)
        drain = lambda: [other.recv(9) for _ in range(1 << 30)]
        threading.Thread(target=drain, daemon=True).start()
        def swap():
            os.dup2(stream.fileno(), sender.fileno())
            os.dup2(datagrams, sender.fileno())
        """,
}


@pytest.mark.claim("net.unix-datagrams")
@pytest.mark.parametrize("swapped", SWAPS.values(), ids=SWAPS.keys())
def test_a_thread_that_swaps_what_is_judged_gains_nothing(
    sandbox: Sandbox, receiver: Receiver, swapped: str
) -> None:
    outcome = sandbox.attack(
        sending(
            """
        own = bound("own")
        own.setblocking(False)
        ours, theirs = address("own"), address("theirs")
        sender = socket.socket(1, DGRAM)
        """
            + swapped
            + """
        going = True
        def keep_swapping():
            while going:
                swap()
        sys.setswitchinterval(1e-6)
        swapping = threading.Thread(target=keep_swapping)
        swapping.start()
        fd = sender.fileno()
        seen = set()
        end = time.monotonic() + 0.7
        while time.monotonic() < end or len(seen) < 2:
            for call in (lambda: syscall("sendmsg", fd, one, socket.MSG_DONTWAIT),
                         lambda: syscall("sendmmsg", fd, one, 1, socket.MSG_DONTWAIT)):
                try:
                    call()
                    seen.add("sent")
                except OSError as error:
                    assert error.errno in (errno.EACCES, errno.EAGAIN), error
                    seen.add("refused" if error.errno == errno.EACCES else "full")
            try:
                while True:
                    own.recv(9)
            except BlockingIOError:
                pass
        going = False
        swapping.join()
        say("seen", {"sent", "refused"} <= seen)
        sys.stdout.flush()
        os._exit(0)
        """
        )
    )
    assert outcome.said["seen"]
    assert receiver.reached() == []


@pytest.mark.claim("net.unix-datagrams")
def test_a_target_that_is_replaced_meanwhile_gains_nothing(
    sandbox: Sandbox, yard: Yard, receiver: Receiver
) -> None:
    outcome = sandbox.attack(
        sending(
            """
        outside, = ARGUMENTS
        own = bound("own")
        own.setblocking(False)
        going = True
        def flip():
            while going:
                for target in ("own", outside + "/theirs", "theirs"):
                    os.symlink(target, "next")
                    os.rename("next", "flipping")
                for target in ("theirs", "own"):
                    os.link(target, "hard")
                    os.rename("hard", "linking")
        os.symlink("own", "flipping")
        os.link("own", "linking")
        sys.setswitchinterval(1e-6)
        flipping = threading.Thread(target=flip)
        flipping.start()
        seen = set()
        end = time.monotonic() + 0.7
        while time.monotonic() < end or len(seen) < 2:
            for path in ("flipping", "linking"):
                for way in WAYS:
                    try:
                        way(socket.socket(1, DGRAM), path, socket.MSG_DONTWAIT)
                        seen.add("sent")
                    except OSError as error:
                        assert error.errno in (errno.EACCES, errno.EAGAIN), error
                        seen.add("refused" if error.errno == errno.EACCES else "sent")
            try:
                while True:
                    own.recv(9)
            except BlockingIOError:
                pass
        going = False
        flipping.join()
        say("seen", sorted(seen))
        """
        ),
        yard.outside,
    )
    assert outcome.said["seen"] == ["refused", "sent"]
    assert receiver.reached() == []


NAMES = """
    name, = ARGUMENTS
    plain = struct.pack("=H", 1) + name.encode()
    padded = plain.ljust(110, b"\\0")
    def asking_to(call, kind, body):
        one = socket.socket(1, kind)
        kept.append(one)
        syscall(call, one.fileno(), held(body), len(body))
        return one
    """


@pytest.mark.claim("net.unix-names")
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_name_is_the_sessions_own(confine: Confine, kind: int) -> None:
    """Its calls reach each other by it; no other session and nobody outside is reached or taken."""
    name = f"\0nono-test-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX, kind) as outside:
        outside.bind(name)
        serve = """
            name, kind = ARGUMENTS
            one = bound(name, kind)
            if kind != DGRAM:
                one.listen()
            say("whole", repr(one.getsockname()))
            if kind != DGRAM:
                one, _ = one.accept()
            say("heard", one.recv(9).decode())
            """
        reach = """
            name, kind = ARGUMENTS
            def reached():
                connected(name, kind).send(b"hello")
            attempt("reach", reached)
            """
        one, other = confine(), confine()
        if kind != socket.SOCK_DGRAM:
            outside.listen()
        before = one.attack(sending(reach), name, kind)
        assert before.said["reach"] == "ECONNREFUSED"
        serving = one.begin_attack(sending(serve), name, kind, lane=one.new_lane())
        serving.wait_for("whole")
        assert other.attack(sending(reach), name, kind).said["reach"] == "ECONNREFUSED"
        assert one.attack(sending(reach), name, kind, lane=one.new_lane()).done == ["reach"]
        said = serving.wait().said
        assert said["heard"] == "hello"
        assert name not in said["whole"]
        whole = eval(said["whole"])  # noqa: S307  # our own program's
        # What the kernel tells of it is as good as the name, to its own session.
        assert other.attack(sending(reach), whole.decode(), kind).said["reach"] == "ECONNREFUSED"
        assert select.select([outside], [], [], 0)[0] == []


@pytest.mark.claim("net.unix-names")
def test_names_are_what_they_are_to_the_kernel(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sending(
            NAMES,
            """
        one = asking_to("bind", DGRAM, plain)
        attempt("taken", lambda: asking_to("bind", DGRAM, plain))
        two = asking_to("bind", DGRAM, padded)
        attempt("padded, taken", lambda: asking_to("bind", DGRAM, padded))
        asking_to("connect", DGRAM, plain).send(b"one")
        asking_to("connect", DGRAM, padded).send(b"two")
        say("one", one.recv(9).decode())
        say("two", two.recv(9).decode())
        three = asking_to("bind", DGRAM, struct.pack("=H", 1) + b"\\0")
        asking_to("connect", DGRAM, struct.pack("=H", 1) + b"\\0").send(b"three")
        say("three", three.recv(9).decode())
        attempt("another kind", lambda: asking_to("connect", 1, plain))
        auto = asking_to("bind", DGRAM, struct.pack("=H", 1))
        attempt("once more", lambda: syscall("bind", auto.fileno(), held(bytes([1, 0])), 2))
        attempt("another name", lambda: auto.bind("\\0other"))
        for _ in range(2):
            auto.sendto(b"question", two.getsockname())
            question, who = two.recvfrom(9)
            two.sendto(b"answer", who)
            say("answered", auto.recv(9).decode())
        asking = socket.socket(1, DGRAM)
        asking.setsockopt(1, socket.SO_PASSCRED, 1)
        asking.sendto(b"question", two.getsockname())
        question, who = two.recvfrom(9)
        two.sendto(b"answer", who)
        say("answered one that asks for ids", asking.recv(9).decode())
        attempt("too short", lambda: asking_to("connect", DGRAM, struct.pack("=H", 1)))
        attempt("too long", lambda: asking_to("bind", DGRAM, padded + b"\\0"))
        two.close()
        attempt("closed", lambda: asking_to("connect", DGRAM, padded))
        attempt("taken again", lambda: asking_to("bind", DGRAM, padded))
        """,
        ),
        f"\0nono-test-{os.urandom(8).hex()}",
    )
    said = outcome.said
    assert [said[name] for name in ("one", "two", "three")] == ["one", "two", "three"]
    assert said["answered"] == said["answered one that asks for ids"] == "answer"
    assert {said["taken"], said["padded, taken"]} == {"EADDRINUSE"}
    assert said["another kind"] == "ECONNREFUSED"
    assert {said[name] for name in ("another name", "too short", "too long")} == {"EINVAL"}
    assert said["closed"] == "ECONNREFUSED"
    assert outcome.done == ["once more", "taken again"]


@pytest.mark.claim("net.unix-names")
@pytest.mark.parametrize("mode", [CLOSED, OPEN])
def test_a_name_that_the_kernel_would_choose_is_the_sessions(confine: Confine, mode: str) -> None:
    """Of one that asks who sends, as it connects."""
    outcome = confine(network=Network(mode)).attack(
        sending(
            """
        SO_PASSPIDFD = 76
        kinds = (1, DGRAM, SEQPACKET) if ARGUMENTS[0] else (1, SEQPACKET)
        for kind in kinds:
            own = bound(f"of kind {kind}", kind)
            if kind != DGRAM:
                own.listen()
            for asked in (None, socket.SO_PASSCRED, SO_PASSPIDFD):
                one = socket.socket(1, kind)
                if asked:
                    one.setsockopt(1, asked, 1)
                one.connect(f"of kind {kind}")
                name = one.getsockname()
                say(f"{kind}, {asked}", os.fsdecode(name[:6]) if name else "")
        """
        ),
        mode == CLOSED,
    )
    said = outcome.said
    assert len(said) == (9 if mode == CLOSED else 6)
    for about, name in said.items():
        assert name == ("" if about.endswith("None") else "\0nono-"), said


@pytest.mark.claim("net.unix-names")
def test_a_name_in_there_is_none_outside(sandbox: Sandbox) -> None:
    """So no program outside talks to a worker that took the name of what it looks for."""
    name = f"\0nono-test-{os.urandom(8).hex()}"
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(
        sending(
            """
        name, = ARGUMENTS
        one = bound(name, 1)
        one.listen()
        other = bound(name + "-datagrams")
        say("ready", True)
        os.read(0, 1)
        """
        ),
        name,
        stdin=read_end,
    )
    os.close(read_end)
    running.wait_for("ready")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        with pytest.raises(ConnectionRefusedError):
            client.sendto(b"x", name + "-datagrams")
        client.bind(name + "-datagrams")
    os.close(write_end)
    assert running.wait().status == 0


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


@pytest.mark.claim("net.unix-datagrams")
def test_descriptors_that_travel_are_the_senders_own(sandbox: Sandbox) -> None:
    """Whoever sends has others at the same numbers, and a thread changes what is at one."""
    outcome = sandbox.attack(
        sending(
            """
        one, other = socket.socketpair(1, DGRAM)
        own = bound("own")
        for number in range(3, 200):
            try:
                os.fstat(number)
            except OSError:
                attempt(number, lambda: syscall("sendmsg", one.fileno(),
                                                header(control=rights(number)), 0))
        def received():
            _, (fd,), _, _ = socket.recv_fds(other, 9, 1)
            status = os.fstat(fd)
            os.close(fd)
            return status.st_ino
        flipping = os.dup(0)
        mine = [os.open("notes", os.O_RDONLY), os.open("sub", os.O_PATH)]
        inodes = {os.fstat(fd).st_ino for fd in mine}
        os.dup2(mine[0], flipping)
        going = True
        def flip():
            while going:
                for fd in mine:
                    os.dup2(fd, flipping)
        sys.setswitchinterval(1e-6)
        thread = threading.Thread(target=flip)
        thread.start()
        message = header(control=rights(flipping))
        seen = set()
        end = time.monotonic() + 0.4
        while time.monotonic() < end or len(seen) < 2:
            syscall("sendmsg", one.fileno(), message, 0)
            seen.add(received())
        going = False
        thread.join()
        say("seen", seen == inodes)
        sender = socket.socket(1, DGRAM)
        attempt("with an address", lambda: syscall(
            "sendmsg", sender.fileno(),
            header(name=address("own"), control=rights(mine[0])), 0))
        _, (fd,), _, _ = socket.recv_fds(own, 9, 1)
        say("read", os.read(fd, 20).decode())
        """
        )
    )
    refused = [said for name, said in outcome.said.items() if name not in ("seen", "read")]
    assert set(refused[:-1]) == {"EBADF"}
    assert len(refused) > 100
    assert outcome.said["seen"]
    assert (outcome.said["with an address"], outcome.said["read"]) == ("done", "as they were")


BOUNDED = """
    import resource, socket
    from nono_sandbox import _uapi
    from nono_sandbox.behalf import sending
    from nono_sandbox.behalf import notifications
    from nono_sandbox.behalf import messages
    from nono_sandbox.behalf.addresses import Kind
    from nono_sandbox.behalf.messages import Message
    one, other = socket.socketpair(1, socket.SOCK_DGRAM)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    control = socket.CMSG_LEN(4).to_bytes(8, "little") + (1).to_bytes(4, "little") * 2 + bytes(8)
    def on_behalf(most, control):
        sending.IN_FLIGHT_MAX = most
        message = Message(b"", (), 0, control, 0)
        caller = notifications.Caller(os.getpid())
        return sending.Sending(caller, one.fileno(), Kind(1, 2, 0), message, control).attempt()
    # As root it would be let send any number.
    _uapi.drop_capabilities()
    usual = sending.IN_FLIGHT_MAX
    told = [on_behalf(usual, control), on_behalf(0, control), on_behalf(0, b"")]
    socket.send_fds(one, [b"x"], [0])
    told.append(on_behalf(usual, control))
    most = usual + messages.FDS_MAX
    print(json.dumps([told, most, resource.getrlimit(resource.RLIMIT_NOFILE) == limits]))
    """
USUAL_OPEN_MAX = 1024
"""What a program may have open unless it asks for more, as systemd and most shells have it."""


@pytest.mark.usefixtures("tier")
def test_what_is_in_flight_is_bounded_below_what_others_may_leave_there() -> None:
    """With a bound of none, since what is in flight here would be in every other test's way."""
    done = subprocess.run(supervisor_argv(BOUNDED), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    told, most, is_restored = json.loads(done.stdout)
    # One is in flight by then; who sends none isn't held.
    assert told == [0, -errno.ETOOMANYREFS, 0, 0]
    assert most < USUAL_OPEN_MAX
    assert is_restored


@pytest.mark.claim("net.unix-datagrams")
def test_nobody_says_that_he_is_another_and_who_acts_lends_nothing(
    sandbox: Sandbox, yard: Yard
) -> None:
    del yard
    outcome = sandbox.attack(
        sending(
            """
        SO_PASSPIDFD, SO_PEERPIDFD, SCM_PIDFD = 76, 77, 4
        def saying(*who):
            one, other = socket.socketpair(1, kind)
            kept.extend((one, other))
            return lambda: syscall("sendmsg", one.fileno(), header(control=ids(*who)), 0)
        me = os.getpid(), os.getuid(), os.getgid()
        for kind in (1, 2, 5):
            attempt(f"{kind} whoever acts", saying(ARGUMENTS[0], *me[1:]))
            attempt(f"{kind} process 1", saying(1, *me[1:]))
            attempt(f"{kind} a parent", saying(os.getppid(), *me[1:]))
            attempt(f"{kind} another user", saying(me[0], me[1] + 1, me[2]))
            attempt(f"{kind} another group", saying(me[0], me[1], me[2] + 1))
            attempt(f"{kind} oneself", saying(*me))
        own = bound("own")
        own.setsockopt(1, socket.SO_PASSCRED, 1)
        by_sendmsg(socket.socket(1, DGRAM), "own")
        _, ancillary, _, _ = own.recvmsg(9, 100)
        said = struct.unpack("=iII", ancillary[0][2])
        say("ids", said[1:] == me[1:])
        listening = serving("stream")
        connected("stream")
        accepted, _ = listening.accept()
        peer = accepted.getsockopt(1, SO_PEERPIDFD)
        for number in (0, signal.SIGKILL, signal.SIGSTOP):
            attempt(f"signal {number}", lambda: signal.pidfd_send_signal(peer, number))
        attempt("a descriptor", lambda: syscall("pidfd_getfd", peer, 0, 0))
        attempt("its namespaces", lambda: syscall("setns", peer, 0x10000000))
        attempt("no copy", lambda: socket.socketpair()[0].sendmsg([b"x"], [], 0x4000000))
        attempt("fast open", lambda: socket.socketpair()[0].sendmsg([b"x"], [], 0x20000000))
        """
        ),
        sandbox.server.pid,
    )
    assert outcome.done == ["1 oneself", "2 oneself", "5 oneself"]
    assert outcome.said["ids"]
    assert outcome.said["no copy"] == "ENOBUFS"
    others = {name: said for name, said in outcome.said.items() if name not in ("ids", "no copy")}
    assert set(others.values()) == {"EPERM", "done"}


@pytest.mark.claim("net.unix-datagrams")
def test_one_that_was_granted_by_itself_is_sent_to(
    confine: Confine, yard: Yard, receiver: Receiver
) -> None:
    path = yard.outside / "theirs"
    status = path.stat()
    grant = yard.granted(path, READ | WRITE)
    outcome = confine(grant, sockets=((status.st_dev, status.st_ino),)).attack(
        sending(
            """
        for path in ARGUMENTS:
            for way in WAYS:
                attempt(path, lambda: way(socket.socket(1, DGRAM), path))
        """
        ),
        path,
        yard.workspace / "theirs",
    )
    assert outcome.done == [str(path)]
    assert receiver.reached() == [str(path)]


def test_a_call_that_gave_up_writes_gives_no_socket_a_path(sandbox: Sandbox, yard: Yard) -> None:
    """Be it one of a pair."""
    for writes in ((), (str(yard.workspace / "sub"),)):
        outcome = sandbox.attack(
            sending(
                """
            for kind in (1, 2, 5):
                one, other = socket.socketpair(1, kind)
                attempt(f"{kind} bind", lambda: one.bind(f"new{kind}"))
                attempt(f"{kind} take a name", lambda: one.bind("\\0new"))
                attempt(f"{kind} send", lambda: one.sendmsg([b"x"]))
            """
            ),
            narrowing=Narrowing(writes=writes),
        )
        assert outcome.done == ["1 send", "2 send", "5 send"]
        assert not list(yard.workspace.glob("new*"))


def test_where_the_network_is_the_machines_there_are_no_datagrams(
    confine: Confine, receiver: Receiver
) -> None:
    """Each packet of UDP would have to be sent on behalf, to judge where these go."""
    outcome = confine(network=Network(OPEN)).attack(
        sending(
            """
        attempt("socket", lambda: socket.socket(1, DGRAM))
        attempt("pair", lambda: socket.socketpair(1, DGRAM))
        one = serving("\\0name")
        attempt("a name", lambda: connected("\\0name"))
        udp = socket.socket(2, DGRAM)
        udp.bind(("127.0.0.1", 0))
        attempt("UDP", lambda: udp.sendmsg([b"x"], [], 0, udp.getsockname()))
        """
        )
    )
    assert (outcome.said["socket"], outcome.said["pair"]) == ("EACCES", "EACCES")
    assert outcome.done == ["a name", "UDP"]
    assert receiver.reached() == []


def test_without_whoever_acts_nothing_is_sent(sandbox: Sandbox) -> None:
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(
        sending(
            """
        own, (one, other) = bound("own"), socket.socketpair()
        say("ready", True)
        os.read(0, 1)
        for way in WAYS[:3]:
            attempt(way.__name__, lambda: way(own, "own"))
        attempt("on a pair", lambda: one.sendmsg([b"x"]))
        attempt("by send", lambda: one.send(b"x"))
        """
        ),
        stdin=read_end,
    )
    os.close(read_end)
    running.wait_for("ready")
    os.kill(sandbox.server.pid, signal.SIGKILL)
    sandbox.server.close()
    os.write(write_end, b"x")
    os.close(write_end)
    said = running.wait().said
    ways = ("by_sendto", "by_sendmsg", "by_sendmmsg", "on a pair")
    assert {said[name] for name in ways} == {"ENOSYS"}
    assert said["by send"] == "done"


@pytest.mark.claim("net.unix-datagrams")
def test_two_calls_of_a_session_send_each_other_datagrams(sandbox: Sandbox) -> None:
    serving = sandbox.begin_attack(
        sending(
            """
        own = bound("sub/own")
        say("ready", True)
        question, who = own.recvfrom(20)
        own.sendto(question.upper(), who)
        """
        ),
        lane=sandbox.new_lane(),
    )
    serving.wait_for("ready")
    outcome = sandbox.attack(
        sending(
            """
        one = bound("mine")
        one.sendto(b"question", "sub/own")
        say("answer", [part.decode() for part in one.recvfrom(20)[:1]])
        """
        ),
        lane=sandbox.new_lane(),
    )
    assert outcome.said["answer"] == ["QUESTION"]
    assert serving.wait().status == 0


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
