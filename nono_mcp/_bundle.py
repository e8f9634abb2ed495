"""The code of our modules in one file, for which a start opens it instead of one file each.

What a `.pyc` file is to a module this is to all that `nono run` may import, and it is kept where
those are, in `__pycache__`, by whoever may write there. The same goes for it: code counts only
while its source has the size and modification time that it was compiled at.

Architecture invariant: it fails no start. What isn't as expected is imported as if there were no
bundle. A worker can't write it: every policy keeps the directories of this program as they are.
"""

from __future__ import annotations

import marshal
import os
import sys

# What `importlib` is made of, and built in: the package itself would cost an import of its own.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType
    from typing import TypeAlias

    # A source's modification time (ns) and size; where its code is in the file, and how long.
    Entry: TypeAlias = tuple[int, int, int, int]
    Identity: TypeAlias = tuple[int, int, int]

FOLDERS = (
    "nono_mcp",
    "nono_mcp/cli",
    "nono_mcp/guard",
    "nono_mcp/policy",
    "nono_sandbox",
    "nono_sandbox/seccomp",
)
"""The packages whose modules are in it, without those within."""

_LENGTH_BYTES = 4
_PACKAGE = "__init__.py"


def install(directory: str) -> None:
    """Import from the bundle of our packages in *directory* from now on; make it if need be."""
    cache = f"{directory}/{FOLDERS[0]}/__pycache__"
    path = f"{cache}/bundle.{sys.implementation.cache_tag}.pyc"
    bundle = _read(path, directory)
    if bundle is None and os.access(cache, os.W_OK):
        _write(path, directory)
        bundle = _read(path, directory)
    if bundle is not None:
        sys.meta_path.insert(0, bundle)


class Bundle:
    """Finds modules in a file, as the import system asks for them."""

    def __init__(
        self, path: str, identity: Identity, start: int, entries: Mapping[str, tuple[str, Entry]]
    ) -> None:
        self._path = path
        self._identity = identity
        self._start = start
        self._entries = entries

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return how to load *name*; None if it isn't here, or isn't what its source says."""
        if name not in self._entries:
            return None
        source, entry = self._entries[name]
        try:
            status = os.stat(source)
        except OSError:
            status = None
        if status is None or (status.st_mtime_ns, status.st_size) != entry[:2]:
            self._entries = {}
            _remove(self._path)  # the next start makes another
            return None
        # `spec_from_file_location` would come to the same, and cost as much as reading the code.
        spec = ModuleSpec(name, _Loader(name, source, self), origin=source)
        spec.has_location = True
        spec.cached = self._path
        if source.endswith(_PACKAGE):
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def code(self, name: str) -> CodeType | None:
        """Return the code of the module *name*, or None if the file was replaced meanwhile."""
        *_, at, length = self._entries[name][1]
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if _identity(descriptor) != self._identity:
                return None
            data = os.pread(descriptor, length, self._start + at)
        finally:
            os.close(descriptor)
        code: CodeType = marshal.loads(data)  # noqa: S302 - as trusted as the .pyc beside it
        return code


class _Loader(SourceFileLoader):
    """A source file's loader, but for where the code comes from."""

    def __init__(self, name: str, source: str, bundle: Bundle) -> None:
        super().__init__(name, source)
        self._bundle = bundle

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the module's code: the bundle's or, if that is gone, its own file's."""
        return self._bundle.code(fullname) or super().get_code(fullname)


def _identity(descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: str, directory: str) -> Bundle | None:
    """Return the bundle at *path*, if this Python made it of what is in *directory*."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        identity = _identity(descriptor)
        length = int.from_bytes(os.read(descriptor, _LENGTH_BYTES), "little")
        magic, of, size, entries = marshal.loads(  # noqa: S302 - likewise
            os.read(descriptor, length)
        )
    except (EOFError, OSError, TypeError, ValueError):
        return None  # no bundle
    finally:
        os.close(descriptor)
    start = _LENGTH_BYTES + length
    if (magic, of, start + size) != (MAGIC_NUMBER, directory, identity[-1]):
        return None
    return Bundle(path, identity, start, entries)


def _write(path: str, directory: str) -> None:
    """Put a bundle of what is in *directory* at *path*: all of it, or none."""
    entries: dict[str, tuple[str, Entry]] = {}
    codes = b""
    temporary = f"{path}.{os.getpid()}"
    try:
        for name, source in _modules(directory):
            # Before it is read, so that a source which is being changed won't count.
            status = os.stat(source)
            with open(source, "rb") as file:
                text = file.read()
            # Without docstrings, which nobody asks for: less to read, and less memory to touch.
            code = marshal.dumps(compile(text, source, "exec", dont_inherit=True, optimize=2))
            entries[name] = source, (status.st_mtime_ns, status.st_size, len(codes), len(code))
            codes += code
        head = marshal.dumps((MAGIC_NUMBER, directory, len(codes), entries))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o644), "wb") as file:
            file.write(len(head).to_bytes(_LENGTH_BYTES, "little") + head + codes)
        os.replace(temporary, path)
    except (OSError, SyntaxError, ValueError):
        _remove(temporary)


def _modules(directory: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the source of each module."""
    for folder in FOLDERS:
        package = folder.replace("/", ".")
        for file in sorted(os.listdir(f"{directory}/{folder}")):
            if file.endswith(".py"):
                name = package if file == _PACKAGE else f"{package}.{file[:-3]}"
                yield name, f"{directory}/{folder}/{file}"


def _remove(path: str) -> None:
    # contextlib.suppress would cost its import.
    try:  # noqa: SIM105
        os.unlink(path)
    except OSError:
        pass  # it isn't there, or isn't ours to remove
