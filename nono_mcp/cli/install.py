"""`nono install`: our server in the configuration of an agent's host."""

from __future__ import annotations

import os
import shlex

from nono_mcp.cli import options, say
from nono_mcp.cli.http_flags import PLAIN
from nono_mcp.cli.options import FailedError, Option, UsageError, nearest, shown
from nono_mcp.policy.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.install.edit import Plan
    from nono_mcp.install.hosts import Host

SCOPE = Option("--scope", "project|user")
DRY_RUN = Option("--dry-run")
UNINSTALL = Option("--uninstall")
URL = Option("--url", "URL")
TOKEN_ENV = Option("--token-env", "NAME")
TOKEN_FILE = Option("--token-file", "FILE")
OPTIONS = (
    SCOPE,
    Option("--project", "DIR"),
    URL,
    TOKEN_ENV,
    TOKEN_FILE,
    PLAIN,
    DRY_RUN,
    UNINSTALL,
    options.JSON,
    options.HELP,
)
USAGE = """\
usage: nono install HOST [OPTION]...

Put the server into the configuration of an agent's host: claude-code, codex, cursor, vscode,
gemini or opencode. What else is in the file stays as it is, comments too; what changes is shown;
the old file is kept beside it (.before-nono), and comes back with --uninstall.

  nono install claude-code
  nono install codex --dry-run
  nono install cursor --url http://127.0.0.1:8080

  --scope project|user     for this project, or for all of yours (default: project; codex: user)
  --project DIR            the project (default: the current directory)
  --url URL                a server by HTTP (nono serve --http), where the host gets a session of
                           its own: URL/mcp/NAME, with the NAME that you say or a random one
  --token-env NAME         the variable in the host's environment that holds the token
                           (default: NONO_TOKEN; vscode asks for it instead)
  --token-file FILE        the file that nono serve --token-file has the token in; it's made if it
                           isn't there, and how the host gets the token from it is told
  --unsafe-plain-http      yes, plain HTTP beyond this machine: whoever is on the way reads it all
  --dry-run                only show what would change
  --uninstall              take the server out again
  --json                   report in JSON

Exit status: 0 it is as asked, 1 the file can't be changed, 2 this usage.
"""


def main(argv: list[str]) -> int:
    """Install as *argv* says and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    # What only this command needs.
    from nono_mcp.install import edit, hosts
    from nono_mcp.install.errors import InstallError

    name = _named(parsed)
    host = hosts.HOSTS[name]
    scope = parsed.one("--scope") or min(host.files, key=[*host.files].index)
    if scope not in (hosts.PROJECT, hosts.USER):
        raise UsageError(f"unknown scope {shown(scope)}", "project or user")
    try:
        project = os.path.abspath(parsed.one("--project") or ".")
        path = host.file(scope, project, os.path.expanduser("~"))
        host = _told_of(host, name, path, parsed)
        planned = edit.plan(host, path, uninstall=parsed.flag(UNINSTALL))
        is_done = planned.changes and not parsed.flag(DRY_RUN)
        _check_token(parsed)
        if not parsed.flag(options.JSON):
            say.out(say.plain(planned.diff()))
        _do(planned, parsed, is_done=is_done)
    except InstallError as error:
        raise FailedError(f"{name}: {error}") from error
    if parsed.flag(options.JSON):
        told = {"host": name, "path": str(planned.path), "changed": is_done}
        say.document({"id": "install", "ok": True, "error": None, **told, "diff": planned.diff()})
    else:
        say.note(_told(planned, is_done=is_done))
        if host.note and not parsed.flag(UNINSTALL):
            say.note(host.note)
        if parsed.one(URL.name) is not None and not parsed.flag(UNINSTALL):
            say.note(_about_token(host, parsed))
    return 0


def _named(parsed: Parsed) -> str:
    from nono_mcp.install import hosts

    if len(parsed.rest) != 1:
        raise UsageError("it takes one HOST", f"one of {', '.join(hosts.HOSTS)}")
    name = parsed.rest[0]
    if name not in hosts.HOSTS:
        hint = nearest(name, hosts.HOSTS) or f"one of {', '.join(hosts.HOSTS)}"
        raise UsageError(f"unknown host {shown(name)}", hint)
    return name


def _told_of(host: Host, name: str, path: str, parsed: Parsed) -> Host:
    """Return *host* with the kind of server that it's to be told of.

    Raises:
        UsageError: There's no server at such an address.
        InstallError: The file at *path* can't be read.
    """
    from nono_mcp.install import edit, remote
    from nono_mcp.install.errors import InstallError

    url, variable = parsed.one(URL.name), parsed.one(TOKEN_ENV.name)
    if parsed.flag(UNINSTALL):
        return host
    if url is None:
        for option in (TOKEN_ENV, TOKEN_FILE, PLAIN):
            if parsed.all(option.name):
                raise UsageError(f"{option.name} is about a server by HTTP", "add --url URL")
        return host.local()
    asked = URL
    try:
        address = remote.parse(url, plain=parsed.flag(PLAIN))
        asked = TOKEN_ENV
        remote.check_variable(variable or remote.VARIABLE)
    except InstallError as error:
        raise UsageError(f"{asked.name}: {error}") from None
    told = address.url(name, edit.present(host, path))
    return host.by_http(told, variable or remote.VARIABLE)


def _check_token(parsed: Parsed) -> None:
    """See to it that the token's file is good, if one is named and it's there.

    Raises:
        FailedError: It isn't this person's alone, or holds no token.
    """
    from nono_mcp.server import ServeError, own_token

    path = _token_file(parsed)
    if path is not None and os.path.lexists(path):
        try:
            own_token.read_or_make(path)
        except ServeError as error:
            raise FailedError(str(error)) from error


def _do(planned: Plan, parsed: Parsed, *, is_done: bool) -> None:
    """Write what is *planned* if it's to be done, and a token's file if one is named and lacks.

    Raises:
        InstallError: It can't be; all is as it was.
    """
    from nono_mcp.install import writing
    from nono_mcp.server import own_token

    path = _token_file(parsed)
    try:
        is_made = path is not None and not parsed.flag(DRY_RUN) and own_token.make(path)
    except OSError as error:
        raise FailedError(f"the token's file {quoted(str(path))}: {error.strerror}") from error
    try:
        if is_done:
            writing.write(planned)
    except BaseException:
        if is_made and path is not None:
            os.unlink(path)
        raise


def _about_token(host: Host, parsed: Parsed) -> str:
    from nono_mcp.install import remote

    path = _token_file(parsed)
    holding = "nono serve says which file holds it" if path is None else f"it's in {quoted(path)}"
    if host.beside is not None:
        return f"it asks for the token: {holding}"
    variable = parsed.one(TOKEN_ENV.name) or remote.VARIABLE
    if path is None:
        return f"it takes the token from {variable}: {holding}"
    command = f'export {variable}="$(cat {shlex.quote(path)})"'
    return f"it takes the token from {variable}; have where it is started say: {say.plain(command)}"


def _token_file(parsed: Parsed) -> str | None:
    if parsed.flag(UNINSTALL):
        return None
    path = parsed.one(TOKEN_FILE.name)
    return None if path is None else os.path.abspath(path)


def _told(planned: Plan, *, is_done: bool) -> str:
    path = quoted(str(planned.path))
    if not planned.changes:
        return f"nothing to do: {path} is as it should be"
    if not is_done:
        return f"dry run: {path} would {'go' if planned.after is None else 'change'}"
    if planned.after is None:
        return f"removed: {path}, which held nothing else"
    has_kept = planned.before is not None and planned.kept_after is not None
    kept = f"; as it was: {quoted(str(planned.backup))}" if has_kept else ""
    return f"written: {path}{kept}"
