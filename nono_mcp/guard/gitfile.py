"""Where the `.git` file of a working tree leads (gitrepository-layout(5)).

Architecture invariant: what can't be told from the text, and from directories that are no
symlinks, leads nowhere.
"""

from __future__ import annotations

from nono_mcp.guard import finding, spots, ways

_LEAD = b"gitdir: "
_BYTES_MAX = 4096
_PARTS = frozenset((spots.MODULES, spots.WORKTREES))


def leads_inside(data: bytes, directory: tuple[str, ...], root: int, root_path: str) -> bool:
    """Tell whether *data*, of a `.git` in *directory*, names a repository that is looked at too.

    Or one that could be, if it were there. *directory* is beneath the open *root*, whose path is
    *root_path*.
    """
    if not data.startswith(_LEAD) or b"\0" in data or len(data) > _BYTES_MAX:
        return False
    parts = _target(ways.decoded(data[len(_LEAD) :].rstrip(b"\r\n")), directory, root_path)
    if parts is None:
        return False
    if finding.is_reached(parts, root):
        return True
    return not _PARTS.isdisjoint(parts[1:]) and ways.is_absent(parts, root)


def way(data: bytes, directory: tuple[str, ...], root_path: str) -> list[str]:
    """Return all paths in the workspace on the way that *data*, of a `.git` file, plainly names."""
    if not data.startswith(_LEAD) or b"\0" in data or len(data) > _BYTES_MAX:
        return []
    text = ways.decoded(data[len(_LEAD) :].rstrip(b"\r\n"))
    parts = _target(text, directory, root_path) or ()
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _target(text: str, directory: tuple[str, ...], root_path: str) -> tuple[str, ...] | None:
    if text.startswith("/"):
        lead = root_path.rstrip("/") + "/"
        if not text.startswith(lead):
            return None
        text, directory = text[len(lead) :], ()
    parts = text.split("/")
    # Those at the beginning go up from real directories; a later one might from a symlink's.
    while parts[:1] == [".."]:
        if not directory:
            return None
        directory = directory[:-1]
        del parts[0]
    if any(part in ("", ".", "..") for part in parts):
        return None
    return (*directory, *parts)
