"""The code of our modules in one file, for which a start opens it instead of one file each.

What a `.pyc` file is to a module this is to all that `nono run` may import, and it is kept where
those are, in `__pycache__`, by whoever may write there. The same goes for it: code counts only
while its source has the size and modification time that it was compiled at. What every `nono run`
imports is in it once more, as groups that are read, and run, in one go.

Architecture invariant: it fails no start. What isn't as expected is imported as if there were no
bundle. A worker can't write it: every policy keeps the directories of this program as they are.
"""

# Not even `__future__` is imported: its import would cost what a module's does from here.
import _imp
import marshal

# Not `os`, by which others ask what is noted: this here asks for itself.
import posix as os
import sys

# What `importlib` is made of, and built in: the package itself would cost an import of its own.
from _frozen_importlib import BuiltinImporter, ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, ExtensionFileLoader, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType, ModuleType
    from typing import Any, TypeAlias

    from nono_mcp._bundling import Entry, Member, Part, Parts

    Identity: TypeAlias = tuple[int, int, int]

FOLDERS = (
    "nono_mcp",
    "nono_mcp/cli",
    "nono_mcp/guard",
    "nono_mcp/policy",
    "nono_sandbox",
    "nono_sandbox/cgroups",
    "nono_sandbox/seccomp",
    "nono_sandbox/single_run",
)
"""The packages whose modules are in it, without those within."""
FOLDERS_BY_NAME = frozenset(folder.replace("/", ".") for folder in FOLDERS)

RUN = "nono_mcp.cli.begin_run"
"""What `nono run` begins with."""
_LINUX = sys.platform == "linux"
_FIRST = (
    # Packages come with it: who imports from one asks for that before what is in it.
    *("nono_mcp.__main__", "nono_mcp.guard", "nono_mcp.policy"),
    *(("nono_sandbox.single_run.forking",) if _LINUX else ()),
    RUN,
)
GROUPS = (
    (
        _FIRST,
        ("nono_mcp.cli.attend", "nono_mcp.cli.signals", "nono_mcp.cli.recalled_run"),
        ("nono_mcp.guard.after_run", "nono_mcp.guard.guard"),
    ),
    (_FIRST, ("nono_sandbox.single_run.preparing",) if _LINUX else ()),
)
"""What is imported together, when the last of it is asked for: in the process of the command line
and in its lane, with all that it imports first of all and no group before has."""

LATER = frozenset(
    {
        # Asked when the program has started, which goes on meanwhile.
        *("nono_sandbox.call_end", "nono_sandbox.call_events", "nono_sandbox.call_monitor"),
        # Asked by calls that last.
        *("nono_sandbox.deleted_files", "nono_sandbox.disk_growth"),
        *("nono_sandbox.disk_reserve", "nono_sandbox.resource_usage"),
        # Asked where something is kept or put right.
        *("nono_mcp.guard.tree", "nono_sandbox.scratch"),
    }
)
"""What of these isn't read before something of it is asked for."""

_LENGTH_BYTES = 4


def begin(packages: str, argv: list[str]) -> None:
    """Import ours from the directory *packages*, and at once what the command line *argv* needs.

    In the path all before `/lib/` may lead by way of symlinks and `..`.
    """
    prefix, lib, rest = packages.rpartition("/lib/")
    directory = f"{_real(prefix)}{lib}{rest}" if lib else packages
    # Last on the path, so that no package found there hides the standard library.
    sys.path.append(directory)
    bundle = install(directory)
    if bundle is not None and argv[1:2] == ["run"]:
        import gc  # noqa: PLC0415 - by this command alone

        # As the command would, which is on its way.
        gc.disable()
        bundle.import_together(RUN)


def _real(path: str) -> str:
    """Return where *path* leads, as `os.path.realpath` says, whose import every start would pay."""
    if sys.platform == "linux":
        try:
            descriptor = os.open(path or "/", os.O_PATH | os.O_CLOEXEC)
            try:
                return os.readlink(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)
        except OSError:
            pass  # there is no /proc
    from os.path import realpath  # noqa: PLC0415 - see above

    return realpath(path)


def install(directory: str) -> "Bundle | None":
    """Import from the bundle of our packages in *directory* from now on; make it if need be."""
    cache = f"{directory}/{FOLDERS[0]}/__pycache__"
    path = f"{cache}/bundle.{sys.implementation.cache_tag}.pyc"
    bundle = _read(path, directory)
    if bundle is None and os.access(cache, os.W_OK):
        from nono_mcp import _bundling  # noqa: PLC0415 - by one start in many

        _bundling.write(path, directory, FOLDERS, GROUPS, LATER)
        bundle = _read(path, directory)
    if bundle is not None:
        sys.meta_path.insert(0, bundle)
    return bundle


class Bundle:
    """Finds modules in a file, as the import system asks for them."""

    def __init__(
        self,
        path: str,
        identity: "Identity",
        start: int,
        directory: str,
        parts: "Parts",
    ) -> None:
        self._path = path
        self._identity = identity
        self._start = start
        self._directory = directory
        self._index, self._groups, self._builtins, self._extensions = parts
        self._known: Mapping[str, Entry] | None = None
        self._at_hand: dict[str, Member] = {}

    @property
    def _entries(self) -> "Mapping[str, Entry]":
        """Return what there is of single modules, which not every start asks for."""
        if self._known is None:
            found: Mapping[str, Entry] = self._part(*self._index) or {}
            self._known = found
        return self._known

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return how to load *name*; None if it isn't here, or isn't what its source says.

        What it imports first of all is loaded from here too, before it asks: the import system
        would take more time for each of those modules than all that is in it takes.
        """
        if name in self._extensions:
            return _extension_spec(name, self._extensions[name])
        if name.partition(".")[0] not in FOLDERS:
            return None
        if name in self._groups:
            self._load_group(name)
        if name in self._at_hand:
            return self._spec(*self._at_hand[name][:3])
        if name not in self._entries:
            return None
        entry = self._entries[name]
        for needed in entry[-1]:
            self._load(needed)
        return self._spec(name, *entry[:2])

    def import_together(self, last: str) -> None:
        """Import the group that is known by the name of its *last* module."""
        self._load_group(last)
        member = self._at_hand.pop(last, None)
        # None if another start has replaced the file.
        spec = None if member is None or last in sys.modules else self._spec(*member[:3])
        if member is not None and spec is not None:
            self._run(last, spec, member[-1])

    def _load_group(self, last: str) -> None:
        """Load what the module *last* is imported together with, and have its own code at hand."""
        part = self._groups.pop(last, None)
        descriptor = -1 if part is None else self._opened()
        if part is None or descriptor < 0:
            return
        for name in self._builtins.get(last, ()):
            _load_builtin(name)
        members: tuple[Member, ...] = self._loaded(descriptor, *part) or ()
        for member in members:
            name, mtime_ns, size, code = member
            if name == last:
                self._at_hand[name] = member
            elif name not in sys.modules:
                spec = self._spec(name, mtime_ns, size)
                if spec is None:
                    break
                self._run(name, spec, code, descriptor)
        # What runs later is read from it, where the file has no path any more.
        if not any(isinstance(member[-1], tuple) for member in members):
            os.close(descriptor)

    def _load(self, name: str) -> None:
        """Have *name* in `sys.modules`, as an import would, unless that has to see to it."""
        entry = self._entries.get(name)
        if name in sys.modules or entry is None:
            return
        for needed in entry[-1]:
            self._load(needed)
        # There are none any more if one of those isn't what its source says.
        spec = self._spec(name, *entry[:2]) if name in self._entries else None
        code = None if spec is None else self.code(name)
        if spec is not None and code is not None and name not in sys.modules:
            self._run(name, spec, code)

    def _run(
        self, name: str, spec: ModuleSpec, code: "CodeType | Part", descriptor: int = -1
    ) -> None:
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
            if isinstance(code, tuple):
                at, length = code
                _run_later(module, descriptor, self._start + at, length)
            else:
                exec(code, module.__dict__)  # noqa: S102 - as an import does
        except BaseException:
            del sys.modules[name]
            raise
        if above:
            setattr(sys.modules[above], last, module)

    def _spec(self, name: str, mtime_ns: int, size: int) -> ModuleSpec | None:
        """Return how to load *name*, if its source is what was compiled."""
        source = f"{self._directory}/{name.replace('.', '/')}"
        is_package = name in FOLDERS_BY_NAME
        source += "/__init__.py" if is_package else ".py"
        try:
            status = os.stat(source)
        except OSError:
            status = None
        if status is None or (status.st_mtime_ns, status.st_size) != (mtime_ns, size):
            self._known, self._groups = {}, {}
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
        if name in self._at_hand:
            here = self._at_hand.pop(name)[-1]
            return self._part(*here) if isinstance(here, tuple) else here
        if name not in self._entries:
            return None
        _, _, at, length, _ = self._entries[name]
        code: CodeType | None = self._part(at, length)
        return code

    def _part(self, at: int, length: int) -> "Any":  # noqa: ANN401 - each part's own
        """Return what a part of the file says, or None if that was replaced, or is damaged."""
        descriptor = self._opened()
        if descriptor < 0:
            return None
        try:
            return self._loaded(descriptor, at, length)
        finally:
            os.close(descriptor)

    def _opened(self) -> int:
        """Return a descriptor of the file, or -1 if it's another one by now."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1
        if _identity(descriptor) == self._identity:
            return descriptor
        os.close(descriptor)
        return -1

    def _loaded(self, descriptor: int, at: int, length: int) -> "Any":  # noqa: ANN401 - likewise
        try:
            # As trusted as the .pyc beside it.
            return marshal.loads(os.pread(descriptor, length, self._start + at))  # noqa: S302
        except (EOFError, TypeError, ValueError):
            _remove(self._path)  # the next start makes it anew
            return None


def _load_builtin(name: str) -> None:
    """Have *name*, which is part of the interpreter, in `sys.modules`, as an import would.

    Most of what an import of one takes is spent on asking who has it.
    """
    # Another Python of this version may have it in a file, which is found as others are.
    if name in sys.modules or not _imp.is_builtin(name):
        return
    loader: Any = BuiltinImporter
    spec = ModuleSpec(name, loader, origin="built-in")
    module = _imp.create_builtin(spec)
    module.__spec__, module.__loader__, module.__package__ = spec, loader, ""
    sys.modules[name] = module
    _imp.exec_builtin(module)


def _extension_spec(name: str, path: str) -> ModuleSpec | None:
    """Return how to load *name* from *path*, if it's there and this Python would look there."""
    if path.rpartition("/")[0] not in sys.path or not os.access(path, os.R_OK):
        return None
    return ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)


def _run_later(module: "ModuleType", descriptor: int, at: int, length: int) -> None:
    """Have *module* run its code when it's asked for what it hasn't got (PEP 562).

    That is read then, from the open file. There may be no path to it any more.
    """

    def ask(name: str) -> object:
        del module.__dict__["__getattr__"]
        code = marshal.loads(os.pread(descriptor, length, at))  # noqa: S302 - as above
        exec(code, module.__dict__)  # noqa: S102 - as above
        return getattr(module, name)

    module.__dict__["__getattr__"] = ask


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
        magic, of, size, parts = marshal.loads(os.read(descriptor, length))  # noqa: S302 - likewise
    except (EOFError, OSError, TypeError, ValueError):
        return None  # no bundle
    finally:
        os.close(descriptor)
    start = _LENGTH_BYTES + length
    if (magic, of, start + size) != (MAGIC_NUMBER, directory, identity[-1]):
        return None
    return Bundle(path, identity, start, directory, parts)


def _remove(path: str) -> None:
    # contextlib.suppress would cost its import.
    try:  # noqa: SIM105
        os.unlink(path)
    except OSError:
        pass  # it isn't there, or isn't ours to remove
