"""Which part of a command's last words the policy has to do with."""

import pytest

from nono_mcp.policy.document import Document
from nono_mcp.policy.request import Prepared, Rule
from nono_mcp.server.hints import (
    Located,
    Suspect,
    absolute,
    located,
    mentions_refusal,
    of_network,
    of_paths,
    suspects,
    writable,
)
from nono_sandbox.confinement import LANDLOCK, READ, WRITE, Confinement, Grant, Network

OWN = "/run/own"
QUOTED = "\N{LEFT SINGLE QUOTATION MARK}sub/d\N{RIGHT SINGLE QUOTATION MARK}"
PREPARED = Prepared(
    confinement=Confinement(
        cwd="/w",
        grants=(
            Grant("/w", READ | WRITE),
            Grant("/usr", READ),
            Grant("/home/u", READ | WRITE, source="/state/homes/1"),
            Grant(OWN, READ | WRITE),
        ),
        environment=(("TMPDIR", OWN),),
    ),
    rules=(
        Rule("/w", READ | WRITE, "--allow /w"),
        Rule("/usr", READ, "profile system: read /usr"),
        Rule("/home/u/.ssh", READ | WRITE, "protected: SSH keys", "fs.protected", "add --bypass"),
    ),
    document=Document(),
    home="/home/u",
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cat: /x/y: Permission denied", [("/x/y", "read"), ("/x/y", "write")]),
        ("cat: /x/y: No such file or directory", [("/x/y", "read")]),
        ("touch: cannot touch '/x/y': Read-only file system", [("/x/y", "write")]),
        ("touch: cannot touch '/x/y': No such file or directory", [("/x/y", "write")]),
        ("/bin/sh: 1: cannot create /x: Permission denied", [("/x", "write"), ("/x", "read")]),
        ("sh: 1: cannot create /x/y: Directory nonexistent", [("/x/y", "write")]),
        ("/x/program: Permission denied", [("/x/program", "read"), ("/x/program", "write")]),
        ("sh: 1: cd: can't cd to /x", [("/x", "read")]),
        (f"mkdir: cannot create directory {QUOTED}: Permission denied", [("/w/sub/d", "write")]),
        ("open ~/.npmrc: EACCES", [("/h/.npmrc", "read"), ("/h/.npmrc", "write")]),
        ("open ../y/z: ENOENT", [("/w/../y/z", "read")]),
        ("PermissionError: [Errno 13] Permission denied: '/x'", [("/x", "read"), ("/x", "write")]),
        ("fetch https://example.com/a: not found", []),
        ("/x/y: fine", []),
        ("permission denied", []),
    ],
)
def test_paths_are_found_in_what_programs_say(line: str, expected: list[tuple[str, str]]) -> None:
    found = [(one.path, one.operation) for one in suspects(f"noise\n{line}\n", "/w", "/h")]
    assert found[: len(expected)] == expected
    assert bool(found) == bool(expected)


def test_the_last_words_come_first_and_few_are_looked_into() -> None:
    output = "\n".join(f"cat: /x/{n}: No such file or directory" for n in range(100))
    found = suspects(output, "/w", "/h")
    assert found[0] == Suspect("/x/99", "read")
    assert len(found) <= 4


def test_a_flood_of_paths_costs_no_time() -> None:
    suspects("permission denied " + "/a" * 500_000, "/w", "/h")
    suspects("permission denied /a " * 50_000, "/w", "/h")


def test_what_a_worker_answers_is_read_by_its_shape() -> None:
    paths = ["/w/a", "/w/b", "/w/c"]
    answer = b"d\nf\n-\n/proc/7\0/real/a\0/real\nb\0/w/c\0"
    assert located(paths, 0, answer) == [
        Located("/real/a", "directory"),
        Located("/real\nb", "file"),
        Located("/w/c", ""),
    ]
    as_written = [Located(path, "") for path in paths]
    for status, other in ((1, answer), (0, b""), (0, b"d\nf\n-\n"), (0, answer[:-5])):
        assert located(paths, status, other) == as_written


def test_who_looked_is_no_part_of_where_a_path_leads() -> None:
    paths = ["/proc/self/./mem", "/etc/mtab", "/proc/thread-self/cwd/x", "/proc/71/mem"]
    answer = b"f\nf\n-\nf\n/proc/7\0/proc/7/mem\0/proc/7/mounts\0/w/x\0/proc/71/mem\0"
    assert [one.path for one in located(paths, 0, answer)] == [
        "/proc/self/mem",
        "/proc/self/mounts",
        "/proc/thread-self/cwd/x",
        "/proc/71/mem",
    ]


def test_paths_are_written_in_many_ways() -> None:
    assert absolute("~", "/w", "/h") == "/h"
    assert absolute("~/x", "/w", "/h") == "/h/x"
    assert absolute("~other/x", "/w", "/h") == "/w/~other/x"
    assert absolute("x", "/w", "/h") == "/w/x"
    assert absolute("/x", "/w", "/h") == "/x"


@pytest.mark.parametrize(
    ("path", "operation", "told"),
    [
        ("/w/x", "write", ""),
        ("/usr/bin/x", "read", ""),
        ("/usr/bin/x", "write", "fs.read-only: /usr/bin/x may be read and not written"),
        ("/x", "read", "fs.outside-grants: /x lies outside what is granted"),
        ("/home/u/.ssh/id", "read", "fs.protected: /home/u/.ssh/id is closed by protected: SSH"),
    ],
)
def test_a_denial_is_told_with_its_rule(path: str, operation: str, told: str) -> None:
    line = of_paths(PREPARED, [Suspect(path, operation)], [Located(path, "file")])
    assert line.startswith(told)
    assert bool(line) == bool(told)
    assert "\n" not in line
    if told and operation == "write":
        assert "you may write: /w;" in line


def test_what_is_the_sandboxs_own_isnt_told_as_the_persons() -> None:
    assert writable(PREPARED) == "/w"
    bare = PREPARED.replace(confinement=Confinement(cwd="/w", tier=LANDLOCK))
    assert writable(bare) == "nothing but $TMPDIR and your own $HOME"


@pytest.mark.parametrize(
    "line",
    [
        "curl: (6) Could not resolve host: example.com",
        "ping: example.com: Temporary failure in name resolution",
        "getaddrinfo ENOTFOUND registry",
        "OSError: [Errno 101] Network is unreachable",
    ],
)
def test_a_closed_network_is_told_where_one_was_wanted(line: str) -> None:
    assert of_network(PREPARED, line, 1, ()).startswith("net.closed: nothing leaves the sandbox")
    opened = PREPARED.confinement.replace(network=Network("open"))
    assert of_network(PREPARED.replace(confinement=opened), line, 1, ()) == ""


def test_other_failures_have_nothing_to_do_with_the_network() -> None:
    assert of_network(PREPARED, "make: *** [all] Error 2", 2, ("make",)) == ""


def test_a_status_that_tells_of_a_host_is_enough() -> None:
    told = of_network(PREPARED, "", 6, ("/bin/sh", "-c", "curl -s https://example.com"))
    assert told.startswith("net.closed: nothing leaves the sandbox")


def test_refusals_are_told_from_other_failures() -> None:
    assert mentions_refusal("touch: cannot touch 'a': Permission denied")
    assert not mentions_refusal("assertion failed")
