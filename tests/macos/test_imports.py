"""Every module of ours is imported where nothing is that only Linux has; or is Linux's alone."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nono_mcp
import nono_proxy
import nono_sandbox
from tests.macos import mac

if TYPE_CHECKING:
    from types import ModuleType

PACKAGES = (nono_mcp, nono_proxy, nono_sandbox)
IMPORT_ALL = """
import importlib, mac, site, sys
site.main()
mac.become(*mac.BEFORE)
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
"""


def modules(package: ModuleType) -> list[str]:
    return [one.name for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def test_what_is_linuxs_alone_exists_and_is_the_sandboxs() -> None:
    """A name that nothing has would leave out nothing, and one of another room too much."""
    known = set(modules(nono_sandbox))
    assert {name.removesuffix(".*") for name in mac.linux_only()} <= known


def test_all_else_is_imported() -> None:
    left_out = mac.linux_only()
    names = [
        name
        for package in PACKAGES
        for name in modules(package)
        if not mac.is_left_out(name, left_out)
    ]
    assert len(names) > 200
    roots = sorted({str(Path(*one.__path__).parent) for one in PACKAGES})
    code = f"import sys; sys.path += {[*roots, str(mac.HERE)]!r}\n{IMPORT_ALL}"
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code, *names], capture_output=True, check=False, text=True
    )
    assert (ended.stdout, ended.returncode) == ("", 0), ended.stderr


@pytest.mark.parametrize("name", ["nono_sandbox.landlock", "nono_sandbox.seccomp.table"])
def test_what_is_linuxs_alone_is_refused_by_the_imitation(name: str) -> None:
    code = f"import sys; sys.path.append({str(mac.HERE)!r})\n{IMPORT_ALL}"
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code, name], capture_output=True, check=True, text=True
    )
    assert "this does as a Mac does" in ended.stdout


GUARDED = """
import mac, sys
mac.become()
from nono_mcp.guard import names
print([names.spelled(name) for name in sys.argv[1:]])
print([names.spelled_inside(".hg", name) for name in ("HGRC", "Store")])
"""


def test_a_name_is_guarded_by_all_that_macos_holds_equal() -> None:
    roots = sorted({str(Path(*one.__path__).parent) for one in PACKAGES})
    code = f"import sys; sys.path += {[*roots, str(mac.HERE)]!r}\n{GUARDED}"
    names = [".vscode", ".VSCODE", ".V\u017fcode", ".Git", ".RPROFILE", "X.CODE-WORKSPACE", "Git"]
    words = [sys.executable, "-I", "-c", code, *names]
    ended = subprocess.run(words, capture_output=True, check=True, text=True)
    found = [".vscode", ".vscode", ".vscode", ".git", ".Rprofile", "X.code-workspace", "Git"]
    assert ended.stdout == f"{found}\n{['hgrc', 'Store']}\n"
