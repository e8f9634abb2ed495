"""What is asked of a policy, and what it answers: the values of `load.prepare`.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy.document import Document
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_sandbox.confinement import Confinement


class Request(Value):
    """Everything a confinement follows from; paths are absolute, save those of *flags*."""

    workspace: str
    tier: str
    """NAMESPACES, LANDLOCK or SEATBELT: what can be expressed differs."""
    environ: Mapping[str, str]
    home: str
    state_dir: str
    config_dir: str
    cwd: str | None = None
    """Where the program starts; None is the workspace or, if that may not be read, the home."""
    base: str | None = None
    """What relative paths of *flags* are relative to; None is the workspace."""
    profile: str | None = None
    """A name, or a path with a slash in it; None is "default", or the trusted `nono.toml`."""
    flags: Document = Document()
    """What the command line adds; its rules are named as flags (`--allow DIR`)."""
    broad_workspace: bool = False
    """The person's explicit yes to `/`, $HOME or the like as the workspace."""
    proxy_port: int = 0
    """Where no namespaces are: the loopback port of the proxy, if the policy has one."""
    tmpdir: str | None = None
    """Where no namespaces are: a directory of the session's own. With them /tmp is private."""
    owner: str | None = None
    """Whose the snapshots are that are taken, of several who share the workspace, and who sees
    theirs alone. None is the person, who sees everybody's."""
    open_files_usual: int | None = None
    """How many files programs may have open that no policy says otherwise for; None is as many as
    this process may."""


class Rule(Value):
    """One line of policy as it met this machine, for explaining."""

    path: str
    access: int
    text: str
    """The rule as the person would know it: `--allow ./data`, `profile default: read /usr`."""
    code: str = ""
    """Of a denial: what `why` answers; empty for a grant."""
    remedy: str = ""
    exact: bool = False


class Prepared(Value):
    """A policy, ready to be enforced, and what it came from."""

    confinement: Confinement
    rules: tuple[Rule, ...]
    document: Document
    """All layers merged."""
    home: str
    """Where the person's own home is."""
    given_up: tuple[str, ...] = ()
    """The protected paths that bypasses open."""
    notices: tuple[str, ...] = ()
    """What the person should be told: an untrusted `nono.toml`, for one."""
    private_home: str | None = None
    """The sandbox's own home of this workspace, if it has one; `home.ensure` makes it."""
    awaited: tuple[tuple[str, str], ...] = ()
    """Denied and protected paths inside grants that don't exist now, and what they are."""
    blocked: tuple[tuple[str, str], ...] = ()
    """Names of commands that aren't to be run, and the scripts that say so in their place."""
    unenforced_absent: tuple[str, ...] = ()
    """Protected paths inside grants that don't exist now, and could be made."""
    askable: tuple[tuple[str, int], ...] = ()
    """Where an agent may ask for what, if the policy lists it: location and access."""
