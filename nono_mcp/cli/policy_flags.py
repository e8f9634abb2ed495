"""The options that make a policy: shared by every command that has one.

They become a `Document`, the topmost layer of the policy, so that what they say is judged as
what a file says is.
"""

from __future__ import annotations

import os

from nono_mcp.cli import host_flags, option_values
from nono_mcp.cli.options import Option, UsageError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from nono_mcp.cli.options import Parsed
    from nono_mcp.policy.document import Document, EnvironmentSection, NetworkSection
    from nono_mcp.policy.request import Request

    N = TypeVar("N", int, float)

PATHS = (
    ("--allow", "DIR"),
    ("--read", "DIR"),
    ("--write", "DIR"),
    ("--allow-file", "FILE"),
    ("--read-file", "FILE"),
    ("--write-file", "FILE"),
    ("--deny", "PATH"),
    ("--deny-write", "PATH"),
    ("--bypass", "PATH"),
)
ALLOW_CWD = Option("--allow-cwd")
BROAD = Option("--unsafe-broad-workspace")
BLOCK_NET = Option("--block-net")
OPEN_NET = Option("--open-net")
READ_ONLY = Option("--read-only")
PTRACE = Option("--ptrace")
BEST_EFFORT = Option("--best-effort")
OPTIONS = (
    *(Option(name, operand, many=True) for name, operand in PATHS),
    READ_ONLY,
    ALLOW_CWD,
    BROAD,
    Option("--workdir", "DIR"),
    Option("--profile", "NAME"),
    BLOCK_NET,
    OPEN_NET,
    Option("--connect-port", "PORT", many=True),
    Option("--bind-port", "PORT", many=True),
    *(Option(name, operand, many=True) for name, operand in host_flags.HOSTS),
    *(Option(name, operand) for name, operand in host_flags.AROUND),
    Option("--env", "NAME[=VALUE]", many=True),
    Option("--block-command", "NAME", many=True),
    Option("--timeout", "SECONDS"),
    Option("--cpu", "SECONDS"),
    Option("--memory", "SIZE"),
    Option("--max-processes", "COUNT"),
    Option("--max-open-files", "COUNT"),
    Option("--max-file-size", "SIZE"),
    Option("--max-disk", "SIZE"),
    Option("--tier", "TIER"),
    PTRACE,
    BEST_EFFORT,
)
ABOUT = """\
What the program may reach (all of it may be given more than once):
  --allow DIR, --read DIR, --write DIR          a directory and all in it
  --allow-file, --read-file, --write-file FILE  one file
  --read-only              nothing of all that is written, whatever says so
  --allow-cwd              read and write the current directory, by the default profile
  --deny PATH              closed, whatever is granted around it
  --deny-write PATH        readable and not writable, whatever is granted around it
  --bypass PATH            give up the protection of a protected path (~/.ssh, ...)
  --profile NAME|PATH      a shipped profile, one of yours, or a file (nono policy list)
  --workdir DIR            take that for the current directory, and start there
  --unsafe-broad-workspace
                           / or the whole home is meant as the workspace

Its network, closed unless one of these or the profile opens it:
  --block-net              closed
  --open-net               the machine's own network
  --connect-port PORT      a TCP port of this machine's loopback
  --bind-port PORT         a TCP port to listen on
  --allow-domain HOST[:PORT]|'*.ZONE'   a host to reach by https, or by HOST:80 without it
  --deny-domain HOST[:PORT]|'*.ZONE'    one that isn't, whatever is allowed
  --credential NAME[=SOURCE], --proxy-credential NAME[=SOURCE]
                           let it use a key (openai, github, ...) that it never gets to see,
                           and reach that provider (nono credential set NAME)
  --allow-endpoint NAME:METHOD:PATH     all that is used of that provider: 'openai:POST:/v1/**'
  --upstream-proxy URL     the proxy of the network around, http://HOST:PORT
  --upstream-proxy-credential SOURCE    where its USER:PASSWORD is: keyring://nono/corp, ...
  --upstream-ca FILE       a company's certificates, to trust in hosts beside the system's

Its limits:
  --timeout SECONDS        wall-clock time         --max-processes COUNT
  --cpu SECONDS            CPU time                --max-open-files COUNT
  --memory SIZE            such as 512M or 2G      --max-file-size SIZE
  --max-disk SIZE          what it adds to disks, a file being 4K at least; if it isn't said, it
                           may but for the last gigabyte, or a quarter of what is free

The rest:
  --env NAME[=VALUE]       pass a variable of yours, or set one
  --block-command NAME     a command that isn't run, by this name or another of its file
  --ptrace                 let the program's processes trace each other (gdb, strace)
  --tier TIER              insist on namespaces, or on landlock (macOS: seatbelt)
  --best-effort            run even if a guarantee that the policy requires can't be had
"""

SYSTEM = "system"
"""The profile for a run that grants nothing of the workspace."""


def without(about: str, *names: str) -> str:
    """Return the text *about* options without the lines of those named."""
    lines = about.splitlines(keepends=True)
    return "".join(line for line in lines if not line.strip().startswith(names))


def tier(parsed: Parsed) -> str | None:
    """Return the tier that is insisted on, if one is.

    Raises:
        UsageError: There is no such tier.
    """
    from nono_sandbox.system import BACKEND

    wanted = parsed.one("--tier")
    if wanted is not None and wanted not in BACKEND.tiers:
        raise UsageError(f"no tier {shown(wanted)} here", " or ".join(BACKEND.tiers))
    return wanted


def likely_network(parsed: Parsed) -> str:
    """Return the kind of network that the policy probably says."""
    from nono_sandbox.confinement import CLOSED, OPEN, PORTS

    if parsed.flag(OPEN_NET):
        return OPEN
    return PORTS if parsed.all("--connect-port") or parsed.all("--bind-port") else CLOSED


def request(parsed: Parsed, workspace: str | None = None) -> Request:
    """Return what *parsed* asks of a policy, for the first tier.

    Without a *workspace* named, it is the current directory, or the one to be taken for that,
    which is granted only if an option or a profile says so.

    Raises:
        UsageError: The value of an option isn't one.
    """
    from nono_mcp import places
    from nono_mcp.policy.request import Request
    from nono_sandbox.confinement import NAMESPACES

    here = current_directory()
    profile = parsed.one("--profile")
    if profile is not None and "/" in profile:
        profile = os.path.join(here, profile)
    granted = workspace is not None or parsed.flag(ALLOW_CWD)
    named = workspace or parsed.one("--workdir") or ""
    environ = os.environ
    return Request(
        workspace=os.path.join(here, "" if named == "." else named),
        tier=NAMESPACES,
        environ=environ,
        home=places.home(environ),
        state_dir=places.state_dir(environ),
        config_dir=places.config_dir(environ),
        base=here,
        profile=profile if profile is not None or granted else SYSTEM,
        flags=document(parsed, granted=granted),
        # A workspace that nothing grants may be whatever it is.
        broad_workspace=parsed.flag(BROAD) or (profile is None and not granted),
    )


def current_directory() -> str:
    """Return where we are.

    Raises:
        UsageError: Nowhere.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError(
            "the current directory doesn't exist any more", "start in one that does"
        ) from None


def document(parsed: Parsed, *, granted: bool) -> Document:
    """Return the options as the topmost layer of a policy.

    Raises:
        UsageError: The value of an option isn't one.
    """
    from nono_mcp.policy.document import (
        CommandsSection,
        Document,
        EnforcementSection,
        FilesystemSection,
        LimitsSection,
        ProcessSection,
    )

    paths = {name[2:].replace("-", "_"): parsed.all(name) for name, _ in PATHS}
    if parsed.flag(ALLOW_CWD) and parsed.one("--profile") is not None:
        paths["allow"] = ("$WORKSPACE", *paths["allow"])
    bare = not granted and parsed.one("--profile") is None
    return Document(
        filesystem=FilesystemSection(
            **paths,
            tools=True if bare else None,
            read_only=True if parsed.flag(READ_ONLY) else None,
        ),
        network=_network(parsed),
        limits=LimitsSection(
            timeout_s=option_values.given(parsed, "--timeout", option_values.seconds),
            cpu_s=option_values.given(parsed, "--cpu", option_values.seconds),
            memory_max=option_values.given(parsed, "--memory", option_values.size),
            processes_max=option_values.given(parsed, "--max-processes", option_values.count),
            open_files_max=option_values.given(parsed, "--max-open-files", option_values.count),
            file_size_max=option_values.given(parsed, "--max-file-size", option_values.size),
            disk_max=option_values.given(parsed, "--max-disk", option_values.size),
        ),
        environment=_environment(parsed),
        commands=CommandsSection(blocked=_commands(parsed)),
        process=ProcessSection(ptrace=True if parsed.flag(PTRACE) else None),
        enforcement=EnforcementSection(best_effort=True if parsed.flag(BEST_EFFORT) else None),
    )


def _network(parsed: Parsed) -> NetworkSection:
    from nono_mcp.policy.document import NetworkSection

    given = [option for option in (BLOCK_NET, OPEN_NET) if parsed.flag(option)]
    ports = [name for name in ("--connect-port", "--bind-port") if parsed.all(name)]
    hosts = [name for name, _ in (*host_flags.HOSTS, *host_flags.AROUND) if parsed.all(name)]
    said = [*(option.name for option in given), *ports[:1], *hosts[:1]]
    if len(said) > 1:
        raise UsageError(f"{said[0]} and {said[1]} contradict each other")
    if given:
        return NetworkSection(mode="closed" if given[0] is BLOCK_NET else "open")
    if hosts:
        return host_flags.section(parsed)
    return NetworkSection(
        connect_ports=tuple(
            option_values.port(text, "--connect-port") for text in parsed.all("--connect-port")
        ),
        bind_ports=tuple(
            option_values.port(text, "--bind-port") for text in parsed.all("--bind-port")
        ),
    )


def _environment(parsed: Parsed) -> EnvironmentSection:
    from nono_mcp.policy import environment
    from nono_mcp.policy.document import EnvironmentSection

    passed, given = [], []
    for text in parsed.all("--env"):
        name, equals, value = text.partition("=")
        option_values.as_policy("--env", environment.check_name, name)
        option_values.as_policy("--env", environment.check_value, name, value)
        if equals:
            given.append((name, value))
        else:
            passed.append(name)
    return EnvironmentSection(tuple(passed), tuple(given))


def _commands(parsed: Parsed) -> tuple[str, ...]:
    names = parsed.all("--block-command")
    if names:
        from nono_mcp.policy.paths import check_command

        for name in names:
            path = name if "/" not in name else os.path.abspath(name)
            option_values.as_policy("--block-command", check_command, path)
    return names
