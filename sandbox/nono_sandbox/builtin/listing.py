"""What is in a directory, and to some depth below."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

ENTRIES_MAX = 20_000
"""How many entries are looked at."""
_KINDS = {stat.S_IFDIR: "/", stat.S_IFLNK: "@", stat.S_IFIFO: "|", stat.S_IFSOCK: "="}


def list_directory(request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """List `path` and `depth` levels of directories: [name, kind, size, link's target] each.

    `limit` bounds what is told of, `total` is how many there are, as far as they were looked at.
    """
    path = request["path"]
    entries: list[list[object]] = []
    total = 0
    for name, status in _walk(path, "", request["depth"]):
        total += 1
        if len(entries) < request["limit"]:
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "")
            target = _target(f"{path}/{name}") if kind == "@" else ""
            entries.append([name, kind, status.st_size, target])
        if total >= ENTRIES_MAX:
            break
    return {"entries": entries, "total": total, "path": os.path.realpath(path)}, b""


def _walk(top: str, below: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(f"{top}/{below}" if below else top) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # gone, or not to be looked at
        yield name, status
        if depth > 1 and stat.S_ISDIR(status.st_mode):
            try:
                yield from _walk(top, name, depth - 1)
            except OSError:
                continue  # closed; its name was told of


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
