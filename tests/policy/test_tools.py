from __future__ import annotations

import pytest

from nono_mcp.policy.tools import MANAGERS, needed

HOME = "/home/ada"
WORK = "/home/ada/work/engine"


def found(directory: str, *existing: str) -> list[str]:
    paths = needed(directory, HOME, WORK, set(existing).__contains__)
    return [path.replace(HOME, "~") for path in paths]


@pytest.mark.parametrize(
    ("directory", "read"),
    [
        ("/home/ada/.cargo/bin", ["~/.cargo/bin", "~/.rustup"]),
        ("/home/ada/.pyenv/shims", ["~/.pyenv"]),
        ("/home/ada/.nvm/versions/node/v22/bin", ["~/.nvm"]),
        ("/home/ada/.volta/bin", ["~/.volta/bin", "~/.volta/tools"]),
        ("/home/ada/bin", ["~/bin"]),
        ("/home/ada/.cargo", ["~/.cargo"]),
        ("/srv/tools/bin", ["/srv/tools/bin"]),
    ],
)
def test_a_manager_is_read_as_far_as_it_holds_programs(directory: str, read: list[str]) -> None:
    assert found(directory) == read


@pytest.mark.parametrize(
    "mark", ["pyvenv.cfg", "conda-meta", "lib/node_modules", "pkg/tool", "lib/modules"]
)
def test_a_tools_own_tree_is_read_whole(mark: str) -> None:
    assert found("/srv/tool/bin", f"/srv/tool/{mark}") == ["/srv/tool"]
    assert found("/srv/tool/sbin", f"/srv/tool/{mark}") == ["/srv/tool/sbin"]


@pytest.mark.parametrize("directory", ["/", "/home", HOME, f"{HOME}/work", WORK])
def test_what_lies_around_the_home_or_workspace_never_is(directory: str) -> None:
    assert found(directory) == []


def test_nor_is_it_as_a_tools_tree() -> None:
    assert found(f"{HOME}/bin", f"{HOME}/pyvenv.cfg") == ["~/bin"]
    assert found(f"{HOME}/work/bin", f"{HOME}/work/pyvenv.cfg") == ["~/work/bin"]


def test_a_windows_drive_is_left_out() -> None:
    assert found("/mnt/c/Windows/System32") == []
    assert found("/mnt/data/bin") == ["/mnt/data/bin"]


def test_no_manager_holds_credentials() -> None:
    read = {path for _, paths in MANAGERS for path in paths.split()}
    assert read.isdisjoint({".cargo", ".local/share/uv", ".npm-global", ".bun", ".local"})
