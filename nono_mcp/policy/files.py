"""The person's own policy files: opened once, and read only if nobody else can have written them.

A profile is `CONFIG/profiles/NAME.toml`. A workspace's `nono.toml` counts only if `CONFIG/trusted`
holds a line `SHA-256 SP SP PATH` for its very bytes: what an agent writes there counts nothing.
"""

from __future__ import annotations

import errno
import os
import stat

from nono_mcp.policy.bounds import TEXT_BYTES_MAX
from nono_mcp.policy.digest import sha256
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.layers import WORKSPACE_POLICY
from nono_sandbox import private

TRUSTED = "trusted"
PROFILES = "profiles"

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def profile_path(config_dir: str, name: str) -> str:
    """Return where the person's profile *name* is kept."""
    return f"{config_dir}/{PROFILES}/{name}.toml"


def read_own(path: str) -> str | None:
    """Return the text of the person's file *path*, or None if there is none.

    Raises:
        PolicyError: Somebody else can have written it, or it can't be read as text.
    """
    try:
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        status = os.fstat(descriptor)
        _check_owner(path, status)
        _check_owner(os.path.dirname(path), os.stat(os.path.dirname(path)))
        return _text(_read(descriptor, path, status), path)
    finally:
        os.close(descriptor)


def read_workspace(workspace: str, config_dir: str) -> tuple[str | None, str]:
    """Return the text of the workspace's policy if the person trusted it, and what to tell them.

    Neither is said of a workspace without one.
    """
    path = f"{workspace}/{WORKSPACE_POLICY}"
    try:
        data = _bytes(path)
    except FileNotFoundError:
        return None, ""
    except PolicyError as error:
        return None, f"{error.message}: {quoted(path)} is ignored"
    if f"{sha256(data)}  {path}" not in (read_own(f"{config_dir}/{TRUSTED}") or "").splitlines():
        return None, (
            f"{quoted(path)} is ignored: you haven't trusted it as it is now "
            f"(read it, then: nono trust {quoted(path)})"
        )
    return _text(data, path), f"{quoted(path)} is applied"


def trust(path: str, config_dir: str) -> str:
    """Trust the workspace policy *path* as it is now, and return its SHA-256.

    What it says is checked first: a file that is no policy can't be trusted.

    Raises:
        PolicyError: It isn't a policy; nothing was trusted.
    """
    # Only this pays for the parser.
    from nono_mcp.policy.parse import parse_text

    directory, name = os.path.split(os.path.abspath(path))
    location = f"{os.path.realpath(directory)}/{name}"
    if name != WORKSPACE_POLICY:
        raise PolicyError(f"{quoted(path)} isn't a workspace's {WORKSPACE_POLICY}")
    if not location.isprintable():
        raise PolicyError(f"{quoted(path)} can't be trusted: its path isn't plain text")
    try:
        data = _bytes(location)
    except FileNotFoundError:
        raise PolicyError(f"{quoted(path)} doesn't exist") from None
    parse_text(_text(data, location), location)
    digest = sha256(data)
    private.ensure_directories(config_dir)
    trusted = f"{config_dir}/{TRUSTED}"
    others = [
        line
        for line in (read_own(trusted) or "").splitlines()
        if line.partition("  ")[2] != location
    ]
    _replace(trusted, "".join(f"{line}\n" for line in [*others, f"{digest}  {location}"]))
    return digest


def profile_names(config_dir: str) -> list[str]:
    """Return the names of the person's profiles, sorted."""
    try:
        names = os.listdir(f"{config_dir}/{PROFILES}")
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def _bytes(path: str) -> bytes:
    """Read a workspace's policy, which is nobody's link."""
    try:
        descriptor = os.open(path, _OPEN | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        return _read(descriptor, path, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _read(descriptor: int, path: str, status: os.stat_result) -> bytes:
    if not stat.S_ISREG(status.st_mode):
        raise PolicyError("a policy must be a regular file", file=path)
    data = b""
    while chunk := os.read(descriptor, TEXT_BYTES_MAX + 1 - len(data)):
        data += chunk
    if len(data) > TEXT_BYTES_MAX:
        raise PolicyError(f"a policy must be at most {TEXT_BYTES_MAX} bytes", file=path)
    return data


def _text(data: bytes, path: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError("not UTF-8", file=path, line=line) from None


def _check_owner(path: str, status: os.stat_result) -> None:
    if status.st_uid not in (os.geteuid(), 0):
        raise PolicyError("belongs to somebody else", file=path, hint="copy it, and read it first")
    if status.st_mode & _OTHERS_WRITE:
        raise PolicyError("can be written by others", file=path, hint=f"chmod go-w {quoted(path)}")


def _unreadable(path: str, error: OSError) -> PolicyError:
    if error.errno == errno.ELOOP:
        return PolicyError("is a symlink", file=path)
    return PolicyError(f"can't be read: {(error.strerror or '').lower()}", file=path)


def _replace(path: str, text: str) -> None:
    """Write a whole new file, private, and put it in place of *path* at once."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = private.open_file(temporary, private.NEW)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
