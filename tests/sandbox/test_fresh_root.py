"""The fresh root of the first tier: what no grant names isn't there, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import _mounting, _uapi, masks
from nono_sandbox.confinement import NAMESPACES, READ, WRITE, Denial, Grant, Link
from nono_sandbox.errors import ConfinementError, SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)]
TMP = "/tmp"  # noqa: S108  # the sandbox's own
OWN_PLACES = {"dev", "proc", "tmp", "var"}


def shown(yard: Yard) -> set[str]:
    """Return the names in the root that the grants and the sandbox's own places explain."""
    confinement = yard.confinement()
    paths = [*(grant.path for grant in confinement.grants), *(x.path for x in confinement.links)]
    return OWN_PLACES | {Path(path).parts[1] for path in paths}


@pytest.mark.claim("fs.unseen")
def test_what_no_grant_names_isnt_there(sandbox: Sandbox, yard: Yard) -> None:
    """Neither its name, size and attributes, nor what goes on there."""
    os.setxattr(yard.outside / "secret", "user.note", b"1")
    hidden = [path.name for path in Path("/").iterdir() if path.name not in shown(yard)]
    outcome = sandbox.attack(
        """
        outside, *hidden = ARGUMENTS
        secret = outside + "/secret"
        for path in (outside, secret, os.path.dirname(outside) + "/nothing"):
            attempt("stat " + path, lambda: os.stat(path))
            attempt("access " + path, lambda: syscall("access", path, 0))
            attempt("readlink " + path, lambda: os.readlink(path))
            attempt("getxattr " + path, lambda: os.getxattr(path, "user.note"))
            attempt("listxattr " + path, lambda: os.listxattr(path))
            attempt("statfs " + path, lambda: os.statvfs(path))
            attempt("O_PATH " + path, lambda: os.open(path, os.O_PATH))
            attempt("chdir " + path, lambda: os.chdir(path))
            watch = syscall("inotify_init1", 0)
            attempt("inotify " + path, lambda: syscall("inotify_add_watch", watch, path, 0xFFF))
        say("root", os.listdir("/"))
        say("beside", os.listdir(os.path.dirname(outside)))
        say("hidden", [path for path in (*hidden, "etc/passwd") if os.path.lexists("/" + path)])
        """,
        yard.outside,
        *hidden,
    )
    assert outcome.done == []
    assert {value for name, value in outcome.said.items() if name.startswith("stat ")} == {"ENOENT"}
    assert set(outcome.said["beside"]) == {"workspace", "reading"}
    assert set(outcome.said["root"]) <= shown(yard)
    assert {"home", "sys", "run"} & {*hidden}
    assert outcome.said["hidden"] == []


@pytest.mark.claim("fs.unseen")
def test_the_machines_mount_table_isnt_to_be_seen(sandbox: Sandbox, yard: Yard) -> None:
    outcome = sandbox.attack(
        """
        points = set()
        for pid in ("self", "1", "thread-self"):
            for name in ("mountinfo", "mounts", "mountstats"):
                try:
                    lines = open(f"/proc/{pid}/{name}").read().splitlines()
                except OSError:
                    continue
                column = 1 if name == "mounts" else 4
                points |= {line.split()[column] for line in lines}
        say("points", sorted(points))
        """
    )
    points = {Path(point).parts[1] for point in outcome.said["points"] if point != "/"}
    assert points <= shown(yard)
    assert "proc" in points


def test_nothing_is_made_in_the_root_or_beside_a_device(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        for place in ("/", "/dev", "/proc", "/usr", "/etc", "/var", "/dev/pts"):
            attempt("file in " + place, lambda: write(place + "/nono-new"))
            attempt("directory in " + place, lambda: os.mkdir(place + "/nono-new"))
            attempt("link in " + place, lambda: os.symlink("x", place + "/nono-new"))
        for name in ("null", "zero", "tty", "ptmx", "fd", "stdin"):
            attempt("remove /dev/" + name, lambda: os.unlink("/dev/" + name))
            attempt("replace /dev/" + name, lambda: os.rename("notes", "/dev/" + name))
        for name in ("bin", "lib", "usr", "tmp", "proc", "dev"):
            attempt("rename /" + name, lambda: os.rename("/" + name, "/tmp/moved"))
            attempt("remove /" + name, lambda: os.unlink("/" + name))
        """
    )
    assert outcome.done == []


def test_no_call_puts_something_else_where_the_next_looks_for_the_workspace(
    sandbox: Sandbox, yard: Yard
) -> None:
    """Also where the way to it leads through the private /tmp, which calls may write."""
    outcome = sandbox.attack(
        """
        import shutil
        workspace, = ARGUMENTS
        steps = workspace.split("/")
        for depth in range(2, len(steps) + 1):
            place = "/".join(steps[:depth])
            attempt("rename " + place, lambda: os.rename(place, place + "-moved"))
            attempt("exchange " + place, lambda: syscall(
                "renameat2", -100, place, -100, "/tmp", RENAME_EXCHANGE))
            attempt("remove " + place, lambda: os.rmdir(place))
        """,
        yard.workspace,
    )
    assert outcome.done == []
    assert sandbox.run("cat", f"{yard.workspace}/notes").text == "as they were"


def test_tmp_and_shared_memory_are_the_sessions_own(sandbox: Sandbox, yard: Yard) -> None:
    name = f"nono-{yard.secret}"
    ours = [Path(place) / name for place in ("/tmp", "/dev/shm", "/var/tmp")]  # noqa: S108
    for path in ours:
        path.write_text("outside")
    try:
        script = """
            for place in ("/tmp/", "/dev/shm/", "/var/tmp/"):
                attempt("read " + place, lambda: read(place + ARGUMENTS[0]))
                attempt("make " + place, lambda: write(place + "inside-" + ARGUMENTS[0]))
            """
        outcome = sandbox.attack(script, name)
        made = {"make /dev/shm/", "make /tmp/", "make /var/tmp/"}
        # What is granted there is in a directory of that name, which then isn't /tmp by another.
        if yard.workspace.is_relative_to("/var/tmp"):  # noqa: S108
            made.remove("make /var/tmp/")
        assert {*outcome.done} == made
        assert not any((path.parent / f"inside-{name}").exists() for path in ours)
        assert [path.read_text() for path in ours] == ["outside"] * 3
        assert sandbox.run("ls", f"{TMP}/inside-{name}").status == 0
    finally:
        for path in ours:
            path.unlink()


def test_no_session_sees_the_tmp_of_another(confine: Confine, yard: Yard) -> None:
    assert confine().run("touch", f"{TMP}/{yard.secret}").status == 0
    assert confine().run("ls", f"{TMP}/{yard.secret}").status != 0


def test_terminals_are_the_sessions_own(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        say("before", os.listdir("/dev/pts"))
        master, slave = os.openpty()
        os.write(master, b"hello\\n")
        say("through", os.read(slave, 100).decode())
        say("name", os.ttyname(slave))
        """
    )
    assert outcome.said["before"] == ["ptmx"]
    assert outcome.said["through"] == "hello\n"
    assert outcome.said["name"] == "/dev/pts/0"


def test_links_of_the_machine_lead_where_they_did(confine: Confine, yard: Yard) -> None:
    link = yard.path / "link"
    outcome = confine(links=(*yard.confinement().links, Link(str(link), "workspace/notes"))).run(
        "cat", str(link)
    )
    assert outcome.text == "as they were"
    assert not link.exists()


def test_a_directory_may_stand_in_for_another(confine: Confine, yard: Yard) -> None:
    """A home of the sandbox's own, at the path of the person's."""
    home = yard.path / "home"
    home.mkdir()
    (home / "precious").write_text(yard.secret)
    status = yard.workspace.stat()
    grant = Grant(
        str(home),
        READ | WRITE,
        identity=(status.st_dev, status.st_ino),
        source=str(yard.workspace),
    )
    outcome = confine(grant).attack(
        """
        home, = ARGUMENTS
        attempt("precious", lambda: read(home + "/precious"))
        read(home + "/notes")
        write(home + "/new")
        """,
        home,
    )
    assert outcome.done == []
    assert outcome.said[f"content of {home}/notes"] == "as they were"
    assert [path.name for path in home.iterdir()] == ["precious"]
    assert (yard.workspace / "new").exists()


def test_a_denial_holds_while_the_way_to_its_grant_is_changed(confine: Confine, yard: Yard) -> None:
    """As another session's program does, which has the same home, and nothing mounted there."""
    home = yard.path / "home"
    (home / "data").mkdir(parents=True)
    (home / "decoy").mkdir()
    at = yard.path / "at"
    (at / "data").mkdir(parents=True)
    (at / "data" / "closed").write_text(yard.secret + "\n")
    status = (at / "data").stat()
    grants = (
        Grant(str(at), READ | WRITE, source=str(home)),
        Grant(str(at / "data"), READ, identity=(status.st_dev, status.st_ino)),
    )
    look = f"for n in $(seq 200); do read k < {at}/data/closed && echo $k; done 2>&-; true"
    with flipping(home, "data", "decoy"):
        for _ in range(12):
            # Mostly it's seen that the way was changed, and nothing runs.
            with suppress(SandboxError):
                sandbox = confine(*grants, denials=(Denial(str(at / "data" / "closed")),))
                assert yard.secret not in sandbox.run("sh", "-c", look).text


@contextmanager
def flipping(directory: Path, one: str, other: str) -> Iterator[None]:
    """Have two names in *directory* change places, all the time."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from nono_sandbox import _uapi\n"
        "fd = os.open(sys.argv[2], os.O_RDONLY)\n"
        "while True: _uapi.rename_in(fd, sys.argv[3], sys.argv[4], 2)"
    )
    source = Path(_uapi.__file__).parent.parent
    argv = [sys.executable, "-c", code, str(source), str(directory), one, other]
    with subprocess.Popen(argv) as process:
        try:
            yield
        finally:
            process.kill()


def test_a_denial_is_left_nowhere(confine: Confine, yard: Yard) -> None:
    """No placeholder for what is denied, there or not yet there."""
    (yard.workspace / "there").write_text("x")
    before = yard.seen(yard.workspace)
    denials = tuple(
        Denial(str(yard.workspace / name)) for name in ("there", "absent", "no/such/file", "sub")
    )
    sandbox = confine(denials=denials)
    assert sandbox.run("ls", "-a", "/dev").text.count("denied") == 0
    assert sandbox.run("true").status == 0
    assert yard.seen(yard.workspace) == before


def test_a_denial_by_way_of_a_link_is_refused_by_name(confine: Confine, yard: Yard) -> None:
    (yard.workspace / "link").symlink_to("sub")
    with pytest.raises(ConfinementError, match=f"can't deny {yard.workspace}/link"):
        confine(denials=(Denial(f"{yard.workspace}/link/notes"),))


def test_a_denial_in_a_read_grant_holds(confine: Confine, yard: Yard) -> None:
    (yard.reading / "sub" / "secret").write_text(yard.secret)
    outcome = confine(denials=(Denial(f"{yard.reading}/sub"),)).attack(
        """
        reading, = ARGUMENTS
        attempt("read", lambda: read(reading + "/sub/secret"))
        attempt("list", lambda: os.listdir(reading + "/sub"))
        attempt("read beside it", lambda: read(reading + "/kept"))
        """,
        yard.reading,
    )
    assert outcome.done == ["read beside it"]


@pytest.mark.slow
def test_five_thousand_grants_and_denials_start(confine: Confine, yard: Yard) -> None:
    count = 5000
    for kind in ("granted", "denied"):
        for number in range(count):
            (yard.outside / kind / f"{number}").mkdir(parents=True)
            (yard.outside / kind / f"{number}" / "file").write_text(f"{number}")
    denied = yard.outside / "denied"
    grants = [yard.granted(yard.outside / "granted" / f"{n}", READ) for n in range(count)]
    denials = tuple(Denial(f"{denied}/{number}") for number in range(count))
    began_at = time.monotonic()
    sandbox = confine(*grants, yard.granted(denied, READ), denials=denials)
    outcome = sandbox.attack(
        """
        outside, = ARGUMENTS
        for number in (0, 2500, 4999):
            attempt(f"granted {number}", lambda: read(f"{outside}/granted/{number}/file"))
            attempt(f"denied {number}", lambda: read(f"{outside}/denied/{number}/file"))
        attempt("secret", lambda: read(outside + "/secret"))
        """,
        yard.outside,
    )
    assert outcome.done == ["granted 0", "granted 2500", "granted 4999"]
    assert time.monotonic() - began_at < 60


def test_a_workspace_in_tmp_is_there_though_the_whole_root_is_granted(
    confine: Confine, yard: Yard
) -> None:
    """The sandbox's own /tmp covers the machine's, all but what is granted of it by name."""
    for access in (READ, READ | WRITE):
        sandbox = confine(yard.granted(Path("/"), access), denials=(Denial(str(yard.outside)),))
        outcome = sandbox.attack(
            """
            outside, = ARGUMENTS
            attempt("write", lambda: write("new"))
            attempt("read", lambda: read("/etc/passwd"))
            attempt("the secret", lambda: read(outside + "/secret"))
            """,
            yard.outside,
        )
        assert outcome.done == ["write", "read"]
        assert (yard.workspace / "new").read_text() == "spoilt"


@pytest.mark.usefixtures("tier")
def test_what_is_covered_is_in_the_grant_as_it_was_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else may stand at its path by then, which a race meets now and then alone."""
    root, mounted = tmp_path / "root", tmp_path / "mounted"
    (root / "dev").mkdir(parents=True)
    for directory in (root / "at" / "data", mounted):
        directory.mkdir(parents=True)
        (directory / "closed").touch()
    covered: list[int] = []

    def cover(target: int, tree: int) -> None:
        covered.append(os.fstat(target).st_ino)
        os.close(target)
        os.close(tree)

    # Who may mount nothing here is told of what would be, too.
    monkeypatch.setattr(_mounting, "open_tree_clone", os.dup)
    monkeypatch.setattr(_mounting, "mount_setattr", lambda *_: None)
    monkeypatch.setattr(masks, "_put_on", cover)
    bound = os.open(mounted, os.O_PATH)
    top = os.open(root, os.O_PATH)
    try:
        grant = Grant("/at/data", READ)
        masks.mask_all(top, [Denial("/at/data/closed")], {grant.path: grant}, {grant.path: bound})
    finally:
        os.close(top)
        os.close(bound)
    assert covered == [(mounted / "closed").stat().st_ino]
