"""Attempts under the real sandbox-exec; collected on macOS alone.

Nobody has run these yet but the macOS job of CI, if it has run at all. Each attempts the forbidden
thing and looks from outside whether it happened.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nono_sandbox.confinement import (
    PORTS,
    READ,
    WRITE,
    Call,
    Confinement,
    Denial,
    Grant,
    Limits,
    Network,
)
from nono_sandbox.seatbelt import launcher, libproc
from nono_sandbox.seatbelt.fixed import SYSTEM_GRANTS
from nono_sandbox.seatbelt.profile import profile
from nono_sandbox.seatbelt.tree import end_tree

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    directory = tmp_path.resolve() / "workspace"
    directory.mkdir()
    return directory


@pytest.fixture
def confinement(workspace: Path) -> Confinement:
    present = [grant for grant in SYSTEM_GRANTS if Path(grant.path).resolve() == Path(grant.path)]
    present = [grant for grant in present if Path(grant.path).exists()]
    python = Path(sys.base_prefix).resolve()
    grants = (*present, Grant(str(python), READ), Grant(str(workspace), READ | WRITE))
    return Confinement(
        str(workspace), grants, environment=(("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),)
    )


def run(confinement: Confinement, *argv: str, limits: Limits | None = None) -> tuple[int, str]:
    """Return the exit status and what was written, of a program that ends by itself."""
    out, into = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    call = Call(argv, confinement.environment, confinement.cwd, limits or Limits())
    try:
        pid = launcher.launch(call, confinement, (nothing, into, into))
    finally:
        os.close(into)
        os.close(nothing)
    with os.fdopen(out, "rb") as stream:
        text = stream.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), text


def shell(confinement: Confinement, script: str) -> tuple[int, str]:
    return run(confinement, "/bin/sh", "-c", script)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.sb")), ids=lambda file: file.stem)
def test_macos_takes_the_text_of_every_shipped_profile(file: Path) -> None:
    launcher.check_text(file.read_text())


def test_macos_takes_every_group(confinement: Confinement, workspace: Path) -> None:
    ports = confinement.replace(
        network=Network(PORTS, (8080,), (3000,)),
        denials=(Denial(str(workspace / "straße/données ﬁ")),),
    )
    launcher.check_text(profile(ports))


def test_a_program_starts_and_works(confinement: Confinement, workspace: Path) -> None:
    assert shell(confinement, "echo hi > a && cat a && ls") == (0, "hi\na\n")
    assert (workspace / "a").read_text() == "hi\n"


def test_a_secret_outside_stays_unread(confinement: Confinement, tmp_path: Path) -> None:
    secret = tmp_path.resolve() / "secret"
    secret.write_text("swordfish")
    for name in (str(secret), f"/System/Volumes/Data{secret}", "../secret"):
        status, text = shell(confinement, f"cat '{name}'; ls -l '{name}'; cp '{name}' copy")
        assert status != 0
        assert "swordfish" not in text


def test_nothing_outside_is_written(confinement: Confinement, tmp_path: Path) -> None:
    outside = tmp_path.resolve() / "outside"
    outside.write_text("as it was")
    shell(
        confinement, f"echo x > '{outside}'; rm '{outside}'; mv '{outside}' .; chmod 0 '{outside}'"
    )
    assert outside.read_text() == "as it was"
    assert outside.stat().st_mode & 0o700


@pytest.mark.parametrize("name", [".env", ".ENV", ".Env"])
def test_a_denial_inside_a_grant_holds_by_every_name(
    confinement: Confinement, workspace: Path, name: str
) -> None:
    inner = workspace / "inner"
    inner.mkdir()
    (inner / ".env").write_text("swordfish")
    closed = confinement.replace(denials=(Denial(str(inner / ".env")),))
    script = f"cat inner/{name}; mv inner/{name} x; mv inner y; ln inner/{name} z; cat x y/{name} z"
    assert "swordfish" not in shell(closed, script)[1]
    assert (inner / ".env").read_text() == "swordfish"


def test_a_denied_name_cant_be_made_in_another_case(
    confinement: Confinement, workspace: Path
) -> None:
    closed = confinement.replace(denials=(Denial(str(workspace / ".mcp.json"), WRITE),))
    shell(closed, "echo x > .MCP.JSON; echo x > .mcp.json; echo x > y; mv y .Mcp.json")
    assert not (workspace / ".mcp.json").exists()


def test_a_file_outside_cant_be_linked_in_and_written(
    confinement: Confinement, workspace: Path, tmp_path: Path
) -> None:
    shared = tmp_path.resolve() / "shared"
    shared.mkdir()
    (shared / "a").write_text("as it was")
    readable = confinement.replace(grants=(*confinement.grants, Grant(str(shared), READ)))
    shell(readable, f"ln '{shared}/a' a && echo x > a")
    assert (shared / "a").read_text() == "as it was"
    assert not (workspace / "a").exists()


def test_set_id_bits_cant_be_planted(confinement: Confinement, workspace: Path) -> None:
    shell(confinement, "cp /usr/bin/true a; chmod u+s a; chmod g+s a")
    assert not (workspace / "a").stat().st_mode & 0o6000


@pytest.mark.parametrize("granted", [False, True])
def test_a_port_is_reached_only_if_granted(confinement: Confinement, *, granted: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        network = Network(PORTS, (port if granted else 1,))
        status, _ = run(
            confinement.replace(network=network), "/usr/bin/nc", "-z", "127.0.0.1", str(port)
        )
    assert (status == 0) is granted


def test_names_arent_resolved_when_closed(confinement: Confinement) -> None:
    assert run(confinement, "/usr/bin/host", "localhost")[0] != 0


def test_other_processes_cant_be_signalled(confinement: Confinement) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        shell(confinement, f"kill -9 {other.pid}; kill -URG -1")
        time.sleep(0.1)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize(
    "argv",
    [
        ("/usr/bin/security", "list-keychains"),
        ("/usr/bin/open", "-a", "Calculator"),
        ("/usr/bin/osascript", "-e", 'tell application "Finder" to activate'),
        ("/bin/launchctl", "submit", "-l", "nono.test", "--", "/usr/bin/true"),
        ("/usr/bin/pbpaste",),
        ("/usr/bin/defaults", "write", "nono.test", "a", "b"),
        ("/usr/bin/sudo", "-n", "true"),
    ],
    ids=lambda argv: argv[0].rpartition("/")[2],
)
def test_services_outside_are_out_of_reach(confinement: Confinement, argv: tuple[str, ...]) -> None:
    status, _ = run(confinement, *argv)
    assert status != 0


def test_nothing_of_a_call_is_left(confinement: Confinement) -> None:
    call = Call(("/bin/sh", "-c", "(sleep 60 & sleep 60) & sleep 60"), (), confinement.cwd)
    nowhere = os.open(os.devnull, os.O_RDWR)
    pid = launcher.launch(call, confinement, (nowhere, nowhere, nowhere))
    os.close(nowhere)
    time.sleep(0.2)
    end_tree(pid, libproc.processes)
    os.waitpid(pid, 0)
    assert [one for one in libproc.processes() if one.session == pid] == []


def test_the_process_table_knows_this_process_and_its_child() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        table = {one.pid: one for one in libproc.processes()}
        assert table[child.pid].parent_identity == table[os.getpid()].identity
        child.kill()


def test_a_limit_on_file_size_ends_the_program(confinement: Confinement, workspace: Path) -> None:
    limits = Limits(file_size_bytes_max=4096)
    run(confinement, "/bin/dd", "if=/dev/zero", "of=big", "bs=1024", "count=64", limits=limits)
    assert (workspace / "big").stat().st_size <= 4096
