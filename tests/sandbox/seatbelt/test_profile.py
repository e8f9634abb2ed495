"""Single properties of the text that the differential test can't name."""

from __future__ import annotations

import pytest

from nono_sandbox.confinement import (
    LANDLOCK,
    NAMESPACES,
    OPEN,
    PORTS,
    READ,
    WRITE,
    Confinement,
    Denial,
    Grant,
    Limits,
    Network,
)
from nono_sandbox.seatbelt import profile as generator
from nono_sandbox.seatbelt.evaluator import Profile, Query, Reading
from nono_sandbox.seatbelt.expressible import refuse_limits
from nono_sandbox.seatbelt.profile import GROUPS, PROFILE_BYTES_MAX, profile
from nono_sandbox.seatbelt.reader import MalformedError, read
from nono_sandbox.seatbelt.sbpl import RefusedError

WORKSPACE = Grant("/Users/u/ws", READ | WRITE)
EVERYTHING = Confinement(
    "/Users/u/ws",
    (WORKSPACE, Grant("/usr", READ), Grant("/Users/u/out", WRITE)),
    (Denial("/Users/u/ws/.env"), Denial("/Users/u/ws/.git/hooks", WRITE)),
    network=Network(OPEN),
)


@pytest.mark.parametrize(
    ("changes", "item"),
    [
        ({"tier": NAMESPACES}, "namespaces"),
        ({"tier": LANDLOCK}, "landlock"),
        ({"ptrace": True}, "ptrace"),
        ({"grants": (Grant("/a", READ, source="/b"),)}, "'/a'"),
        ({"grants": (Grant("/a", 0),)}, "access"),
        ({"grants": (Grant("/a", 4),)}, "access"),
        ({"denials": (Denial("/a", 0),)}, "access"),
        ({"grants": (Grant("/System", READ),)}, "data volume"),
        ({"grants": (Grant("/System/Volumes", READ),)}, "data volume"),
        ({"grants": (Grant("/System/Volumes/Data", READ),)}, "data volume"),
        ({"network": Network("proxy")}, "'proxy'"),
        ({"network": Network(PORTS, connect_ports=tuple(range(1, 66)))}, "65 ports to connect"),
        ({"network": Network(PORTS, bind_ports=tuple(range(1, 5000)))}, "4999 ports to bind"),
        ({"network": Network(PORTS, bind_ports=(0,))}, "port 0"),
        ({"network": Network(PORTS, connect_ports=(65536,))}, "port 65536"),
        ({"network": Network(PORTS, connect_ports=(-1,))}, "port -1"),
        ({"limits": Limits(memory_bytes_max=1)}, "memory"),
        ({"limits": Limits(disk_bytes_max=1)}, "disk"),
    ],
)
def test_what_macos_cant_express_is_refused_by_name(changes: dict[str, object], item: str) -> None:
    with pytest.raises(RefusedError, match=item):
        profile(Confinement("/").replace(**changes))


def test_what_would_be_too_long_an_argument_is_refused() -> None:
    many = tuple(Grant(f"/Users/u/{number:0200}", READ) for number in range(2000))
    with pytest.raises(RefusedError, match=str(PROFILE_BYTES_MAX)):
        profile(Confinement("/", many))


def test_an_empty_confinement_grants_no_file() -> None:
    judged = Profile(profile(Confinement("/")))
    for operation in ("file-read-data", "file-write-data", "process-exec", "file-read-metadata"):
        assert not judged.decide(Query(operation, path="/usr/bin/true")).allowed


def test_no_rule_is_without_a_filter_but_those_that_mean_it() -> None:
    unfiltered = {
        form[:2]
        for form in read(profile(EVERYTHING))
        if isinstance(form, tuple) and not any(isinstance(part, tuple) for part in form)
    }
    assert unfiltered == {
        ("version", "1"),
        ("deny", "default"),
        ("allow", "process-fork"),
        ("allow", "pseudo-tty"),
        ("deny", "file-write-setugid"),
    }


def operations(action: str, prefix: tuple[str, ...]) -> set[str]:
    return {
        part
        for form in read(profile(EVERYTHING))
        if isinstance(form, tuple) and form[0] == action
        for part in form[1:]
        if isinstance(part, str) and part.startswith(prefix)
    }


def test_denials_name_every_operation_that_anything_allows_on_a_path() -> None:
    prefix = ("file-", "process-exec", "network-")
    assert operations("allow", prefix) <= operations("deny", prefix)


def test_no_operation_is_allowed_by_a_wider_name_than_its_own() -> None:
    """A star takes in operations that a later macOS adds: only where all of a kind are meant."""
    starred = {name for name in operations("allow", ("",)) if name.endswith("*")}
    assert starred == {
        "file-read*",
        "file-write*",
        "ipc-posix-shm*",
        "process-exec*",
        "process-info*",
    }


@pytest.mark.parametrize("head", ["(version 1)\n", "(deny default)\n"])
def test_the_head_is_what_makes_it_a_profile(head: str) -> None:
    with pytest.raises(MalformedError):
        Profile(profile(EVERYTHING).replace(head, "", 1))


@pytest.mark.parametrize("cut", [group.name for group in GROUPS])
def test_every_group_has_its_lines_in_the_text(cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = EVERYTHING
    if cut.startswith("network: ports"):
        made = made.replace(network=Network(PORTS, (80,), (81,)))
    whole = profile(made)
    monkeypatch.setattr(generator, "GROUPS", tuple(one for one in GROUPS if one.name != cut))
    rest = profile(made)
    assert len(rest) < len(whole)
    assert f"; {cut}\n" not in rest


def test_a_text_with_another_rule_order_is_seen_by_one_reading_alone() -> None:
    """The two readings differ; so that both agree is worth testing."""
    text = """\
(version 1)
(deny default)
(allow file-read-data (subpath "/a"))
(deny file-read* (literal "/a/.env"))
"""
    judged = Profile(text)
    query = Query("file-read-data", path="/a/.env")
    assert not judged.decide(query, Reading.SOURCE).allowed
    assert judged.decide(query, Reading.SPECIFIC).allowed


@pytest.mark.parametrize(
    ("rule", "query", "allowed"),
    [
        ('(literal "/a")', Query("file-read-data", path="/a/b"), False),
        ('(literal "/a")', Query("file-read-data", path="/a"), True),
        ('(subpath "/a")', Query("file-read-data", path="/a"), True),
        ('(subpath "/a")', Query("file-read-data", path="/ab"), False),
        ('(subpath "/")', Query("file-read-data", path="/a"), True),
        ('(regex #"^/a$")', Query("file-read-data", path="/a\n"), False),
        ('(regex #"^/a")', Query("file-read-data", path="/ab"), True),
        ('(regex #"b")', Query("file-read-data", path="/ab"), True),
        ('(subpath "/a")', Query("file-write-data", path="/a"), False),
        ('(require-all (subpath "/a") (regex #"b$"))', Query("file-read-xattr", path="/a/b"), True),
        ('(require-all (subpath "/a") (regex #"b$"))', Query("file-read-data", path="/b"), False),
    ],
)
def test_the_evaluator_knows_the_filters(rule: str, query: Query, *, allowed: bool) -> None:
    judged = Profile(f"(version 1)\n(deny default)\n(allow file-read* {rule})")
    assert judged.decide(query).allowed is allowed


@pytest.mark.parametrize(
    "rule",
    [
        "(allow)",
        "(permit file-read*)",
        '(allow (literal "/a") file-read*)',
        '(allow file-read* (prefix "/a"))',
        "(allow file-read* (require-not))",
        '(allow network-outbound (remote tcp "10.0.0.1:80"))',
        '(allow network-outbound (remote tcp "localhost:0"))',
        '(allow network-outbound (remote sctp "localhost:80"))',
        '(allow network-outbound (sideways tcp "localhost:80"))',
        '(import "system.sb")',
        '"text"',
    ],
)
def test_the_evaluator_guesses_at_nothing(rule: str) -> None:
    with pytest.raises(MalformedError):
        Profile(f"(version 1)\n(deny default)\n{rule}")


def test_every_limit_there_is_is_kept_or_refused() -> None:
    """One that came to be for Linux alone would be taken here and not kept."""
    by_kernel = {"cpu_s", "open_files_max", "file_size_bytes_max"}
    by_lane = {"wall_s", "processes_max"}
    by_supervisor = {"output_bytes_max"}
    refused = set()
    for name in vars(Limits()):
        try:
            refuse_limits(Limits().replace(**{name: 1}))
        except RefusedError:
            refused.add(name)
    assert set(vars(Limits())) == by_kernel | by_lane | by_supervisor | refused
