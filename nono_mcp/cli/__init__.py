"""The command line: the one place that prints and chooses an exit status.

- Commands: `run`, `shell`, `serve`, `proxy`, `policy`, `why`, `trust`, `doctor`, `credential`,
  `credential_trial`, `audit`, `audit_proofs`, `snapshot`, `rollback`, `install`, `completion`,
  `help`, `version`.
- How a run begins: `begin_run`, `run_so_far`, `recalled_run`, `remember_run`; the rest of it:
  `confined`, `required`, `attend`, `relay`, `terminal`, `signals`, `patience`, `ending`,
  `denial_hints`; its guard: `run_guard`, `guard_report`; its log: `audited`; its proxy:
  `run_proxy`; its undo: `undoing`, `choosing`.
- What commands share: `policy_preview`, `describe`, `workspace_snapshots`, `proxy_alone`.
- Options: `options`, `option_values`, `policy_flags`, `host_flags`, `http_flags`,
  `audit_options`.
- The person: `say`, `asking`, `progress`, `failures`.
"""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = {
    "run": "run a program, confined",
    "shell": "start a shell, confined",
    "why": "say whether a path or host is open, and by which rule",
    "doctor": "say what this machine can enforce, and how",
    "policy": "show, validate, list and start policies",
    "trust": "let a workspace's nono.toml count",
    "install": "put the server into an agent's configuration",
    "serve": "serve a workspace to an agent by MCP",
    "proxy": "start the proxy alone, for containers",
    "snapshot": "keep a workspace as it is, and look at what is kept",
    "rollback": "put a workspace back as it was",
    "audit": "read and verify the log of what was done",
    "credential": "keep credentials in the keychain",
    "demo": "see it work, with a real client and server",
    "completion": "print the completion of a shell",
    "help": "say this",
}
"""The commands; each is a module of its own beside this one, but for the demonstration."""
ELSEWHERE = {"demo": "nono_mcp.demo", "run": "nono_mcp.cli.begin_run"}
THIRD_PARTY = ("audit", "completion", "credential", "demo", "proxy", "rollback", "snapshot")
"""Those that need more than the standard library from their first line on."""
CONFINED = ("run", "shell")
"""Those that start a program, and have nothing to collect until it runs."""

INTERRUPTED = 128 + 2


def main(argv: list[str]) -> int:
    """Run the command *argv* names and return the exit status."""
    name, *rest = argv or ["help"]
    if name in ("--version", "--help", "-h"):
        name = "help" if name != "--version" else "version"
    try:
        return _command(name)(rest)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost edge: one line, no traceback
        from nono_mcp.cli import failures

        return failures.report(name if name in COMMANDS else "", rest, error)


def _command(name: str) -> Callable[[list[str]], int]:
    if name not in COMMANDS and name != "version":
        from nono_mcp.cli.options import UsageError, nearest, shown

        raise UsageError(f"unknown command {shown(name)}", nearest(name, COMMANDS))
    if name in THIRD_PARTY:
        from nono_mcp._site import enable_site

        enable_site()
    if name in CONFINED:
        # Looking for cycles among what the start imports costs a tenth of it.
        gc.disable()
    # `importlib` would cost an import of its own.
    module = __import__(ELSEWHERE.get(name, f"nono_mcp.cli.{name}"), fromlist=["main"])
    main: Callable[[list[str]], int] = module.main
    return main
