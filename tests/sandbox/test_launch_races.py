"""What changes between judging and starting, and what a start that fails leaves: nothing."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import NAMESPACES, READ, WRITE, Grant, Narrowing
from nono_sandbox.errors import ConfinementError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.conftest import Confine, Sandbox, Yard


def swap_for_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(path.name + "-before"))
    path.symlink_to(target)


@pytest.mark.claim("grants.judged-once")
def test_a_grant_that_was_replaced_by_a_link_is_refused(confine: Confine, yard: Yard) -> None:
    granted = yard.path / "granted"
    granted.mkdir()
    grant = yard.granted(granted, READ | WRITE)
    swap_for_link(granted, yard.outside)
    with pytest.raises(ConfinementError, match=f"{granted} was replaced"):
        confine(grant)


@pytest.mark.claim("grants.judged-once")
def test_a_grant_whose_parent_was_replaced_by_a_link_is_refused(
    confine: Confine, yard: Yard
) -> None:
    granted = yard.path / "parent" / "sub"
    granted.mkdir(parents=True)
    grant = yard.granted(granted, READ | WRITE)
    swap_for_link(granted.parent, yard.outside)
    with pytest.raises(ConfinementError, match=f"{granted} was replaced"):
        confine(grant)


@pytest.mark.claim("grants.judged-once")
def test_a_grant_that_was_replaced_by_another_directory_or_file_is_refused(
    confine: Confine, yard: Yard
) -> None:
    for name in ("sub", "secret"):
        grant = yard.granted(yard.outside / name, READ)
        (yard.outside / name).rename(yard.outside / f"{name}-moved")
        (yard.outside / name).mkdir()
        with pytest.raises(ConfinementError, match="replaced"):
            confine(grant)


@pytest.mark.claim("grants.judged-once")
def test_a_grant_of_what_is_gone_or_is_a_link_or_a_device_is_refused(
    confine: Confine, yard: Yard
) -> None:
    link = yard.path / "link"
    link.symlink_to(yard.outside)
    for grant, why in (
        (Grant(str(yard.path / "absent"), READ), "can't open the grant"),
        (Grant(str(link), READ), "granted as the other"),
        (Grant(str(yard.outside / "secret"), READ), "granted as the other"),
        (Grant(str(yard.outside), READ, exact=True), "granted as the other"),
        (Grant("/dev/zero", READ | WRITE, exact=True), "device"),
    ):
        with pytest.raises(ConfinementError, match=why):
            confine(grant)


@contextlib.contextmanager
def swapping(path: Path, target: Path) -> Iterator[None]:
    """Let a thread put a link to *target* in the place of *path* and back, as fast as it can."""
    stop = threading.Event()
    aside, link = path.with_name("aside"), path.with_name("link-to-swap")
    link.symlink_to(target)

    def swap() -> None:
        while not stop.is_set():
            path.rename(aside)
            link.rename(path)
            path.rename(link)
            aside.rename(path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.claim("grants.judged-once")
def test_a_grant_swapped_while_a_session_starts_never_leads_elsewhere(
    confine: Confine, yard: Yard
) -> None:
    granted = yard.path / "granted"
    (granted / "sub").mkdir(parents=True)
    grant = yard.granted(granted, READ | WRITE)
    started = 0
    with swapping(granted, yard.outside):
        for _ in range(25):
            with contextlib.suppress(ConfinementError):
                sandbox = confine(grant)
                outcome = sandbox.run("sh", "-c", f"cat {granted}/secret; touch {granted}/made")
                assert yard.secret not in outcome.text
                started += 1
    assert started < 25
    assert not (yard.outside / "made").exists()


@pytest.mark.claim("fs.deny-by-default")
def test_a_link_swapped_while_a_worker_opens_it_never_leads_outside(
    sandbox: Sandbox, yard: Yard
) -> None:
    """By a thread of the worker's own: what is judged must be what is opened."""
    outcome = sandbox.attack(
        """
        import time
        secret, = ARGUMENTS
        stop = threading.Event()
        os.symlink("notes", "name")
        def swap():
            while not stop.is_set():
                for target in (secret, "notes"):
                    os.symlink(target, "next")
                    os.rename("next", "name")
        thread = threading.Thread(target=swap)
        thread.start()
        seen, began = set(), time.monotonic()
        # For a while, and on a busy machine until there was something to see.
        while (elapsed := time.monotonic() - began) < 0.5 or (len(seen) < 2 and elapsed < 30):
            try:
                seen.add(open("name").read())
                open("name", "r+").close()
            except OSError as error:
                seen.add(errno.errorcode[error.errno])
        stop.set()
        thread.join()
        say("seen", sorted(seen))
        """,
        yard.outside / "secret",
    )
    assert yard.secret not in outcome.text
    assert "as they were" in outcome.said["seen"]
    assert set(outcome.said["seen"]) - {"as they were"}, "it was never swapped in time"


@pytest.mark.claim("exit-status.as-a-shells")
def test_a_program_that_isnt_there_is_status_127(sandbox: Sandbox) -> None:
    for name in ("no-such-program", "./no-such-program", "/no/such/program", "notes/program"):
        outcome = sandbox.run(name)
        assert (outcome.status, outcome.output) == (127, b"")
        assert outcome.ended.failure is not None
        assert name in outcome.ended.failure[1]


@pytest.mark.claim("exit-status.as-a-shells")
def test_a_program_that_cant_be_executed_is_status_126(sandbox: Sandbox, yard: Yard) -> None:
    (yard.workspace / "loop").symlink_to("loop")
    (yard.workspace / "orphan").write_text("#!/no/such/interpreter\n")
    (yard.workspace / "orphan").chmod(0o755)
    for name in ("./notes", "./sub", "./loop", "./orphan", "./" + "x" * 300):
        outcome = sandbox.run(name)
        assert (outcome.status, outcome.output) == (126, b""), name
        assert outcome.ended.failure is not None


@pytest.mark.claim("fs.deny-by-default")
def test_no_interpreter_is_run_that_wasnt_granted(sandbox: Sandbox, yard: Yard) -> None:
    script = yard.workspace / "script"
    script.write_text(f"#!{yard.outside}/program\n")
    script.chmod(0o755)
    for argv in (["./script"], ["sh", "-c", "./script"], ["env", "./script"]):
        outcome = sandbox.run(*argv)
        assert outcome.status in (126, 127)
        assert yard.secret not in outcome.text


@pytest.mark.claim("exit-status.as-a-shells")
def test_a_text_without_an_interpreter_is_run_by_the_shell(sandbox: Sandbox, yard: Yard) -> None:
    script = yard.workspace / "script"
    script.write_text('echo "$0 $1"\nexit 7\n')
    script.chmod(0o755)
    outcome = sandbox.run("./script", "argument")
    assert (outcome.status, outcome.text) == (7, "./script argument\n")


@pytest.mark.claim("exit-status.as-a-shells")
@pytest.mark.parametrize("number", [1, 2, 9, 11, 15])
def test_a_signal_is_status_128_and_its_number(sandbox: Sandbox, number: int) -> None:
    assert sandbox.run("sh", "-c", f"kill -{number} $$").status == 128 + number
    assert sandbox.run("sh", "-c", f"exit {number}").status == number


def test_a_directory_that_cant_be_entered_is_a_failure_that_names_it(
    sandbox: Sandbox, yard: Yard
) -> None:
    gone = yard.workspace / "gone"
    for path in (gone, yard.workspace / "notes"):
        outcome = sandbox.run("true", cwd=str(path))
        assert outcome.status == 126
        assert outcome.ended.failure is not None
        assert str(path) in outcome.ended.failure[1]


def test_a_working_directory_replaced_by_a_link_leads_to_nothing(
    sandbox: Sandbox, yard: Yard
) -> None:
    swap_for_link(yard.workspace / "sub", yard.outside)
    outcome = sandbox.run("sh", "-c", "cat secret; ls; touch made", cwd=str(yard.workspace / "sub"))
    assert outcome.status != 0
    assert yard.secret not in outcome.text
    assert not (yard.outside / "made").exists()


def test_a_text_that_no_system_call_takes_is_a_failure_and_nothing_more(sandbox: Sandbox) -> None:
    for argv, environment in (
        (("echo", "a\0b"), ()),
        (("ec\0ho",), ()),
        (("echo", "\ud800"), ()),
        (("/usr/bin/env",), (("A=B", "c"),)),
        (("/usr/bin/env",), (("A\0", "c"),)),
        (("echo", "x" * 2_000_000), ()),
    ):
        outcome = sandbox.run(*argv, environment=environment)
        assert (outcome.status, outcome.output) == (126, b""), argv
        assert outcome.ended.failure is not None
    assert sandbox.run("true").status == 0


@pytest.mark.claim("fs.narrowed")
def test_a_call_can_give_up_writing(sandbox: Sandbox, yard: Yard) -> None:
    outcome = sandbox.attack(
        """
        attempt("elsewhere", lambda: write("new"))
        attempt("what is there", lambda: write("notes"))
        attempt("truncate", lambda: os.truncate("notes", 0))
        attempt("remove", lambda: os.unlink("notes"))
        attempt("move in", lambda: os.rename("notes", "sub/moved"))
        attempt("link in", lambda: os.link("notes", "sub/linked"))
        attempt("exchange", lambda: syscall(
            "renameat2", -100, "notes", -100, "sub/notes", RENAME_EXCHANGE))
        attempt("from a thread", lambda: in_thread(lambda: write("new")))
        attempt("there", lambda: write("sub/new"))
        attempt("nowhere", lambda: write("/dev/null", 0))
        attempt("read", lambda: read("notes"))
        """,
        narrowing=Narrowing(writes=(str(yard.workspace / "sub"),)),
    )
    assert outcome.done == ["there", "nowhere", "read"]
    assert (yard.workspace / "notes").read_text() == "as they were"


@pytest.mark.claim("fs.narrowed")
def test_giving_up_writing_can_add_nothing(sandbox: Sandbox, yard: Yard) -> None:
    outcome = sandbox.begin_attack(
        """
        reading, = ARGUMENTS
        attempt("write", lambda: write(reading + "/new"))
        attempt("write outside", lambda: write(reading + "/../outside/new"))
        """,
        yard.reading,
        narrowing=Narrowing(writes=(str(yard.reading), str(yard.path))),
    ).wait()
    # In the fresh root what isn't granted isn't there to be named.
    assert outcome.status == 126 or outcome.done == []
    assert not (yard.reading / "new").exists()


@pytest.mark.claim("fs.narrowed")
def test_a_call_that_gives_up_writing_altogether_writes_nothing(
    sandbox: Sandbox, yard: Yard
) -> None:
    before = yard.seen(yard.workspace)
    places = ["."] if sandbox.tier != NAMESPACES else [".", "/tmp", "/dev/shm"]  # noqa: S108
    outcome = sandbox.attack(
        """
        for place in ARGUMENTS:
            attempt("write in " + place, lambda: write(place + "/new"))
            attempt("mkdir in " + place, lambda: os.mkdir(place + "/new-directory"))
            attempt("change the mode of " + place, lambda: os.chmod(place, 0o700))
            attempt("change the times of " + place, lambda: os.utime(place, (1, 1)))
            attempt("change the owner of " + place, lambda: os.chown(place, -1, os.getgid()))
        """,
        *places,
        narrowing=Narrowing(writes=()),
    )
    assert outcome.done == []
    assert yard.seen(yard.workspace) == before
