"""Whatever is done in whatever order: every snapshot restores to exactly what was seen then."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.errors import NothingToRestoreError
from nono_mcp.snapshots.values import Dirty, Retention, Snapshot
from tests.snapshots.state import Place, Seen, seen

NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff", b"-x", b"n\nl", b"[*]"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
CONTENTS = st.sampled_from([b"", b"1", b"2", b"x" * 5000, bytes(20_000)])
MODES = st.sampled_from([0o600, 0o644, 0o755, 0o4755, 0o500, 0o1777])


class Machine(RuleBasedStateMachine):
    taken = Bundle("taken")

    @initialize()
    def start(self) -> None:
        self.place = Place(Path(tempfile.mkdtemp(prefix="snapshots-")))
        self.top = os.fsencode(self.place.workspace)
        self.snapshots = self.place.open()
        self.states: dict[str, Seen] = {}

    def teardown(self) -> None:
        if hasattr(self, "place"):
            self.snapshots.close()
            shutil.rmtree(self.place.base)

    def at(self, path: bytes) -> bytes:
        """Return where *path* is, directories on the way made where that can be."""
        full = os.path.join(self.top, path)
        parent = os.path.dirname(full)
        if os.path.realpath(parent) == parent and not os.path.lexists(parent):
            os.makedirs(parent, exist_ok=True)
        return full

    def usable(self, path: bytes) -> bool:
        parent = os.path.dirname(os.path.join(self.top, path))
        while len(parent) > len(self.top):
            if os.path.lexists(parent) and (os.path.islink(parent) or not os.path.isdir(parent)):
                return False
            parent = os.path.dirname(parent)
        return True

    def cleared(self, path: bytes) -> bytes | None:
        """Return where to make something anew, or None."""
        if not self.usable(path):
            return None
        full = self.at(path)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        elif os.path.lexists(full):
            os.unlink(full)
        return full

    @rule(path=PATHS, content=CONTENTS)
    def write(self, path: bytes, content: bytes) -> None:
        full = self.at(path) if self.usable(path) else None
        if full and not os.path.isdir(full) and not os.path.islink(full) and not _fifo(full):
            Path(os.fsdecode(full)).write_bytes(content)

    @rule(path=PATHS, content=CONTENTS)
    def rewrite_and_put_the_time_back(self, path: bytes, content: bytes) -> None:
        full = os.path.join(self.top, path)
        if self.usable(path) and os.path.isfile(full) and not os.path.islink(full):
            status = os.stat(full)
            Path(os.fsdecode(full)).write_bytes(content)
            os.utime(full, ns=(status.st_atime_ns, status.st_mtime_ns))

    @rule(path=PATHS)
    def remove(self, path: bytes) -> None:
        self.cleared(path)

    @rule(path=PATHS)
    def make_directory(self, path: bytes) -> None:
        full = self.cleared(path)
        if full:
            os.mkdir(full)

    @rule(path=PATHS, leads_to=PATHS)
    def make_symlink(self, path: bytes, leads_to: bytes) -> None:
        full = self.cleared(path)
        if full:
            os.symlink(leads_to, full)

    @rule(path=PATHS)
    def make_fifo(self, path: bytes) -> None:
        full = self.cleared(path)
        if full:
            os.mkfifo(full)

    @rule(path=PATHS, other=PATHS)
    def make_link(self, path: bytes, other: bytes) -> None:
        source = os.path.join(self.top, other)
        if path == other or not self.usable(other) or not os.path.isfile(source):
            return
        if os.path.islink(source) or source.startswith(os.path.join(self.top, path) + b"/"):
            return
        full = self.cleared(path)
        if full and os.path.isfile(source):
            os.link(source, full)

    @rule(path=PATHS, other=PATHS)
    def rename(self, path: bytes, other: bytes) -> None:
        source = os.path.join(self.top, path)
        if not (self.usable(path) and self.usable(other) and os.path.lexists(source)):
            return
        if other.startswith(path) or path.startswith(other):
            return
        full = self.cleared(other)
        if full and os.path.lexists(source):
            os.rename(source, full)

    @rule(path=PATHS, mode=MODES)
    def chmod(self, path: bytes, mode: int) -> None:
        full = os.path.join(self.top, path)
        if self.usable(path) and os.path.lexists(full) and not os.path.islink(full):
            # A directory that is closed to us would be in this machine's own way.
            os.chmod(full, mode | 0o700 if os.path.isdir(full) else mode)

    @rule(path=PATHS, value=st.binary(max_size=9))
    def set_attribute(self, path: bytes, value: bytes) -> None:
        full = os.path.join(self.top, path)
        if self.usable(path) and os.path.lexists(full) and not os.path.islink(full):
            mode = os.stat(full).st_mode
            if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and os.access(full, os.W_OK):
                os.setxattr(full, b"user.x", value)

    @rule(path=PATHS, size=st.integers(0, 1 << 20))
    def punch(self, path: bytes, size: int) -> None:
        full = os.path.join(self.top, path)
        usable = self.usable(path) and os.path.isfile(full) and not os.path.islink(full)
        if usable and os.access(full, os.W_OK):
            os.truncate(full, size)

    @rule(target=taken)
    def take(self) -> Snapshot:
        taken = self.snapshots.take("named")
        self.states[taken.id] = seen(self.place.workspace)
        return taken

    @rule(target=taken)
    def take_twice(self) -> Snapshot:
        taken = self.snapshots.take("named")
        again = self.snapshots.take("named", dirty=Dirty())
        assert taken.root == again.root
        self.states[again.id] = seen(self.place.workspace)
        return again

    @rule(snapshot=taken)
    def restore(self, snapshot: Snapshot) -> None:
        before = seen(self.place.workspace)
        try:
            outcome = self.snapshots.restore(self.snapshots.plan(snapshot.id))
        except NothingToRestoreError:
            assert before == self.states[snapshot.id]
            return
        assert outcome.verified, outcome.conflicts
        assert outcome.conflicts == ()
        assert seen(self.place.workspace) == self.states[snapshot.id]
        self.states[outcome.safety.id] = before

    @rule(snapshot=taken, path=PATHS)
    def restore_a_path(self, snapshot: Snapshot, path: bytes) -> None:
        text = "/" + os.fsdecode(path).replace("[", "[[]").replace("*", "[*]")
        plan = self.snapshots.plan(snapshot.id, scope="paths", paths=[text])
        if plan.nothing:
            return
        outcome = self.snapshots.restore(plan)
        assert outcome.verified, outcome.conflicts
        then, now = self.states[snapshot.id], seen(self.place.workspace)
        if not plan.kept:
            assert _without_links(then.get(path)) == _without_links(now.get(path))

    @rule()
    def prune(self) -> None:
        upkeep.prune(str(self.place.state), Retention(recent_count=1, hourly=0, daily=0))

    @rule()
    def open_again(self) -> None:
        self.snapshots.close()
        self.snapshots = self.place.open()

    @precondition(lambda self: hasattr(self, "place"))
    @invariant()
    def no_litter(self) -> None:
        assert {path.name for path in self.place.base.iterdir()} <= {"workspace", "state"}


def _fifo(path: bytes) -> bool:
    return os.path.lexists(path) and stat.S_ISFIFO(os.lstat(path).st_mode)


def _without_links(state: tuple[object, ...] | None) -> tuple[object, ...] | None:
    # A directory's time is that of the last change in it; a part of a group is no group.
    if state is None or (isinstance(state[0], int) and stat.S_ISDIR(state[0])):
        return None if state is None else (state[0],)
    return state[:6]


Machine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_snapshots_hold_whatever_is_done = Machine.TestCase
