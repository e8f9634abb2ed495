"""The sandbox's own home of a workspace: made once, kept for the caches in it.

Workers write in it. So everything here goes by descriptors that follow no symlink, and what is
found there is left alone.
"""

from __future__ import annotations

import os

from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.paths import ancestors
from nono_sandbox import private
from nono_sandbox.confinement import NAMESPACES
from nono_sandbox.opath import open_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nono_mcp.policy.request import Prepared

GIT_CONFIG_BYTES_MAX = 64 * 1024
GIT_CONFIGS = (".gitconfig", ".config/git/config")
GIT_KEYS = ("name", "email")
"""All that is taken over from the person's Git settings: who makes a commit."""
_TOLD_MAX = 4

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
GIT_CONFIG = ".gitconfig"


def ensure(prepared: Prepared) -> None:
    """Make the private home of *prepared*, if it has one, and what leads from it to grants.

    And in TMPDIR, where that's needed, what stands for commands that are blocked.

    Raises:
        PolicyError: Something that isn't ours stands where it should be.
        OSError: It can't be made.
    """
    if prepared.blocked:
        # Only who blocks something pays for the import.
        from nono_mcp.policy import commands

        commands.ensure(prepared)
    path = prepared.private_home
    if path is None:
        return
    homes = path.rpartition("/")[0]
    private.ensure_directories(homes.rpartition("/")[0])
    for directory in (homes, path):
        private.ensure_directory(directory)
    home = _opened(path)
    try:
        _check_ours(home, path)
        _write_git_config(home, prepared.home)
        for name, target in links(prepared):
            _link(home, name, target)
    finally:
        os.close(home)


def _opened(path: str, parent: int | None = None) -> int:
    """Open a directory, which a call may have shut."""
    try:
        return os.open(path, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        open_up(path, parent)
        return os.open(path, _DIRECTORY, dir_fd=parent)


def _check_ours(home: int, path: str) -> None:
    status = os.fstat(home)
    if status.st_uid != os.geteuid():
        raise PolicyError("the sandbox's own home belongs to somebody else", file=path)
    if status.st_mode & 0o777 != 0o700:  # noqa: PLR2004 - a mode
        os.fchmod(home, 0o700)


def links(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """Yield what of the person's home is found in the private one by a symlink.

    In the first tier grants are mounted there, and only the person's own symlinks are repeated.
    """
    prefix = prepared.home + "/"
    if prepared.confinement.tier != NAMESPACES:
        # The private home lies in the person's, and needs no way to itself.
        paths = {grant.path for grant in prepared.confinement.grants} - {prepared.private_home}
        for path in sorted(paths):
            if path.startswith(prefix) and paths.isdisjoint(ancestors(path)):
                yield path[len(prefix) :], path
    for link in prepared.confinement.links:
        if link.path.startswith(prefix):
            yield link.path[len(prefix) :], link.target


def astray(prepared: Prepared) -> str:
    """Return where writes may lie after what leads to a grant in the private home was moved."""
    prefix = prepared.home + "/"
    found = [one.path for one in prepared.confinement.grants if one.path.startswith(prefix)]
    found += [one.path for one in prepared.confinement.links if one.path.startswith(prefix)]
    paths = {path: path for path in found if not set(found) & {*ancestors(path)}}
    shown = [quoted(path) for path in list(paths)[:_TOLD_MAX]]
    named = ", ".join(shown) + (" ..." if len(paths) > _TOLD_MAX else "")
    return (
        "what leads to a grant beneath the home was moved or removed meanwhile, by another session "
        f"or run of this workspace or by itself: what it wrote to {named} may lie in "
        f"{quoted(prepared.private_home or '')} instead; look there, and run it again"
    )


def _link(home: int, name: str, target: str) -> None:
    """Make a symlink in *home*, unless a worker has put something else there or on the way."""
    *above, last = name.split("/")
    directory = os.dup(home)
    try:
        for part in above:
            private.ensure_directory(part, directory)
            below = _opened(part, directory)
            os.close(directory)
            directory = below
        os.symlink(target, last, dir_fd=directory)
    except (FileExistsError, NotADirectoryError):
        pass  # the worker's own doing, to its own loss; ELOOP is ENOTDIR with O_DIRECTORY
    finally:
        os.close(directory)


def _write_git_config(home: int, person_home: str) -> None:
    try:
        descriptor = private.open_file(GIT_CONFIG, private.NEW, home)
    except FileExistsError:
        return
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(_git_config(person_home))


def _git_config(person_home: str) -> str:
    """Return Git settings that say who the person is, and nothing else of theirs."""
    values: dict[str, str] = {}
    for name in reversed(GIT_CONFIGS):
        try:
            descriptor = os.open(f"{person_home}/{name}", _READ)
            with open(descriptor, encoding="utf-8") as file:
                values.update(_identity(file.read(GIT_CONFIG_BYTES_MAX)))
        except (OSError, UnicodeDecodeError):
            continue  # without it, a commit asks who makes it
    if not values:
        return ""
    lines = (f'\t{key} = "{value}"' for key, value in values.items())
    return "\n".join(("[user]", *lines, ""))


def _identity(text: str) -> Iterator[tuple[str, str]]:
    """Yield the plain name and email of a Git configuration's [user] section."""
    in_user = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            in_user = line.lower() == "[user]"
        key, _, value = line.partition("=")
        key, value = key.strip().lower(), value.strip()
        if value[:1] == '"' == value[-1:] and len(value) > 1:
            value = value[1:-1]
        plain = value.isprintable() and not any(mark in value for mark in '"\\#;')
        if in_user and key in GIT_KEYS and value and plain:
            yield key, value
