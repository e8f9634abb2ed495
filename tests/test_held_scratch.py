"""What is left of a directory for temporary files whose maker was killed, and what others plant."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import anyio
import pytest

from nono_mcp import held_scratch
from nono_mcp.held_scratch import HeldScratch
from nono_mcp.policy import egress
from nono_mcp.policy.document import Document, NetworkSection
from nono_mcp.policy.request import Request
from nono_mcp.session import Session
from nono_sandbox import private
from nono_sandbox.confinement import LANDLOCK

MAKE = "import sys; from nono_mcp.held_scratch import HeldScratch; "
HOLD = MAKE + "print(HeldScratch(*sys.argv[1:]).path, flush=True); sys.stdin.read()"
OLD = (1, 1)


class Place:
    """A state directory, and one that others may write in."""

    def __init__(self, root: Path) -> None:
        self.state, self.parent = root / "state", root / "tmp"
        self.parent.mkdir()
        self.records = self.state / held_scratch.FOLDER
        self.records.mkdir(parents=True)

    def make(self) -> HeldScratch:
        return HeldScratch(str(self.state), str(self.parent))

    def killed(self) -> Path:
        """Return the directory of somebody who was killed."""
        words = [sys.executable, "-c", HOLD, str(self.state), str(self.parent)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as maker:
            assert maker.stdout is not None
            path = maker.stdout.readline().decode().strip()
            maker.send_signal(signal.SIGKILL)
        return self.parent / Path(path).name

    def record(self, said: object, name: str = "0123") -> Path:
        record = self.records / name
        record.write_text(json.dumps(said))
        record.chmod(0o600)
        return record

    def looked(self) -> None:
        """Have somebody look, and go."""
        self.make().remove()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def victim(at: Path) -> Path:
    (at / "kept").mkdir(parents=True)
    (at / "kept" / "file").write_text("mine")
    return at


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def test_it_goes_with_who_made_it(place: Place) -> None:
    held = place.make()
    victim(place.parent / Path(held.path).name)
    assert len(list(place.records.iterdir())) == 1
    held.remove()
    assert list(place.parent.iterdir()) == list(place.records.iterdir()) == []


@pytest.mark.parametrize("mode", [0o700, 0o000])
def test_of_one_who_was_killed_it_goes_with_the_next(place: Place, mode: int) -> None:
    left = victim(place.killed())
    left.chmod(mode)
    lives = place.make()
    assert [str(path) for path in place.parent.iterdir()] == [lives.path]
    place.looked()
    assert [str(path) for path in place.parent.iterdir()] == [lives.path]
    lives.remove()
    assert list(place.records.iterdir()) == []


@pytest.mark.parametrize("planted", ["symlink", "directory", "file", "fifo"])
def test_what_has_its_name_instead_stays(tmp_path: Path, place: Place, planted: str) -> None:
    """Whoever killed the maker, or lived with it, may move it away and plant something there."""
    kept = victim(tmp_path / "victim")
    left = place.killed()
    left.rename(place.parent / "moved")
    if planted == "symlink":
        left.symlink_to(kept)
    elif planted == "directory":
        victim(left)
    elif planted == "file":
        left.write_text("mine")
    else:
        os.mkfifo(left)
    place.looked()
    assert (kept / "kept" / "file").read_text() == "mine"
    assert os.path.lexists(left)
    assert (place.parent / "moved").is_dir()
    assert list(place.records.iterdir()) == []


def test_the_way_to_it_may_be_led_elsewhere(tmp_path: Path, place: Place) -> None:
    left = place.killed()
    kept = victim(tmp_path / "elsewhere" / left.name).parent
    place.parent.rename(tmp_path / "moved")
    place.parent.symlink_to(kept)
    HeldScratch(str(place.state), str(tmp_path / "moved")).remove()
    assert (kept / left.name / "kept" / "file").read_text() == "mine"


def test_what_is_removed_is_what_was_made(tmp_path: Path, place: Place) -> None:
    held = place.make()
    Path(held.path).rename(tmp_path / "moved")
    kept = victim(tmp_path / "victim")
    Path(held.path).symlink_to(kept)
    held.remove()
    assert (kept / "kept" / "file").exists()
    assert os.path.lexists(held.path)


@pytest.mark.parametrize(
    "name", ["victim", "nono-0", "nono-0123456789abcdeg", "nono-0123456789ABCDEF"]
)
def test_a_record_of_what_is_never_made_counts_for_nothing(
    tmp_path: Path, place: Place, name: str
) -> None:
    kept = victim(tmp_path / name)
    for said in ([str(kept), *identity(kept)], [str(kept)], {"path": str(kept)}, 7, None):
        place.record(said)
        place.looked()
        assert (kept / "kept" / "file").exists()


@pytest.mark.parametrize(
    "text", ["[" * 5000, '["%s", 1e400, 1]', '["/\\u0000%s", 1, 1]', '["/\\ud800%s", 1, 1]']
)
def test_a_record_that_is_damaged_keeps_nobody_from_beginning(place: Place, text: str) -> None:
    place.record(None).write_text(text.replace("%s", "/nono-0123456789abcdef"))
    place.looked()


@pytest.mark.parametrize("open_to", ["record", "directory"])
def test_a_record_that_others_may_write_counts_for_nothing(
    tmp_path: Path, place: Place, open_to: str
) -> None:
    """As where `sudo` keeps a person's HOME; there root's own are kept nowhere either."""
    kept = victim(tmp_path / "nono-0123456789abcdef")
    record = place.record([str(kept), *identity(kept)])
    theirs = record if open_to == "record" else place.records
    if os.geteuid() == 0:
        os.chown(theirs, 4321, 4321)
    else:
        theirs.chmod(0o777)
    held = place.make()
    assert len(list(place.records.iterdir())) == (2 if open_to == "record" else 1)
    held.remove()
    assert list(place.parent.iterdir()) == []
    assert (kept / "kept" / "file").exists()


def test_another_users_directory_stays_though_it_be_the_same(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is given out again once it's gone, and its name is in the record for no one."""
    kept = victim(tmp_path / "nono-0123456789abcdef")
    place.record([str(kept), *identity(kept)])
    fstat, theirs = os.fstat, os.geteuid() + 1

    def owned(fd: int) -> os.stat_result:
        found = fstat(fd)
        is_theirs = (found.st_dev, found.st_ino) == identity(kept)
        return os.stat_result((*found[:4], theirs, *found[5:])) if is_theirs else found

    monkeypatch.setattr(os, "fstat", owned)
    place.looked()
    assert (kept / "kept" / "file").exists()
    assert list(place.records.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[", "{}"])
def test_a_record_that_says_nothing_goes_when_its_old(place: Place, text: str) -> None:
    record = place.records / "0123"
    record.write_text(text)
    record.chmod(0o600)
    place.looked()
    assert record.exists()
    os.utime(record, OLD)
    with record.open("rb") as lives:
        fcntl.flock(lives, fcntl.LOCK_EX)
        place.looked()
        assert record.exists()
    place.looked()
    assert not record.exists()


def test_a_directory_that_was_only_just_made_goes_if_its_empty(place: Place) -> None:
    for number, holds in (("0", ""), ("1", "kept")):
        made = place.parent / f"nono-{number * 16}"
        (made / holds).mkdir(parents=True)
        place.record([str(made), 0, 0], number)
    place.looked()
    assert [path.name for path in place.parent.iterdir()] == ["nono-" + "1" * 16]
    assert list(place.records.iterdir()) == []


def test_where_it_cant_be_made_nothing_says_it_was(place: Place) -> None:
    place.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        place.make()
    assert list(place.records.iterdir()) == []


def test_that_others_look_at_a_record_that_is_being_made_fails_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, parent = tmp_path / "state", tmp_path / "tmp"
    state.mkdir()
    parent.mkdir()
    flock = fcntl.flock
    looked: list[int] = []

    def meanwhile(fd: int, how: int) -> None:
        if not looked:
            (record,) = (state / held_scratch.FOLDER).iterdir()
            looked.append(os.open(record, os.O_RDONLY))
            flock(looked[0], fcntl.LOCK_EX)
            threading.Timer(0.1, os.close, looked).start()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    held = HeldScratch(str(state), str(parent))
    held.remove()
    assert not list((state / held_scratch.FOLDER).iterdir())


@pytest.mark.linux
def test_a_session_without_namespaces_and_its_proxy_hold_theirs(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(place.parent))
    (tmp_path / "work").mkdir()
    (tmp_path / "home").mkdir()
    request = Request(
        workspace=str(tmp_path / "work"),
        tier=LANDLOCK,
        environ={"PATH": "/usr/bin:/bin"},
        home=str(tmp_path / "home"),
        state_dir=str(place.state),
        config_dir=str(tmp_path / "config"),
        flags=Document(network=NetworkSection(mode=egress.PROXY, allow_domains=("a.example",))),
    )
    found: list[str] = []

    async def open_it() -> None:
        async with Session.open(request, tier=LANDLOCK):
            for record in place.records.iterdir():
                path, *which = json.loads(record.read_text())
                assert tuple(which) == identity(place.parent / Path(path).name)
                found.append(path)

    left = place.killed()
    anyio.run(open_it)
    assert len(set(found)) == 2
    assert not left.exists()
    assert list(place.parent.iterdir()) == list(place.records.iterdir()) == []


def test_where_nothing_can_be_recorded_the_place_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", "0123456789abcdef")

    monkeypatch.setattr(private, "open_file", read_only)
    with pytest.raises(OSError, match="Read-only") as raised:
        place.make()
    assert raised.value.filename == f"{place.state}/scratch"
