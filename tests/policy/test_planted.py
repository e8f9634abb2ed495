"""A symlink that a worker may have planted leads no grant to what nobody granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.policy.errors import RefusedError
from nono_mcp.policy.load import prepare
from nono_mcp.policy.paths import Place
from nono_mcp.policy.planted import is_turned
from nono_mcp.policy.request import Request
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, Link

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.linux, pytest.mark.claim("fs.planted-links")]


def request_for(root: Path, tier: str, flags: Document, path: str = "/usr/bin:/bin") -> Request:
    for name in ("home/private", "work/data", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return Request(
        workspace=str(root / "work"),
        tier=tier,
        environ={"PATH": path},
        home=str(root / "home"),
        state_dir=str(root / "state"),
        config_dir=str(root / "config"),
        tmpdir=str(root / "tmp"),
        flags=flags,
    )


def paths(request: Request) -> set[str]:
    return {grant.path for grant in prepare(request).confinement.grants if grant.source is None}


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
@pytest.mark.parametrize("key", ["read", "allow", "read_file"])
def test_a_grant_that_was_turned_is_refused(tmp_path: Path, tier: str, key: str) -> None:
    root = tmp_path.resolve()
    name = "file" if key == "read_file" else "data"
    section = FilesystemSection().replace(**{key: (f"{root}/work/{name}",)})
    request = request_for(root, tier, Document(filesystem=section))
    (root / "work" / "file").touch()
    (root / "home" / "private" / "file").touch()
    prepare(request)
    (root / "work" / name).rename(root / "work" / "moved")
    target = root / "home" / "private" / ("file" if key == "read_file" else "")
    (root / "work" / name).symlink_to(target)
    with pytest.raises(RefusedError, match="by a symlink that lies where calls may write") as told:
        prepare(request)
    assert told.value.remedy == f"if that is meant, grant {target} itself"
    # A directory above it that was turned is as bad.
    deeper = FilesystemSection().replace(**{key: (f"{root}/work/up/{name}",)})
    (root / "work" / "up").symlink_to(root / "home" / "private")
    (root / "home" / "private" / "data").mkdir(exist_ok=True)
    with pytest.raises(RefusedError, match="symlink"):
        prepare(request.replace(flags=Document(filesystem=deeper)))


def test_one_that_leads_to_what_is_granted_anyway_stands(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    flags = Document(filesystem=FilesystemSection(read=(f"{root}/work/link",)))
    request = request_for(root, NAMESPACES, flags)
    (root / "work" / "link").symlink_to("data")
    assert f"{root}/work" in paths(request)
    both = FilesystemSection(read=(f"{root}/work/out", f"{root}/home/private"))
    (root / "work" / "out").symlink_to(root / "home" / "private")
    assert f"{root}/home/private" in paths(request.replace(flags=Document(filesystem=both)))


def test_a_directory_of_tools_that_was_turned_is_left_out(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    request = request_for(root, NAMESPACES, Document(), f"{root}/work/bin:/usr/bin:/bin")
    (root / "work" / "bin").symlink_to(root / "home" / "private")
    found = paths(request)
    assert f"{root}/work" in found
    assert not any("private" in path for path in found)
    # One that lies elsewhere is the person's own.
    (root / "mine").symlink_to(root / "home" / "private")
    own = request.replace(environ={"PATH": f"{root}/mine:/usr/bin:/bin"})
    assert f"{root}/home/private" in paths(own)


def test_one_that_was_put_back_while_it_was_looked_at_counts() -> None:
    turned = Place("/work/data", "/home/me", "directory", (1, 2))
    assert is_turned(turned, {"/work"})
    assert not is_turned(turned.replace(path="/work/other"), {"/work"})
    itself = Place("/link", "/work", "directory", (1, 2), (Link("/link", "/work"),))
    assert not is_turned(itself, {"/work"})


def test_each_link_on_the_way_counts_and_none_within_what_it_leads_to() -> None:
    by_way = Place("/mine/link", "/home/me", "directory", (1, 2), (Link("/work/second", "/home"),))
    assert is_turned(by_way, {"/work"})
    assert is_turned(by_way, {"/work/second"})
    assert not is_turned(by_way, {"/wor", "/work/second/below", "/mine/link/below"})
    back = Place("/work/sub/back", "/work", "directory", (1, 2), (Link("/work/sub/back", "/work"),))
    assert not is_turned(back, {"/work"})
    assert not is_turned(Place("/work/../usr", "/usr", "directory", (1, 2)), {"/work"})
