"""What WSL2 adds to a policy: Windows programs closed, Windows' files warned of.

Imported only where the kernel hands Windows programs to Windows, or says that it is WSL's.
`nono_sandbox.wsl` says what that means; nobody has run it on WSL2.
"""

from __future__ import annotations

from nono_mcp.policy import resolve
from nono_mcp.policy.paths import covers
from nono_mcp.policy.protection import Protected
from nono_sandbox import wsl
from nono_sandbox.confinement import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nono_sandbox.confinement import Confinement
    from nono_sandbox.wsl import Mount

FILES = wsl.INTEROP_FILES
CLOSED = (wsl.INTEROP_SOCKETS, wsl.INTEROP_HANDLER)
MOUNTS = wsl.MOUNTS_FILE
TEXT_BYTES_MAX = 1 << 20


def protected(granted: Iterable[str]) -> Iterator[Protected]:
    """Yield what starts Windows programs, where it lies in what is *granted*.

    It is closed as all that is protected is: but for who grants and bypasses it by name.
    """
    if not wsl.interop_enabled(texts()):
        return
    paths = tuple(granted)
    for path in CLOSED:
        place = resolve.resolve(path)
        if place.kind and any(covers(around, place.path) for around in paths):
            yield Protected(place, READ | WRITE, "what starts Windows programs")


def notices(confinement: Confinement) -> list[str]:
    """Return what to tell the person of grants that are Windows' files."""
    found = wsl.findings(confinement, _text(MOUNTS), texts())
    return [f"{one.path}: {one.message}" for one in found]


def texts() -> dict[str, str]:
    """Return the texts of the files that say whether Windows programs start, where they are."""
    return {path: text for path in FILES if (text := _text(path))}


def windows_mounts() -> tuple[Mount, ...]:
    """Return where Windows' files are mounted."""
    return wsl.windows_mounts(_text(MOUNTS))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(TEXT_BYTES_MAX)
    except OSError:
        return ""
