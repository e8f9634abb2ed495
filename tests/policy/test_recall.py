"""What was judged counts for as long as it would be judged the same, and not a moment longer."""

from __future__ import annotations

import marshal
import os
import posix
import random
import shutil
import stat
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import answers, hard_links, load, recall
from nono_mcp.policy import witness as witness_module
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.policy.recall import Outcome
from nono_mcp.policy.witness import Witness
from nono_sandbox import wire
from nono_sandbox.confinement import READ, WRITE
from tests.policy.conftest import give_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from nono_mcp.policy.recall import Notes
    from nono_mcp.policy.request import Prepared, Request
    from tests.policy.conftest import Machine

pytestmark = pytest.mark.linux
LATER_NS = 1 << 62
OUTCOME = Outcome(None, "closed", [], [], (b"", (), (0, 0)), (), b"")


def judged(request: Request) -> tuple[Prepared, Witness]:
    with Witness() as witness:
        prepared = load.prepare(request)
    return prepared, witness


def kept(witness: Witness, monkeypatch: pytest.MonkeyPatch, home: Path) -> Notes | None:
    """Return the notes as another process finds them, or None if nothing was kept."""
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    key = recall.key_of(("--read", "/usr"))
    (home / ".local/state/nono").mkdir(parents=True, exist_ok=True)
    witness.keep(key, OUTCOME, LATER_NS)
    memory = recall.find(key)
    return None if memory is None else memory.notes


@pytest.fixture
def furnished(machine: Machine) -> Machine:
    """A home and a workspace with something to judge in them."""
    return furnish(machine)


def furnish(machine: Machine) -> Machine:
    for place in (machine.home, machine.workspace):
        top = machine.root / place.relative_to(machine.root).parts[0]
        if top.is_dir() and not top.is_symlink():
            shutil.rmtree(top)
        else:
            top.unlink(missing_ok=True)
        place.mkdir(parents=True)
    # There from the first run on.
    machine.state.mkdir(parents=True)
    machine.config.mkdir(parents=True)
    machine.write(".ssh/id_ed25519")
    machine.write(".netrc")
    machine.write("data/words.txt")
    machine.write("bin/tool")
    (machine.home / "linked").symlink_to(machine.home / "data")
    (machine.workspace / ".git/hooks").mkdir(parents=True)
    (machine.workspace / ".git/hooks/pre-commit").write_text("#!/bin/sh\n")
    (machine.workspace / ".vscode").mkdir()
    (machine.workspace / "sources").mkdir()
    (machine.workspace / "sources/tool").touch()
    return machine


def asked(machine: Machine, **changes: object) -> Request:
    home = machine.home
    flags = machine.flags(
        allow=("$WORKSPACE", str(home / "linked")), read=(str(home),), deny=(str(home / "bin"),)
    )
    environ = {"PATH": f"/usr/bin:/bin:{home}/bin", "HOME": str(home), "LANG": "C"}
    return machine.request(**{"flags": flags, "environ": environ, **changes})


CHANGES: dict[str, Callable[[Machine], object]] = {
    "a protected name that wasn't there": lambda machine: machine.write(".aws/credentials"),
    "one that was is a symlink": lambda machine: _turn(
        machine.home / ".netrc", machine.home / "data"
    ),
    "a guarded name in the workspace": lambda machine: (machine.workspace / ".mcp.json").touch(),
    "a hook with another name": lambda machine: os.link(
        machine.workspace / "sources/tool", machine.workspace / ".git/hooks/post-merge"
    ),
    "a policy in the workspace": lambda machine: (machine.workspace / "nono.toml").touch(),
    "a grant leads elsewhere": lambda machine: _turn(machine.home / "linked", machine.home / "bin"),
    "a grant is another directory": lambda machine: _again(machine.home / "data"),
    "the workspace is another directory": lambda machine: _again(machine.workspace),
    "what is denied is gone": lambda machine: shutil.rmtree(machine.home / "bin"),
    "another name of what is closed": lambda machine: os.link(
        machine.home / ".netrc", machine.workspace / "copy"
    ),
    "another name of what is in a closed directory": lambda machine: os.link(
        machine.home / ".ssh/id_ed25519", machine.workspace / "sources/copy"
    ),
    "our own state is a symlink": lambda machine: _turn(
        machine.home / ".local/state/nono", machine.home / "data"
    ),
}


def test_what_is_in_closed_directories_counts_for_its_other_names_alone(
    furnished: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own state is one, and changes with every run; others hold thousands of files."""
    for number in range(witness_module.NOTES_MAX):
        (furnished.home / ".ssh" / f"{number}").touch()
    request = asked(furnished)
    prepared, witness = judged(request)
    notes = kept(witness, monkeypatch, furnished.root / "elsewhere")
    assert notes is not None
    (furnished.state / "new").mkdir()
    (furnished.home / ".ssh/0").rename(furnished.home / ".ssh/new")
    (furnished.workspace / ".git/hooks/post-merge").touch()
    assert recall.hold(notes)
    assert load.prepare(request) == prepared


def _turn(path: Path, target: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _again(path: Path) -> None:
    path.rename(path.with_name("before"))
    path.mkdir()


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_nothing_holds_once_something_is_judged_otherwise(
    furnished: Machine, monkeypatch: pytest.MonkeyPatch, change: Callable[[Machine], object]
) -> None:
    # Kept elsewhere: what is kept among the state that changes is gone with it.
    _, witness = judged(asked(furnished))
    notes = kept(witness, monkeypatch, furnished.root / "elsewhere")
    assert notes is not None
    assert recall.hold(notes)
    change(furnished)
    assert not recall.hold(notes)


def test_a_variable_that_was_asked_for_counts(
    furnished: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARGO_HOME", raising=False)
    with Witness() as witness:
        load.prepare(asked(furnished, environ=os.environ))
    notes = kept(witness, monkeypatch, furnished.root / "elsewhere")
    assert notes is not None
    monkeypatch.setenv("NONO_TEST_UNASKED", "whatever")
    before = dict(notes)["variable"]
    assert ("CARGO_HOME", None) in before
    assert "NONO_TEST_UNASKED" not in dict(before)
    monkeypatch.setenv("CARGO_HOME", str(furnished.home / "cargo"))
    assert not recall.hold((("variable", (("CARGO_HOME", None),)),))


def test_what_holds_is_what_would_be_judged_whatever_happens(
    furnished: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Things are changed at random where judging looked; each time it's judged anew, to compare."""
    chance = random.Random(4)  # noqa: S311 - to be the same each time
    request = asked(furnished)
    held_count = 0
    for number in range(40):
        prepared, witness = judged(request)
        notes = kept(witness, monkeypatch, furnished.root / "elsewhere")
        assert notes is not None
        for _ in range(chance.choice((1, 1, 2))):
            _disturb(chance, chance.choice(places_in(notes, furnished)), furnished, number)
        try:
            anew: Prepared | None = load.prepare(request)
        except (PolicyError, RefusedError, OSError):
            anew = None
        if recall.hold(notes):
            held_count += 1
            assert anew == prepared
        else:
            furnish(furnished)
    assert 3 < held_count < 38


def places_in(notes: Notes, machine: Machine) -> list[Path]:
    """Return where judging looked, of what can be disturbed."""
    questions = {str(question) for _, answers in notes for question, _ in answers}
    places = sorted(one for one in questions if one.startswith(f"{machine.root}/"))
    assert len(places) > 15
    return [Path(one) for one in places if not one.startswith(f"{machine.root}/elsewhere")]


def _disturb(chance: random.Random, place: Path, machine: Machine, number: int) -> None:
    """Do something to *place*, or beside what matters."""
    what = chance.choice(("remove", "file", "directory", "link", "mode", "beside", "within"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if what == "mode":
            place.chmod(chance.choice((0o700, 0o755, 0o750)))
        elif what == "beside":
            (machine.workspace / "sources" / f"file-{number}").touch()
        elif what == "within":
            (place / f"new-{number}").mkdir()
        else:
            _put(what, place, machine, number)
    except OSError:
        return  # it can't be done there


def _put(what: str, place: Path, machine: Machine, number: int) -> None:
    """Put something else in the place of *place*, or nothing."""
    if os.path.lexists(place):
        place.rename(machine.root / f"gone-{number}")
    if what == "file":
        place.touch()
    elif what == "directory":
        place.mkdir()
    elif what == "link":
        place.symlink_to(machine.home / "data")


def test_judging_with_a_witness_is_judging(furnished: Machine) -> None:
    alone = load.prepare(asked(furnished))
    prepared, _ = judged(asked(furnished))
    assert prepared == alone
    for module in (os, os.path):
        for function in vars(module).values():
            assert getattr(function, "__module__", "") != "nono_mcp.policy.witness"
    assert type(os.environ).__module__ == "os"


def test_what_cant_be_asked_again_is_not_kept(
    furnished: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnished.profile("mine", 'extends = ["default"]\n')
    _, witness = judged(asked(furnished, profile="mine"))
    assert kept(witness, monkeypatch, furnished.root / "elsewhere") is None


def changed_between(path: str, ask: Callable[[str], object]) -> None:
    """Ask twice, and change in between what nobody notes."""
    ask(path)
    posix.chmod(path, 0)
    ask(path)


def opened(path: str, act: Callable[[int], object]) -> object:
    """Do *act* with the directory of *path*, which the witness hasn't seen opened."""
    descriptor = posix.open(os.path.dirname(path), os.O_RDONLY)  # noqa: PTH120
    try:
        return act(descriptor)
    finally:
        posix.close(descriptor)


@pytest.mark.parametrize(
    "act",
    [
        lambda path: os.open(path, os.O_RDONLY),
        lambda path: open(path, encoding="utf-8").close(),  # noqa: PTH123
        lambda path: os.mkdir(f"{path}-made"),  # noqa: PTH102
        lambda path: os.stat(path).st_size,  # noqa: PTH116
        lambda path: os.stat(os.path.dirname(path)).st_nlink,  # noqa: PTH116, PTH120
        lambda path: os.getxattr(path, "user.none"),
        lambda _: list(os.environ),
        lambda path: os.stat(os.fsencode(path)),  # noqa: PTH116
        lambda path: Path(path).read_bytes(),
        lambda path: changed_between(path, os.lstat),
        lambda path: opened(path, os.fstat),
        lambda path: opened(path, lambda fd: os.stat(".", dir_fd=fd)),
        lambda path: opened(path, lambda fd: os.lstat(".", dir_fd=fd)),
        lambda path: opened(path, lambda fd: os.readlink(".", dir_fd=fd)),
        lambda path: opened(path, lambda fd: os.close(posix.dup(fd))),
        lambda path: os.access(path, os.R_OK, effective_ids=True),
    ],
    ids=[
        "open", "read", "make", "size", "links", "attribute", "all variables", "a name in bytes",
        "read by pathlib", "answered otherwise", "an open file", "stat there", "lstat there",
        "readlink there", "close", "access by other ids",
    ],
)  # fmt: skip
def test_a_witness_gives_up_on_what_it_doesnt_know(
    furnished: Machine, monkeypatch: pytest.MonkeyPatch, act: Callable[[str], object]
) -> None:
    with Witness() as witness:
        load.prepare(asked(furnished))
        try:  # noqa: SIM105
            act(str(furnished.home / "data/words.txt"))
        except OSError:
            pass
    assert kept(witness, monkeypatch, furnished.root / "elsewhere") is None


def test_a_newer_source_than_the_run_is_not_kept_by(
    furnished: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, witness = judged(asked(furnished))
    monkeypatch.setenv("HOME", str(furnished.root / "elsewhere"))
    (furnished.root / "elsewhere/.local/state/nono").mkdir(parents=True)
    key = recall.key_of(())
    witness.keep(key, OUTCOME, 0)
    assert recall.find(key) is None


def test_nothing_is_asked_past_the_witness(furnished: Machine) -> None:
    # What a module that has `posix` for `os` asks, nobody notes.
    noting = [one.__name__ for one in (witness_module, answers, hard_links, recall)]
    unseen = set()

    def see(frame: FrameType, event: str, called: object) -> None:
        by = str(frame.f_globals.get("__name__", ""))
        ours = by.startswith("nono_") and not by.startswith("nono_mcp.guard")
        if event == "c_call" and ours and by not in noting:
            name = getattr(called, "__name__", "")
            if getattr(posix, name, None) is called and name not in witness_module.HARMLESS:
                unseen.add((by, name))

    sys.setprofile(see)
    try:
        judged(asked(furnished))
    finally:
        sys.setprofile(None)
    assert unseen == set()


@pytest.fixture
def file(furnished: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one file that something is kept in."""
    _, witness = judged(asked(furnished))
    assert kept(witness, monkeypatch, furnished.root / "elsewhere") is not None
    [found] = (furnished.root / "elsewhere/.local/state/nono/recall").iterdir()
    return found


def test_only_a_file_of_ones_own_counts(file: Path) -> None:
    key = recall.key_of(("--read", "/usr"))
    assert recall.find(key) is not None
    assert file.stat().st_mode & 0o777 == 0o600
    for mode in (0o620, 0o602):
        file.chmod(mode)
        assert recall.find(key) is None
    file.chmod(0o600)
    moved = file.rename(file.with_name("elsewhere"))
    file.symlink_to(moved)
    assert recall.find(key) is None


def test_what_is_no_file_is_neither_read_nor_waited_for(file: Path) -> None:
    key = recall.key_of(("--read", "/usr"))
    file.unlink()
    file.mkdir(0o700)
    assert recall.find(key) is None
    file.rmdir()
    os.mkfifo(file, 0o600)
    found: list[object] = []
    # Who waited for somebody to write there would do so for good.
    asking = threading.Thread(target=lambda: found.append(recall.find(key)), daemon=True)
    asking.start()
    asking.join(60)
    assert found == [None]


def test_a_file_of_somebody_elses_doesnt_count(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = recall.key_of(("--read", "/usr"))
    assert recall.find(key) is not None
    give_away(file, monkeypatch)
    assert recall.find(key) is None


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_file_that_was_cut_short_doesnt_count(file: Path, cut: int) -> None:
    file.write_bytes(file.read_bytes()[:cut])
    assert recall.find(recall.key_of(("--read", "/usr"))) is None


def test_an_outcome_counts_for_its_own_options_alone(file: Path) -> None:
    other = recall.key_of(("--read", "/etc"))
    path = recall.path_of(other, os.environ)
    assert path is not None
    os.rename(file, path)  # noqa: PTH104
    assert recall.find(other) is None


def test_the_key_tells_what_isnt_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = recall.key_of(())
    monkeypatch.chdir(tmp_path)
    there = recall.key_of(())
    monkeypatch.setattr(sys, "prefix", "/elsewhere")
    assert len({before, there, recall.key_of(()), recall.key_of(("-q",))}) == 4


@pytest.mark.parametrize("name", ["getuid", "geteuid", "getgid", "getegid", "uname"])
def test_the_key_tells_what_is_asked_and_not_noted(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert name in witness_module.HARMLESS
    before = recall.key_of(())
    other = posix.uname_result(("", "", "another release", "", "")) if name == "uname" else -2
    monkeypatch.setattr(posix, name, lambda: other)
    assert recall.key_of(()) != before


def test_nothing_is_kept_where_the_home_isnt_the_environments() -> None:
    """What says where it is instead is asked past the witness."""
    key = recall.key_of(())
    assert recall.path_of(key, {"HOME": "/home/x"}) is not None
    state = {"XDG_STATE_HOME": "/state"}
    assert recall.path_of(key, state) is recall.path_of(key, state | {"HOME": "home/x"}) is None


def test_what_was_prepared_comes_back_whole(furnished: Machine) -> None:
    prepared = load.prepare(asked(furnished))
    assert any(grant.access == READ | WRITE for grant in prepared.confinement.grants)
    assert recall.prepared_of(marshal.dumps(wire.plain(prepared))) == prepared


def test_only_what_we_wrote_for_the_key_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert kept(Witness(), monkeypatch, tmp_path)
    key = recall.key_of(("--read", "/usr"))
    place = Path(recall.path_of(key, os.environ) or "")
    whole = place.read_bytes()
    for at in range(0, len(whole), 97):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert recall.find(key) is None
    place.write_bytes(whole)
    assert recall.find(key) is not None
    (tmp_path / ".config/nono" / recall.KEY).unlink()
    assert recall.find(key) is None


def test_a_key_that_was_cut_short_counts_nothing_and_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert kept(Witness(), monkeypatch, tmp_path)
    place = Path(recall.path_of(recall.key_of(("--read", "/usr")), os.environ) or "")
    secret = tmp_path / ".config/nono" / recall.KEY
    for short in (b"", b"1234567"):
        secret.write_bytes(short)
        data = place.read_bytes()[recall.TAG_BYTES :]
        place.write_bytes(recall.tag_of(short, data) + data)
        assert recall.find(recall.key_of(("--read", "/usr"))) is None
        assert kept(Witness(), monkeypatch, tmp_path)
        assert len(secret.read_bytes()) == recall.KEY_BYTES


def test_all_that_is_told_of_a_status_is_noted() -> None:
    """Or two that differ in what was judged by would be taken for the same."""
    names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid")
    plain = [stat.S_IFREG, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    for at, name in enumerate(names):
        other = os.stat_result([value + (at == i) for i, value in enumerate(plain)])
        assert recall.facts(other) != recall.facts(os.stat_result(plain))
        witness = Witness()
        assert getattr(answers.Status(other, witness), name) == plain[at] + 1
        assert not witness._given_up  # noqa: SLF001 - what would show it takes a run


def test_more_than_can_be_noted_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(witness_module, "NOTES_MAX", 3)
        assert kept(Witness(), monkeypatch, tmp_path) is None
        patched.setattr(witness_module, "NOTES_MAX", 4096)
        patched.setattr(recall, "BYTES_MAX", 100)
        assert kept(Witness(), monkeypatch, tmp_path) is None
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]
    assert kept(Witness(), monkeypatch, tmp_path) is not None


def test_all_of_this_program_is_noted_and_nothing_that_has_no_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notes = kept(Witness(), monkeypatch, tmp_path)
    assert notes is not None
    sources = [path for path, _ in dict(notes)["source"]]
    assert {recall.__file__, wire.__file__} <= set(sources)
    gone = ModuleType("nono_sandbox.gone")
    gone.__file__ = str(tmp_path / "gone.py")
    monkeypatch.setitem(sys.modules, gone.__name__, gone)
    (tmp_path / "elsewhere").mkdir()
    assert kept(Witness(), monkeypatch, tmp_path / "elsewhere") is None


def test_notes_that_name_no_source_of_ours_or_ask_what_is_unknown_do_not_hold() -> None:
    sources = ("source", ((recall.__file__, recall.SENSES["source"](recall.__file__)),))
    assert recall.hold((sources,))
    assert not recall.hold(())
    assert not recall.hold((sources, ("future", (("x", 1),))))


def test_nothing_is_left_of_what_could_not_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "write", lambda _, data: len(data) // 2)
    assert kept(Witness(), monkeypatch, tmp_path) is None
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]
