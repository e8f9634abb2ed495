"""A host's configuration with our server in it, or without: planned and shown.

What was there before our server was put in is kept beside it, and comes back to the letter when
that is taken out, unless somebody wrote something else there meanwhile: then only ours is taken
out of the text.

Architecture invariant: this module only reads; `writing` does what was planned.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nono_mcp.install import jsonc, tables
from nono_mcp.install.errors import InstallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.install.hosts import Host

FILE_BYTES_MAX = 4 * 1024 * 1024
BACKUP = ".before-nono"
"""What the old file's name ends in; one is kept."""
_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to one file, and to the one that is kept beside it.

    Of each what it says, or None where there is no such file.
    """

    path: Path
    before: str | None
    after: str | None
    kept_before: str | None
    kept_after: str | None

    @property
    def changes(self) -> bool:
        """Tell whether there is anything to do."""
        return self.after != self.before

    @property
    def backup(self) -> Path:
        """Return where the old file is kept."""
        return backup_of(self.path)

    def diff(self) -> str:
        """Return what changes, as a unified diff."""
        old, new = (self.before or "").splitlines(), (self.after or "").splitlines()
        name = str(self.path)
        return "".join(
            f"{line}\n" for line in difflib.unified_diff(old, new, name, name, "", "", 3, "")
        )


def backup_of(path: Path) -> Path:
    """Return where what was at *path* is kept."""
    return path.with_name(path.name + BACKUP)


def plan(host: Host, path: str, *, uninstall: bool) -> Plan:
    """Return what is to be done to the file at *path*.

    Raises:
        InstallError: It can't be read, or not be changed without changing what isn't ours.
    """
    real = real_path(path)
    before = read(real)
    kept = read(backup_of(real))
    if before is None:
        after = None if uninstall else _edited(host, "", _with)
        return Plan(real, None, after, kept, kept)
    original = _original(host, before, kept)
    if not uninstall:
        after = _edited(host, before, _with)
        # What is kept stays, if that is what the person wrote, and what goes is ours.
        stays = after == before or (original is not None and _is_as_told(host, before))
        return Plan(real, before, after, kept, kept if stays else before)
    if original is not None:
        return Plan(real, before, original.text, kept, None)
    after = _edited(host, before, _without)
    if after != before and not _had_parent(host, kept):
        after = _edited(host, after, _without_parent)
    return Plan(real, before, after, kept, kept if after == before else before)


def real_path(path: str) -> Path:
    """Return where *path* leads: a link into a collection of settings stays one.

    Raises:
        InstallError: Nowhere.
    """
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError) as error:
        raise InstallError(f"it leads nowhere: {error}") from error


def present(host: Host, path: str) -> object:
    """Return which address of a server stands in the file at *path* already, if one does.

    Raises:
        InstallError: It can't be read.
    """
    return _at(_document(host, read(real_path(path)) or ""), (*host.path, host.address_key))


def read(path: Path) -> str | None:
    """Return what is in the file *path*, or None if there's no such file.

    Raises:
        InstallError: It can't be read, or is too long.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise InstallError(f"it has more than {FILE_BYTES_MAX} bytes")
        return data.decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InstallError(f"it can't be read: {error}") from error


@dataclass(frozen=True, slots=True)
class _Original:
    """What was there before our server was put in, or None if nothing was."""

    text: str | None


def _original(host: Host, text: str, kept: str | None) -> _Original | None:
    """Return what was *kept*, if nothing but ours came to *text* since; else None."""
    try:
        if _entry(host, text) is None or (kept is not None and _entry(host, kept) is not None):
            return None
        put_in = _edited(host.local(), kept or "", _with)
        is_same = _edited(host, put_in, _without) == _edited(host, text, _without)
    except InstallError:
        return None  # what is kept isn't understood; of the text itself others tell
    return _Original(kept) if is_same else None


def _is_as_told(host: Host, text: str) -> bool:
    """Tell whether our entry in *text* is as it was written, by nobody but us."""
    entry = _entry(host, text)
    is_remote = isinstance(entry, dict) and entry.keys() == host.remote.keys()
    return is_remote or entry in (host.server, host.started)


def _entry(host: Host, text: str) -> object:
    return _at(_document(host, text), host.path)


def _had_parent(host: Host, kept: str | None) -> bool:
    """Tell whether what ours stands in was there before, as far as what was *kept* tells."""
    try:
        if kept is None or _entry(host, kept) is not None:
            return False
        return _at(_document(host, kept), host.path[:-1]) is not None
    except InstallError:
        return True


def _document(host: Host, text: str) -> object:
    text = text.removeprefix(_MARK)
    return tables.loads(text) if host.toml else jsonc.loads(text)


def _edited(host: Host, text: str, edit: Callable[[Host, str], str]) -> str:
    """Return *text* after *edit*, which sees neither its mark nor how its lines end."""
    # Some editors begin a file with it; it stays, and is nothing of the document.
    mark = _MARK if text.startswith(_MARK) else ""
    document = text.removeprefix(mark)
    # Where only some lines end so each stays as it is.
    if not 0 < document.count("\r\n") == document.count("\n"):
        return mark + edit(host, document)
    return mark + edit(host, document.replace("\r\n", "\n")).replace("\n", "\r\n")


def _with(host: Host, text: str) -> str:
    if host.toml:
        return tables.with_table(text, host.path, host.server, host.stale)
    changed = _without_stale(host, text)
    expected = jsonc.loads(changed)
    for key, value in host.server.items():
        present = _at(jsonc.loads(changed), (*host.path, key))
        if present != value:
            changed = jsonc.with_member(changed, (*host.path, key), value)
    _check(changed, _merged(expected, host.path, dict(host.server)))
    return _with_beside(changed, *host.beside) if host.beside and host.is_remote else changed


def _without_stale(host: Host, text: str) -> str:
    for key in sorted(host.stale):
        expected = jsonc.loads(text)
        parent = _at(expected, host.path)
        if isinstance(parent, dict) and key in parent:
            del parent[key]
            text = jsonc.without_member(text, (*host.path, key))
            _check(text, expected)
    return text


def _with_beside(text: str, key: str, value: object) -> str:
    known = _at(jsonc.loads(text), (key,))
    if known is None:
        return jsonc.with_member(text, (key,), value)
    ours = value if isinstance(value, list) else []
    if not isinstance(known, list) or any(one not in known for one in ours):
        raise InstallError(f"add to its {key} by hand, and try again: {json.dumps(ours)[1:-1]}")
    return text


def _without(host: Host, text: str) -> str:
    if host.toml:
        return tables.without_table(text, host.path)
    changed = jsonc.without_member(text, host.path)
    expected = jsonc.loads(text)
    parent = _at(expected, host.path[:-1])
    if isinstance(parent, dict):
        parent.pop(host.path[-1], None)
    _check(changed, expected)
    if host.beside is not None and _at(expected, host.beside[:1]) == host.beside[1]:
        changed = jsonc.without_member(changed, host.beside[:1])
    return changed


def _without_parent(host: Host, text: str) -> str:
    """Return *text* without the object that ours stood in, if nothing else is in it."""
    parent = host.path[:-1]
    if host.toml or _at(jsonc.loads(text), parent) != {}:
        return text
    return jsonc.without_member(text, parent)


def _at(document: object, path: tuple[str, ...]) -> object:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _merged(document: object, path: tuple[str, ...], ours: dict[str, object]) -> object:
    known = dict(document) if isinstance(document, dict) else {}
    if not path:
        return known | ours
    return known | {path[0]: _merged(known.get(path[0], {}), path[1:], ours)}


def _check(text: str, expected: object) -> None:
    if jsonc.loads(text) != expected:
        raise InstallError("it is written in a way that isn't understood: edit it by hand")
