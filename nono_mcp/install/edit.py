"""A host's configuration with our server in it, or without: planned, shown, written.

Architecture invariant: what is written was planned from what is there now; the old file is kept
beside it, and the new one takes its place in one step.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nono_mcp.install import jsonc, tables
from nono_mcp.install.errors import InstallError
from nono_sandbox import private

if TYPE_CHECKING:
    from nono_mcp.install.hosts import Host

FILE_BYTES_MAX = 4 * 1024 * 1024
BACKUP = ".before-nono"
"""What the old file's name ends in; one is kept."""
_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to one file."""

    path: Path
    before: str | None
    """What it holds now; None if there is no such file."""
    after: str

    @property
    def changes(self) -> bool:
        """Tell whether there is anything to do."""
        return self.after != (self.before or "")

    @property
    def backup(self) -> Path:
        """Return where the old file is kept."""
        return self.path.with_name(self.path.name + BACKUP)

    def diff(self) -> str:
        """Return what changes, as a unified diff."""
        old, new = (self.before or "").splitlines(), self.after.splitlines()
        name = str(self.path)
        return "".join(
            f"{line}\n" for line in difflib.unified_diff(old, new, name, name, "", "", 3, "")
        )


def plan(host: Host, path: str, *, uninstall: bool) -> Plan:
    """Return what is to be done to the file at *path*.

    Raises:
        InstallError: It can't be read, or not be changed without changing what isn't ours.
    """
    # A link into a collection of settings stays one.
    real = Path(path).resolve()
    before = _text(real)
    # A mark that some editors begin a file with; it stays, and is nothing of the document.
    mark = _MARK if before is not None and before.startswith(_MARK) else ""
    document = (before or "").removeprefix(mark)
    after = _without(host, document) if uninstall else _with(host, document)
    return Plan(real, before, mark + after)


def present(host: Host, path: str) -> object:
    """Return which address of a server stands in the file at *path* already, if one does.

    Raises:
        InstallError: It can't be read.
    """
    text = (_text(Path(path).resolve()) or "").removeprefix(_MARK)
    document = tables.loads(text) if host.toml else jsonc.loads(text)
    return _at(document, (*host.path, host.address_key))


def _text(path: Path) -> str | None:
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
    return _with_beside(changed, *host.beside) if host.beside else changed


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


def write(planned: Plan) -> None:
    """Do what was planned.

    Raises:
        InstallError: It can't be written, or was changed meanwhile; it is as it was.
    """
    path = planned.path
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        private.ensure_directories(str(path.parent), 0o777)
        if _text(path) != planned.before:
            raise InstallError("it was changed meanwhile: try again")
        mode = 0o644 if planned.before is None else path.stat().st_mode & 0o777
        if planned.before is not None:
            _put(planned.backup, planned.before, mode)
        _put(beside, planned.after, mode)
        beside.replace(path)
    except OSError as error:
        raise InstallError(f"it can't be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _put(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    fd = private.open_file(str(path), private.NEW, mode=mode)
    with os.fdopen(fd, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
