"""What is imported where; import-linter's contracts in pyproject.toml say the rest."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nono_mcp
import nono_proxy
import nono_sandbox

# Each of these costs a tenth of a bare start of Python or more, most by what they import in turn.
DEAR = {
    "argparse", "ast", "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools",
    "hashlib", "importlib.metadata", "inspect", "json", "logging", "pathlib", "random", "re",
    "selectors", "shutil", "signal", "site", "socket", "subprocess", "tempfile", "threading",
    "tomllib", "traceback", "typing",
}  # fmt: skip


def modules_of(tree: ast.AST) -> set[str]:
    """Return the modules that *tree* imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, ast.unparse(node)
            names.add(node.module or "")
    return names


def imported(module: Path) -> set[str]:
    """Return the top-level names *module* imports, anywhere in it."""
    return {name.partition(".")[0] for name in modules_of(ast.parse(module.read_bytes()))}


def test_the_sandbox_is_the_standard_library_and_nothing_else() -> None:
    allowed = {*sys.stdlib_module_names, "nono_sandbox"}
    modules = list(Path(*nono_sandbox.__path__).rglob("*.py"))
    assert len(modules) > 1
    assert {
        module: names - allowed for module in modules if (names := imported(module)) - allowed
    } == {}


def imports_of(*command: str, cwd: Path, home: Path | None = None) -> set[str]:
    """Return every module that the command line and its children import."""
    # As the launcher starts it; where we're installed in place it goes by way of `site`.
    roots = sorted({str(Path(*package.__path__).parent) for package in (nono_mcp, nono_sandbox)})
    code = f"import sys; sys.path += {roots!r}; from nono_mcp.__main__ import run; run()"
    launched = [sys.executable, "-I", "-S", "-X", "importtime", "-c", code, *command]
    finished = subprocess.run(
        launched,
        capture_output=True,
        check=True,
        cwd=cwd,
        env=None if home is None else {"HOME": str(home), "PATH": os.environ["PATH"]},
        text=True,
        timeout=120,
    )
    return set(re.findall(r"^import time:.*\| +(\S+)$", finished.stderr, re.MULTILINE))


@pytest.mark.linux
def test_run_imports_nothing_dear(tmp_path: Path) -> None:
    names = imports_of("run", "--allow-cwd", "--", "true", cwd=tmp_path)
    assert "nono_sandbox.landlock" in names
    assert names & DEAR == set()


@pytest.mark.linux
def test_a_run_that_was_judged_before_does_without_os_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for place in ("home/.local/state/nono", "home/.config/nono", "work"):
        (tmp_path / place).mkdir(mode=0o700, parents=True)
    run = ("run", "--", "true")
    runs = [imports_of(*run, cwd=tmp_path / "work", home=home) for _ in range(2)]
    # Whatever was judged may be otherwise by the second time, on a machine that others work on.
    while "nono_mcp.policy.load" in runs[-1] and len(runs) < 5:
        runs.append(imports_of(*run, cwd=tmp_path / "work", home=home))
    if not list(home.glob(".local/state/nono/recall/*")):
        pytest.skip("without namespaces every run is judged")
    assert "os" in runs[0]
    assert runs[-1] & {"os", "resource", "stat", "struct"} == set()


# What a module has no use for that does no I/O; of `os`, it may have what computes alone.
ACTS = {
    "anyio", "asyncio", "ctypes", "fcntl", "io", "mmap", "pathlib", "random", "select", "shutil",
    "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
COMPUTES = {
    "WEXITSTATUS", "WIFSIGNALED", "WTERMSIG", "fsdecode", "fsencode", "path",
    "waitstatus_to_exitcode",
}  # fmt: skip
SAYS_NO_IO = re.compile(r"(?:does|do) no I/O|invariant: (?:no I/O|pure\b|a pure function|data)")


def acts(tree: ast.Module) -> set[str]:
    """Return what the module does or imports that no computation needs."""
    found = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id == "os" and node.attr not in COMPUTES
    }
    return found | {name for name in modules_of(tree) if name.partition(".")[0] in ACTS}


def test_a_module_that_says_it_does_no_io_does_none() -> None:
    broken, said_count = {}, 0
    for package in (nono_mcp, nono_sandbox, nono_proxy):
        for module in Path(*package.__path__).rglob("*.py"):
            text = module.read_text("utf-8")
            if SAYS_NO_IO.search(text) is None:
                continue
            tree = ast.parse(text)
            if SAYS_NO_IO.search(" ".join((ast.get_docstring(tree) or "").split())):
                said_count += 1
                if found := acts(tree):
                    broken[str(module)] = found
    assert said_count > 100
    assert broken == {}


def test_nobody_waits_by_what_takes_small_descriptors_alone() -> None:
    modules = [
        module
        for package in (nono_mcp, nono_sandbox, nono_proxy)
        for module in Path(*package.__path__).rglob("*.py")
    ]
    assert len(modules) > 300
    assert [module for module in modules if "select.select(" in module.read_text("utf-8")] == []


def packages() -> list[Path]:
    """Return the directory of every package beneath ours, and of the two mechanisms."""
    found = [*Path(*nono_mcp.__path__).rglob("__init__.py")]
    for package in (nono_sandbox, nono_proxy):
        found += Path(*package.__path__).rglob("__init__.py")
    return [path.parent for path in found if path.parent != Path(*nono_mcp.__path__)]


@pytest.mark.parametrize("package", packages(), ids=lambda path: path.name)
def test_a_package_says_what_each_of_its_modules_is_for(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_bytes())) or ""
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert modules - set(re.findall(r"`(\w+)`", text)) == set()
    # What is listed is listed once, and nothing that is gone.
    listed = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^- .*(?:\n  .*)*", text, re.MULTILINE)))
    assert [name for name in listed if name not in modules or listed.count(name) > 1] == []
