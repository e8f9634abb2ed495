"""WSL2 recognised, and what of it reaches past a Linux sandbox.

WSL2 is a Linux kernel in a virtual machine, so Landlock and namespaces are probed there as
anywhere. Two things differ. Windows drives are mounted over 9P ("drvfs"), where modes, owners and
events are approximations, and a grant there is a grant of Windows files. And *interop*: a binfmt
handler gives a Windows executable, whatever its name, to `/init`, which asks Windows to start it,
outside of everything. The kernel holds the handler open (flag F of binfmt_misc), so hiding `/init`
alone closes nothing: what closes it is that the sockets of `/run/WSL`, by which it asks, are out
of reach, and that no worker can make a vsock. Both are denied unless a person gives that up.

Sources: Microsoft's WSL documentation ("Advanced settings configuration", "File permissions for
WSL"); /proc/version and /proc/mounts as users of WSL2 show them; proc_mounts(5).

Nobody has run this on WSL2: the texts in the tests are what others published.

Architecture invariant: no I/O; texts come in as strings, findings go out as values.
"""

from __future__ import annotations

from nono_sandbox.confinement import READ, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Confinement

MOUNTS_FILE = "/proc/self/mounts"
INTEROP_FILES = (
    "/proc/sys/fs/binfmt_misc/WSLInterop",
    "/proc/sys/fs/binfmt_misc/WSLInterop-late",
)
"""Either is there, and says "enabled", where Windows executables start by their name."""
INTEROP_SOCKETS = "/run/WSL"
"""Where the handler finds Windows: a socket for each session."""
INTEROP_HANDLER = "/init"
"""What binfmt_misc hands a Windows executable to; a worker has no other use for it."""

_WINDOWS_FILE_SYSTEMS = ("9p", "drvfs", "virtiofs")


class Mount(Value):
    """A mount whose files are kept by Windows."""

    path: str
    file_system: str
    source: str


class Finding(Value):
    """Something a person on WSL2 should know, and what to do about it."""

    id: str
    path: str
    message: str


def is_wsl2(version: str) -> bool:
    """Return whether *version*, the text of /proc/version, is that of a WSL2 kernel."""
    text = version.lower()
    # WSL1 has no Linux kernel and says "Microsoft" alone; a kernel built by the person keeps
    # whatever name they gave it, and is then told by its interop.
    return "microsoft" in text and ("wsl2" in text or "microsoft-standard" in text)


def is_wsl1(version: str) -> bool:
    """Return whether *version* is that of WSL1, which has neither Landlock nor namespaces."""
    return "microsoft" in version.lower() and not is_wsl2(version)


def interop_enabled(texts: dict[str, str]) -> bool:
    """Return whether Windows executables start; *texts* are those of INTEROP_FILES that exist."""
    return any(text.startswith("enabled") for text in texts.values())


def windows_mounts(mounts: str) -> tuple[Mount, ...]:
    """Return the mounts of Windows' files in *mounts*, the text of /proc/self/mounts.

    A line that isn't of that format is left out: the kernel writes none such.
    """
    found = []
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4 or fields[2] not in _WINDOWS_FILE_SYSTEMS:  # noqa: PLR2004 - what, where, kind, how
            continue
        found.append(Mount(_unescaped(fields[1]), fields[2], _unescaped(fields[0])))
    return tuple(sorted(found, key=lambda mount: mount.path))


def _unescaped(field: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline, backslash and hash."""
    parts = field.split("\\")
    text = parts[0]
    for part in parts[1:]:
        digits = part[:3]
        octal = len(digits) == 3 and all(digit in "01234567" for digit in digits)  # noqa: PLR2004 - digits of an octal escape
        text += chr(int(digits, 8)) + part[3:] if octal else "\\" + part
    return text


def findings(confinement: Confinement, mounts: str, interop: dict[str, str]) -> tuple[Finding, ...]:
    """Return what doctor says of *confinement* on WSL2, in a fixed order."""
    windows = windows_mounts(mounts)
    found = []
    for grant in sorted(confinement.grants, key=lambda grant: (grant.path, grant.exact)):
        mount = mount_of(grant.path, windows)
        if mount is not None:
            found.append(
                Finding(
                    "wsl.windows-files",
                    grant.path,
                    f"lies on {mount.file_system} ({mount.source}): modes and events there are "
                    "Windows', and snapshots read every file; keep work in the Linux file system",
                )
            )
        if not grant.exact and grant.access & WRITE:
            inner = [mount.path for mount in windows if _inside(mount.path, grant.path)]
            found += [
                Finding("wsl.windows-inside", path, f"Windows' files inside {grant.path!r}")
                for path in inner
                if path != grant.path
            ]
    if interop_enabled(interop):
        found += [
            Finding(
                "wsl.interop",
                grant.path,
                "Windows executables here would start outside the sandbox: executing is closed",
            )
            for grant in confinement.grants
            if grant.access & READ and mount_of(grant.path, windows) is not None
        ]
    return tuple(found)


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return the innermost of *mounts* that *path* lies on."""
    around = [mount for mount in mounts if _inside(path, mount.path)]
    return max(around, key=lambda mount: len(mount.path), default=None)


def _inside(path: str, root: str) -> bool:
    return root in (path, "/") or path.startswith(root + "/")
