"""A umask that takes the owner's own bits: ours stays of use, and a program gets that umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import nono_mcp
from nono_sandbox import private

pytestmark = [pytest.mark.linux, pytest.mark.anyio]

TIER = os.environ.get("NONO_TEST_TIER") or None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[0o177, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "home"
    (made / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "disabled:")
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize("umask", [0o777], ids=oct, indirect=True)
async def test_a_session_keeps_its_state_usable(home: Path, umask: int) -> None:
    project = home / "project"
    for _ in ("anew", "from what the first left"):
        async with nono_mcp.Session(project, tier=TIER, hosts=["example.org"]) as session:
            done = await session.run("umask; mkdir .vscode; echo made > made")
            assert done.status == 0, done.text
            assert int(done.text, 8) == umask
            assert not (project / ".vscode").exists()
            await session.rollback(done.before)
            assert not (project / "made").exists()
    state = home / ".local/state/nono"
    assert list((state / "quarantine").rglob(".vscode"))
    assert state.stat().st_mode & 0o777 == 0o700
    unusable = {
        str(path.relative_to(home)): oct(path.stat().st_mode)
        for path in (home / ".local").rglob("*")
        if not path.is_symlink() and path.name != ".vscode"
        if ~path.stat().st_mode & (0o700 if path.is_dir() else 0o600)
    }
    assert unusable == {}


def test_what_is_made_is_its_owners_and_nobody_elses(tmp_path: Path, umask: int) -> None:
    assert umask
    private.ensure_directories(f"{tmp_path}/above/below")
    descriptor = private.open_file(f"{tmp_path}/above/below/file", private.NEW)
    os.close(descriptor)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("above/below", "above")]
    assert modes == [0o700, 0o777 & ~umask | 0o700]
    assert (tmp_path / "above/below/file").stat().st_mode & 0o777 == 0o600


def test_no_symlink_is_followed_in_giving_back(tmp_path: Path, umask: int) -> None:
    assert umask
    (tmp_path / "others").mkdir(mode=0o500)
    os.chmod(tmp_path / "others", 0o500)  # noqa: PTH101 - beside what the umask took
    (tmp_path / "link").symlink_to("others")
    private.ensure_directory(f"{tmp_path}/link")
    with pytest.raises(OSError, match="link"):
        private.open_file(f"{tmp_path}/link", os.O_RDWR | os.O_CREAT)
    assert (tmp_path / "others").stat().st_mode & 0o777 == 0o500


def test_what_is_made_anew_with_all_above_it_is_ours_alone(tmp_path: Path) -> None:
    private.ensure_directories(str(tmp_path / "state" / "nono" / "guard"))
    assert [path.stat().st_mode & 0o77 for path in sorted(tmp_path.rglob("*"))] == [0, 0, 0]
