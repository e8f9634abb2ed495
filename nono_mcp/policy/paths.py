"""Paths compared by components, and the variables a policy writes them with.

Architecture invariant: this module does no I/O; what a path leads to is `resolve`'s to say.
"""

from __future__ import annotations

from nono_mcp.policy.errors import PolicyError, quoted
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_sandbox.confinement import Link

OWN_PROCESS = ("/proc/self", "/proc/thread-self")
"""What leads each process to what the kernel tells of itself (proc_pid(5))."""
VARIABLES = ("WORKSPACE", "HOME", "TMPDIR")
PATH_CHARACTERS_MAX = 4096
COMMAND_CHARACTERS_MAX = 255
COMMAND_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+@-"
)
BROAD = (
    "/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys "
    "/tmp /usr /usr/local /var /Applications /Library /System /Users /Volumes /private"
)
"""Directories that hold what isn't one piece of work; as a workspace they need a yes."""


class Place(Value):
    """Where a path leads on this machine, as it was found once."""

    text: str
    """The absolute path that was looked up."""
    path: str
    """Its location, free of symlinks and `..`."""
    kind: str
    """directory, file, other, or nothing if it couldn't be opened."""
    identity: tuple[int, int] | None = None
    """(st_dev, st_ino)"""
    links: tuple[Link, ...] = ()
    """The symlinks met on the way, each at its real location."""
    errno: int = 0
    is_loose: bool = False
    """It's found by other spellings too, and each is a name of its own to the kernel."""


def covers(parent: str, path: str) -> bool:
    """Tell whether *path* is *parent* or lies beneath it; both are absolute and normal."""
    return parent in (path, "/") or path.startswith(parent + "/")


def as_any_process_names_it(written: str, found: str, own: str) -> str:
    """Return *found*, where the normal path *written* leads, by a name that leads there for all.

    *own* is the /proc/PID of whoever looked. To another process /proc/self is another place, and
    what lies behind it too: a working directory, a program.
    """
    if any(covers(name, written) for name in OWN_PROCESS):
        return written
    return f"{OWN_PROCESS[0]}{found[len(own) :]}" if covers(own, found) else found


def ancestors(path: str) -> list[str]:
    """Return every directory above *path*, the nearest first."""
    above = []
    end = path.rfind("/")
    while end > 0:
        above.append(path[:end])
        end = path.rfind("/", 0, end)
    if path != "/":
        above.append("/")
    return above


def is_broad(path: str, home: str) -> bool:
    """Tell whether *path* holds more than one piece of work."""
    return path in BROAD.split() or path == home or path in ancestors(home)


def check(text: str) -> None:
    """Raise PolicyError unless *text* is a path that a policy may hold.

    It is absolute, or led by `~` or a variable, which stands only there and as a whole
    component.
    """
    if not text or "\0" in text or len(text) > PATH_CHARACTERS_MAX:
        raise PolicyError(f"{quoted(text[:64])} isn't a path")
    first = text.partition("/")[0]
    if first in ("", "~"):
        return
    if first.startswith("~"):
        raise PolicyError(
            f"{quoted(text)} names another person's home", hint="write the path out from /"
        )
    if first.startswith("$"):
        if first[1:] not in VARIABLES:
            known = ", ".join(f"${name}" for name in VARIABLES)
            raise PolicyError(
                f"unknown variable {quoted(first)}",
                hint=f"known are {known}; a name that begins with $ is written ./$...",
            )
        return
    raise PolicyError(f"{quoted(text)} is a relative path", hint=f"write $WORKSPACE/{quoted(text)}")


def check_command(text: str) -> None:
    """Raise PolicyError unless *text* names a command, or is a path that a policy may hold."""
    if "/" in text:
        check(text)
    elif not COMMAND_CHARACTERS.issuperset(text) or not 0 < len(text) <= COMMAND_CHARACTERS_MAX:
        raise PolicyError(
            f"{quoted(text[:64])} isn't a command's name",
            hint="letters, digits and . _ + @ -, or the path of a file",
        )
    elif text in (".", ".."):
        raise PolicyError(f"{quoted(text)} is a directory")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Return the absolute path that *text* stands for, tidied but for `..`.

    What `..` leads to depends on symlinks, so it's left for the kernel to say.
    """
    check(text)
    first, slash, rest = text.partition("/")
    if first:
        name = "HOME" if first == "~" else first[1:]
        text = variables[name] + slash + rest
    return "/" + "/".join(part for part in text.split("/") if part not in ("", "."))
