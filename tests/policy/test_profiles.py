from __future__ import annotations

import pytest

from nono_mcp.policy.document import Document, merge
from nono_mcp.policy.paths import check
from nono_mcp.policy.profiles import DEFAULT, SHIPPED
from nono_mcp.policy.protection import Catalogue
from nono_sandbox.confinement import READ, WRITE

PROMISED = {"default", "read-only", "python", "node", "claude-code", "codex", "open", "system"}


def whole(name: str) -> Document:
    document = Document()
    for parent in SHIPPED[name].extends or ():
        document = merge(document, whole(parent))
    return merge(document, SHIPPED[name])


def test_what_is_promised_is_shipped() -> None:
    assert set(SHIPPED) == PROMISED
    assert DEFAULT in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_says_what_it_is_and_what_it_extends(name: str) -> None:
    profile = SHIPPED[name]
    assert profile.description.endswith(".")
    # None would mean "default", which each says for itself.
    assert profile.extends is not None
    assert set(profile.extends) <= set(SHIPPED)
    for key in ("allow", "read", "write", "allow_file", "read_file", "bypass"):
        for path in getattr(profile.filesystem, key):
            check(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_no_shipped_profile_opens_a_protected_path_it_doesnt_say_so(name: str) -> None:
    files = whole(name).filesystem
    catalogue = Catalogue("~", {}, macos=True)
    granted = [(path, READ) for path in (*files.read, *files.read_file)]
    granted += [(path, READ | WRITE) for path in (*files.allow, *files.allow_file)]
    for path, access in granted:
        entry = catalogue.match(path)
        opened = path in files.bypass
        sockets = path.startswith("/run/systemd/resolve/")
        assert entry is None or not entry.access & access or opened or sockets


def test_only_agents_give_protection_up_and_only_their_own() -> None:
    given_up = {name: whole(name).filesystem.bypass for name in SHIPPED}
    assert {name for name, paths in given_up.items() if paths} == {"claude-code", "codex"}
    assert all(".claude" in path or "/claude" in path for path in given_up["claude-code"])
    assert given_up["codex"] == ("~/.codex",)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("default", "closed"),
        ("read-only", "closed"),
        ("python", "closed"),
        ("node", "closed"),
        ("open", "open"),
        ("system", None),
    ],
)
def test_the_network_is_closed_unless_the_name_says_open(name: str, mode: str | None) -> None:
    assert whole(name).network.mode == mode


def test_read_only_writes_nothing() -> None:
    files = whole("read-only").filesystem
    assert (files.allow, files.write, files.allow_file, files.write_file) == ((), (), (), ())
    assert "$WORKSPACE" in files.read


def test_the_kernels_trees_are_granted_by_nobody() -> None:
    for name in SHIPPED:
        files = whole(name).filesystem
        paths = {*files.read, *files.allow, *files.read_file, *files.allow_file}
        assert not any(path.startswith(("/proc", "/dev")) for path in paths)
        assert paths.isdisjoint({"/", "/sys", "/run", "/var", "/home", "/root", "~", "$HOME"})
