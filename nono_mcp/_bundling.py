"""Making the bundle that `_bundle` reads.

Architecture invariant: one that can't be made isn't, and nothing else comes of that.
"""

from __future__ import annotations

import ast
import marshal
import os
import sys
from contextlib import suppress
from importlib.util import MAGIC_NUMBER, find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType
    from typing import TypeAlias

    # A source's modification time (ns) and size; where its code is in the file, and how long; the
    # modules of the bundle that it imports first of all.
    Entry: TypeAlias = tuple[int, int, int, int, tuple[str, ...]]
    # Where something is in the file, and how long.
    Part: TypeAlias = tuple[int, int]
    # For each process that a run has, what is imported together in it.
    Groups: TypeAlias = tuple[tuple[str, ...], ...]
    # A module's name, its source's modification time and size, and its code: where that is in the
    # file, if it runs later.
    Member: TypeAlias = tuple[str, int, int, CodeType | Part]
    # Where the index of all entries is; each group by its last module, and which of the
    # interpreter's own modules it needs; the files of EXTENSIONS.
    Parts: TypeAlias = tuple[Part, dict[str, Part], dict[str, tuple[str, ...]], dict[str, str]]

EXTENSIONS = ("_ctypes",)
"""What every run needs of the standard library, and isn't built in everywhere: where those are is
in the bundle, since to look for them directories would be read."""

_LENGTH_BYTES = 4
_PACKAGE = "__init__.py"


def write(
    path: str,
    directory: str,
    folders: tuple[str, ...],
    groups: tuple[Groups, ...],
    later: frozenset[str],
) -> None:
    """Put a bundle of the modules that *directory* has in *folders* at *path*: all of it, or none.

    *groups*, and what of them runs *later*, are told of in `_bundle`.
    """
    entries: dict[str, Entry] = {}
    codes: dict[str, CodeType] = {}
    builtins: dict[str, tuple[str, ...]] = {}
    body = b""
    modules = dict(_modules(directory, folders))
    temporary = f"{path}.{os.getpid()}"
    try:
        for name, source in modules.items():
            # Before it is read, so that a source which is being changed won't count.
            status = os.stat(source)
            with open(source, "rb") as file:
                imported, codes[name] = _compiled(name, source, file.read())
            needed = tuple(one for one in imported if one in modules and one != name)
            builtins[name] = tuple(one for one in imported if one in sys.builtin_module_names)
            data = marshal.dumps(codes[name])
            entries[name] = status.st_mtime_ns, status.st_size, len(body), len(data), needed
            body += data
        # Which of those that import each other comes first is for the import system to say.
        for name in [name for name in entries if _imports(name, name, entries)]:
            entries[name] = *entries[name][:-1], entries[name][-1][:1]
        parts: dict[str, Part] = {}
        builtins_of: dict[str, tuple[str, ...]] = {}
        together = dict(each for process in groups for each in _together(entries, process))
        for last, names in together.items():
            members: tuple[Member, ...] = tuple(
                (
                    name,
                    *entries[name][:2],
                    entries[name][2:4] if name in later else codes[name],
                )
                for name in names
            )
            data = marshal.dumps(members)
            parts[last] = len(body), len(data)
            body += data
            now = (builtins[name] for name in names if name not in later)
            builtins_of[last] = tuple(dict.fromkeys(one for each in now for one in each))
        index = marshal.dumps(entries)
        where: Parts = (len(body), len(index)), parts, builtins_of, _origins(EXTENSIONS)
        body += index
        head = marshal.dumps((MAGIC_NUMBER, directory, len(body), where))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o644), "wb") as file:
            file.write(len(head).to_bytes(_LENGTH_BYTES, "little") + head + body)
        os.replace(temporary, path)
    except (OSError, SyntaxError, ValueError):
        with suppress(OSError):
            os.unlink(temporary)


def _origins(names: tuple[str, ...]) -> dict[str, str]:
    """Return the files of those modules of *names* that are in one."""
    specs = {name: find_spec(name) for name in names}
    return {
        name: str(spec.origin)
        for name, spec in specs.items()
        if spec is not None and spec.has_location
    }


def _together(
    entries: Mapping[str, Entry], groups: Groups
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the last module of each group, and the names of all, each after what it needs."""
    before: dict[str, None] = {}
    for group in filter(None, groups):
        names = dict(before)
        for name in group:
            _add_with_needed(name, entries, names)
        yield group[-1], tuple(name for name in names if name not in before)
        before = names


def _add_with_needed(name: str, entries: Mapping[str, Entry], names: dict[str, None]) -> None:
    if name in entries and name not in names:
        for needed in entries[name][-1]:
            _add_with_needed(needed, entries, names)
        names[name] = None


def _imports(name: str, other: str, entries: Mapping[str, Entry]) -> bool:
    """Tell whether the module *name* imports *other*, by way of others too."""
    pending, seen = [*entries[name][-1]], {*entries[name][-1]}
    while pending:
        new = {*entries[pending.pop()][-1]} - seen
        pending += new
        seen |= new
    return other in seen


def _compiled(name: str, source: str, text: bytes) -> tuple[tuple[str, ...], CodeType]:
    """Return what the module *name* may import first of all, and its code.

    Names that are imported from a module may be modules themselves. The code is without docstrings,
    annotations of functions and columns of lines, which nobody asks for (less to read, and less
    memory to touch), and without an import of `__future__`, whose sense is in the code.
    """
    # At the top of a module it would be an instruction to the compiler.
    import __future__  # noqa: PLC0415

    tree = ast.parse(text, source)
    flags = 0
    # A module's own package comes first. And that has to be there for what is in it.
    imported = [name.rpartition(".")[0]]
    for at, node in enumerate(tree.body):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for feature in node.names:
                flags |= getattr(__future__, feature.name).compiler_flag
            tree.body[at] = ast.copy_location(ast.Pass(), node)
        elif isinstance(node, ast.ImportFrom):
            imported += [str(node.module), *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            imported += [one.name for one in node.names]
    for inner in ast.walk(tree):
        if isinstance(inner, ast.FunctionDef):
            inner.returns = None
        elif isinstance(inner, ast.arg):
            inner.annotation = None
        if isinstance(inner, (ast.expr, ast.stmt, ast.arg, ast.keyword, ast.excepthandler)):
            inner.end_lineno, inner.col_offset, inner.end_col_offset = inner.lineno, -1, -1
    outside = (one for one in imported if not one.startswith(f"{name}."))
    code: CodeType = compile(tree, source, "exec", flags, dont_inherit=True, optimize=2)
    return tuple(dict.fromkeys(outside)), code


def _modules(directory: str, folders: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the name and the source of each module."""
    for folder in folders:
        package = folder.replace("/", ".")
        for file in sorted(os.listdir(f"{directory}/{folder}")):
            if file.endswith(".py"):
                name = package if file == _PACKAGE else f"{package}.{file[:-3]}"
                yield name, f"{directory}/{folder}/{file}"
