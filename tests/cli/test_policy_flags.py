import pytest

from nono_mcp.cli import options, policy_flags
from nono_mcp.cli.options import Parsed, UsageError
from nono_mcp.cli.policy_flags import OPTIONS
from nono_mcp.policy.document import (
    Document,
    EnforcementSection,
    EnvironmentSection,
    FilesystemSection,
    LimitsSection,
    NetworkSection,
    ProcessSection,
)
from nono_sandbox.system import BACKEND


def parsed(*argv: str) -> Parsed:
    return options.parse(argv, OPTIONS)


def document(*argv: str) -> Document:
    return policy_flags.document(parsed(*argv), granted=True)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), Document()),
        (
            ("--allow", "a", "--allow=b", "--read", "c", "--write", "d", "--deny", "e"),
            Document(
                filesystem=FilesystemSection(
                    allow=("a", "b"), read=("c",), write=("d",), deny=("e",)
                )
            ),
        ),
        (
            ("--allow-file", "a", "--read-file", "b", "--write-file", "c"),
            Document(
                filesystem=FilesystemSection(allow_file=("a",), read_file=("b",), write_file=("c",))
            ),
        ),
        (
            ("--deny-write", "a", "--bypass", "b"),
            Document(filesystem=FilesystemSection(deny_write=("a",), bypass=("b",))),
        ),
        (("--read-only",), Document(filesystem=FilesystemSection(read_only=True))),
        (("--block-net",), Document(network=NetworkSection(mode="closed"))),
        (("--open-net",), Document(network=NetworkSection(mode="open"))),
        (
            ("--connect-port", "80", "--connect-port", "65535", "--bind-port", "1"),
            Document(network=NetworkSection(connect_ports=(80, 65535), bind_ports=(1,))),
        ),
        (
            ("--timeout", "1.5", "--cpu", "2", "--memory", "2G", "--max-processes", "7"),
            Document(
                limits=LimitsSection(
                    timeout_s=1.5, cpu_s=2.0, memory_max=2 * 2**30, processes_max=7
                )
            ),
        ),
        (
            ("--max-open-files", "64", "--max-file-size", "4096", "--max-disk", "1G"),
            Document(limits=LimitsSection(open_files_max=64, file_size_max=4096, disk_max=1 << 30)),
        ),
        (
            ("--env", "A", "--env", "B=1=2", "--env", "C="),
            Document(environment=EnvironmentSection(("A",), (("B", "1=2"), ("C", "")))),
        ),
        (("--ptrace",), Document(process=ProcessSection(ptrace=True))),
        (("--best-effort",), Document(enforcement=EnforcementSection(best_effort=True))),
    ],
)
def test_options_are_a_policy(argv: tuple[str, ...], expected: Document) -> None:
    assert document(*argv) == expected


@pytest.mark.parametrize(
    "argv",
    [
        ("--block-net", "--open-net"),
        ("--block-net", "--connect-port", "80"),
        ("--open-net", "--bind-port", "80"),
        ("--connect-port", "0"),
        ("--connect-port", "65536"),
        ("--connect-port", "-1"),
        ("--connect-port", "8080x"),
        ("--connect-port", "٣"),
        ("--timeout", "0"),
        ("--timeout", "0.0"),
        ("--timeout", "-1"),
        ("--timeout", "1e9"),
        ("--timeout", "1000000000"),
        ("--timeout", "nan"),
        ("--timeout", "inf"),
        ("--timeout", "1_0"),
        ("--timeout", "."),
        ("--timeout", "1" * 5000),
        ("--cpu", "0"),
        ("--memory", "0"),
        ("--memory", "2GB"),
        ("--memory", "2.5G"),
        ("--memory", "G"),
        ("--memory", "9" * 5000),
        ("--max-processes", "0"),
        ("--max-processes", "99999999999"),
        ("--max-open-files", "x"),
        ("--max-file-size", "-1"),
        ("--env", "=x"),
        ("--env", "1A"),
        ("--env", "A-B=x"),
        ("--env", "A=" + "x" * 1_000_000),
    ],
)
def test_a_value_that_isnt_one_is_told_on_one_line(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        document(*argv)
    told = f"{caught.value.message} {caught.value.hint}"
    assert told.isprintable()
    assert len(told) < 400


def test_a_tier_is_one_that_there_is() -> None:
    assert policy_flags.tier(parsed()) is None
    for tier in BACKEND.tiers:
        assert policy_flags.tier(parsed("--tier", tier)) == tier
    with pytest.raises(UsageError, match="no tier") as caught:
        policy_flags.tier(parsed("--tier", "landlok"))
    assert BACKEND.tiers[-1] in caught.value.hint


def test_every_option_is_told_of() -> None:
    for option in OPTIONS:
        assert f"{option.name}" in policy_flags.ABOUT


@pytest.mark.parametrize(
    ("argv", "profile"),
    [
        ((), "system"),
        (("--allow-cwd",), None),
        (("--profile", "python"), "python"),
        (("--profile", "python", "--allow-cwd"), "python"),
    ],
)
def test_the_workspace_is_granted_by_a_word_only(
    argv: tuple[str, ...], profile: str | None
) -> None:
    request = policy_flags.request(parsed(*argv))
    assert request.profile == profile
    both = "--profile" in argv and "--allow-cwd" in argv
    assert request.flags.filesystem.allow == (("$WORKSPACE",) if both else ())
