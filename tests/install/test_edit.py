"""`nono install` as a person calls it."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nono_mcp.install import edit, writing
from nono_mcp.install.errors import InstallError
from nono_mcp.install.hosts import HOSTS

NONO = Path(sys.executable).parent / "nono"
HOME_CONFIG = '# mine\nmodel = "x"\n'


def install(root: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    (root / "home").mkdir(exist_ok=True)
    (root / "project").mkdir(exist_ok=True)
    done = subprocess.run(
        [NONO, "install", *arguments],
        cwd=root / "project",
        env={"HOME": str(root / "home"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("host", sorted(HOSTS))
def test_it_is_installed_once_and_uninstalled(tmp_path: Path, host: str) -> None:
    plan = install(tmp_path, host, "--dry-run")
    assert files(tmp_path) == {}
    done = install(tmp_path, host)
    assert done.stdout == plan.stdout
    assert "+" in done.stdout
    (written,) = files(tmp_path)
    text = (tmp_path / written).read_text()
    document = tomllib.loads(text) if written.endswith(".toml") else json.loads(text)
    for name in HOSTS[host].path:
        document = document[name]
    assert document == HOSTS[host].server
    assert written.startswith("home/" if host == "codex" else "project/")
    again = install(tmp_path, host)
    assert again.stdout == ""
    assert "nothing to do" in again.stderr
    assert list(files(tmp_path)) == [written]
    assert "removed" in install(tmp_path, host, "--uninstall").stderr
    assert files(tmp_path) == {}
    assert "nothing to do" in install(tmp_path, host, "--uninstall").stderr


def test_what_was_there_stays_and_is_kept_beside(tmp_path: Path) -> None:
    project = tmp_path / "project" / ".vscode"
    project.mkdir(parents=True)
    real = tmp_path / "dotfiles.json"
    theirs = '\ufeff{\n  // ours\n  "servers": {"other": {"command": "x"}}\n}\n'
    real.write_text(theirs)
    real.chmod(0o600)
    (project / "mcp.json").symlink_to(real)
    told = json.loads(install(tmp_path, "vscode", "--json").stdout)
    assert told["changed"]
    assert told["path"] == str(real)
    assert (project / "mcp.json").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert "// ours" in real.read_text()
    assert '"other": {"command": "x"}' in real.read_text()
    assert (tmp_path / "dotfiles.json.before-nono").read_text() == theirs
    install(tmp_path, "vscode", "--uninstall")
    assert (project / "mcp.json").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == {"dotfiles.json": theirs, "project/.vscode/mcp.json": theirs}


def test_what_cant_be_changed_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    broken = tmp_path / "project" / ".mcp.json"
    broken.write_text('{"mcpServers": ')
    assert "isn't JSON" in install(tmp_path, "claude-code", status=1).stderr
    assert broken.read_text() == '{"mcpServers": '
    broken.write_bytes(b"\xff")
    assert "can't be read" in install(tmp_path, "claude-code", status=1).stderr
    assert "scope" in install(tmp_path, "claude-code", "--scope", "user", status=1).stderr
    assert "did you mean" in install(tmp_path, "claude-cod", status=2).stderr
    assert "one HOST" in install(tmp_path, status=2).stderr
    assert [path.name for path in broken.parent.iterdir()] == [".mcp.json"]


def test_a_link_that_leads_nowhere_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    loop = tmp_path / "project" / ".mcp.json"
    loop.symlink_to(loop)
    assert "Symlink loop" in install(tmp_path, "claude-code", status=1).stderr


def test_a_file_is_read_that_is_no_longer_than_may_be(tmp_path: Path) -> None:
    file = tmp_path / ".mcp.json"
    file.write_text("{" + " " * edit.FILE_BYTES_MAX + "}")
    with pytest.raises(InstallError, match="more than"):
        edit.plan(HOSTS["claude-code"], str(file), uninstall=False)


def test_what_somebody_wrote_since_it_was_planned_stays(tmp_path: Path) -> None:
    file = tmp_path / ".mcp.json"
    for before, meanwhile in ((None, "{}"), ("{}", '{"theirs": 1}')):
        file.unlink(missing_ok=True)
        if before is not None:
            file.write_text(before)
        planned = edit.plan(HOSTS["claude-code"], str(file), uninstall=False)
        file.write_text(meanwhile)
        with pytest.raises(InstallError, match="changed meanwhile"):
            writing.write(planned)
        assert file.read_text() == meanwhile
        assert list(tmp_path.iterdir()) == [file]
