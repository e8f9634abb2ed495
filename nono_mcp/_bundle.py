"""The code of our modules in one file, for which a start opens it instead of one file each.

What a `.pyc` file is to a module this is to all that `nono run` may import, and it is kept where
those are, in `__pycache__`, by whoever may write there. The same goes for it: code counts only
while its source has the size and modification time that it was compiled at.

Architecture invariant: it fails no start. What isn't as expected is imported as if there were no
bundle. A worker can't write it: every policy keeps the directories of this program as they are.
"""

# Not even `__future__` is imported: its import would cost what a module's does from here.
import marshal

# Not `os`, by which others ask what is noted: this here asks for itself.
import posix as os
import sys

# What `importlib` is made of, and built in: the package itself would cost an import of its own.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType, ModuleType
    from typing import TypeAlias

    # A source's modification time (ns) and size; where its code is in the file, and how long; the
    # modules of the bundle that it imports first of all.
    Entry: TypeAlias = tuple[int, int, int, int, tuple[str, ...]]
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
FOLDERS_BY_NAME = frozenset(folder.replace("/", ".") for folder in FOLDERS)

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
        self,
        path: str,
        identity: "Identity",
        start: int,
        directory: str,
        entries: "Mapping[str, Entry]",
    ) -> None:
        self._path = path
        self._identity = identity
        self._start = start
        self._directory = directory
        self._entries = entries

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return how to load *name*; None if it isn't here, or isn't what its source says.

        What it imports first of all is loaded from here too, before it asks: the import system
        would take more time for each of those modules than all that is in it takes.
        """
        if name not in self._entries:
            return None
        for needed in self._entries[name][-1]:
            self._load(needed)
        return self._spec(name)

    def _load(self, name: str) -> None:
        """Have *name* in `sys.modules`, as an import would, unless that has to see to it."""
        if name in sys.modules or name not in self._entries:
            return
        for needed in self._entries[name][-1]:
            self._load(needed)
        spec = self._spec(name)
        code = None if spec is None else self.code(name)
        if spec is None or code is None or name in sys.modules:
            return
        module: ModuleType = type(sys)(name)
        module.__spec__ = spec
        module.__loader__ = spec.loader
        module.__file__ = spec.origin
        above, _, last = name.rpartition(".")
        module.__package__ = above
        if spec.submodule_search_locations is not None:
            module.__package__ = name
            module.__path__ = spec.submodule_search_locations
        sys.modules[name] = module
        try:
            exec(code, module.__dict__)  # noqa: S102 - as an import does
        except BaseException:
            del sys.modules[name]
            raise
        if above:
            setattr(sys.modules[above], last, module)

    def _spec(self, name: str) -> ModuleSpec | None:
        mtime_ns, size, *_ = self._entries[name]
        source = f"{self._directory}/{name.replace('.', '/')}"
        is_package = name in FOLDERS_BY_NAME
        source += f"/{_PACKAGE}" if is_package else ".py"
        try:
            status = os.stat(source)
        except OSError:
            status = None
        if status is None or (status.st_mtime_ns, status.st_size) != (mtime_ns, size):
            self._entries = {}
            _remove(self._path)  # the next start makes another
            return None
        # `spec_from_file_location` would come to the same, and cost as much as reading the code.
        spec = ModuleSpec(name, _Loader(name, source, self), origin=source)
        spec.has_location = True
        spec.cached = self._path
        if is_package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def code(self, name: str) -> "CodeType | None":
        """Return the code of the module *name*, or None if the file was replaced meanwhile."""
        _, _, at, length, _ = self._entries[name]
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

    def get_code(self, fullname: str) -> "CodeType | None":
        """Return the module's code: the bundle's or, if that is gone, its own file's."""
        return self._bundle.code(fullname) or super().get_code(fullname)


def _identity(descriptor: int) -> "Identity":
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
    return Bundle(path, identity, start, directory, entries)


def _write(path: str, directory: str) -> None:
    """Put a bundle of what is in *directory* at *path*: all of it, or none."""
    entries: dict[str, Entry] = {}
    codes = b""
    modules = dict(_modules(directory))
    temporary = f"{path}.{os.getpid()}"
    try:
        for name, source in modules.items():
            # Before it is read, so that a source which is being changed won't count.
            status = os.stat(source)
            with open(source, "rb") as file:
                needed, code = _compiled(name, source, file.read(), modules)
            data = marshal.dumps(code)
            entries[name] = status.st_mtime_ns, status.st_size, len(codes), len(data), needed
            codes += data
        # Which of those that import each other comes first is for the import system to say.
        for name in [name for name in entries if _imports(name, name, entries)]:
            entries[name] = *entries[name][:-1], entries[name][-1][:1]
        head = marshal.dumps((MAGIC_NUMBER, directory, len(codes), entries))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o644), "wb") as file:
            file.write(len(head).to_bytes(_LENGTH_BYTES, "little") + head + codes)
        os.replace(temporary, path)
    except (OSError, SyntaxError, ValueError):
        _remove(temporary)


def _imports(name: str, other: str, entries: "Mapping[str, Entry]") -> bool:
    """Tell whether the module *name* imports *other*, by way of others too."""
    pending, seen = [*entries[name][-1]], {*entries[name][-1]}
    while pending:
        new = {*entries[pending.pop()][-1]} - seen
        pending += new
        seen |= new
    return other in seen


def _compiled(
    name: str, source: str, text: bytes, modules: "Mapping[str, str]"
) -> "tuple[tuple[str, ...], CodeType]":
    """Return which of *modules* the module *name* imports first of all, and its code.

    That is without docstrings, which nobody asks for (less to read, and less memory to touch), and
    without an import of `__future__`, whose sense is in the code.
    """
    # Only who makes a bundle pays for these.
    import __future__  # noqa: PLC0415

    import ast  # noqa: PLC0415

    tree = ast.parse(text, source)
    flags = 0
    needed = []
    for at, node in enumerate(tree.body):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for feature in node.names:
                flags |= getattr(__future__, feature.name).compiler_flag
            tree.body[at] = ast.copy_location(ast.Pass(), node)
        elif isinstance(node, ast.ImportFrom):
            needed += [str(node.module), *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            needed += [one.name for one in node.names]
    # A module's own package comes first. And that has to be there for what is in it.
    needed.insert(0, name.rpartition(".")[0])
    own = f"{name}."
    within = [one for one in needed if one in modules and one != name and not one.startswith(own)]
    return tuple(dict.fromkeys(within)), compile(
        tree, source, "exec", flags, dont_inherit=True, optimize=2
    )


def _modules(directory: str) -> "Iterator[tuple[str, str]]":
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
