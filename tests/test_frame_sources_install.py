"""Install as people do, and see that the commands start and find what was installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1]
# What made the virtual environment we run in.
BASE = sys._base_executable  # type: ignore[attr-defined] # noqa: SLF001
PIP = (sys.executable, "-I", "-m", "pip")

# To compile all takes longer than all that is tried; `test_a_wheel_starts` has pip do it.
TRIED_ONCE = ("--no-compile",)

Install = Callable[[Path, Path], None]


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "UV_OFFLINE": "1", **variables}
    finished = subprocess.run(
        command,
        capture_output=True,
        check=False,
        cwd=cwd,
        env=environment,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def build(sources: Path, target: str, into: Path) -> Path:
    run(sys.executable, "-I", "-m", "hatchling", "build", "-t", target, "-d", into, cwd=sources)
    [built] = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(SOURCES, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(SOURCES, "wheel:editable", tmp_path_factory.mktemp("editable"))


def make_venv(path: Path) -> Path:
    run(BASE, "-I", "-m", "venv", "--without-pip", path)
    return path / "bin"


def pip_install(what: Path, bin_directory: Path, *options: str) -> None:
    run(*PIP, "--python", bin_directory / "python", "install", "--no-deps", *options, what)


def uv_install(what: Path, bin_directory: Path) -> None:
    run("uv", "pip", "install", "--python", bin_directory / "python", "--no-deps", what)


# uv is tried where it's to be had: .ci/run has it for root, and tries without it as a user.
INSTALLERS = [pip_install, *([uv_install] if shutil.which("uv") else [])]


def assert_commands_start(bin_directory: Path, package: Path) -> None:
    """Start each command from a directory that holds modules of our names."""
    elsewhere = bin_directory.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "nono_mcp.py").write_text("raise SystemExit('the wrong one')")
    assert run(bin_directory / "nono", "--version", cwd=elsewhere).startswith("nono ")
    assert "nono serve" in run(bin_directory / "nono-mcp", "--help", cwd=elsewhere)
    where = "import nono_mcp, sys; print(*nono_mcp.__path__)"
    found = Path(run(bin_directory / "nono-python", "-c", where, cwd=elsewhere).rstrip("\n"))
    assert found.samefile(package)


@pytest.mark.parametrize("install", INSTALLERS)
@pytest.mark.parametrize("name", ["venv", "it's a venv"])
def test_a_wheel_starts(wheel: Path, tmp_path: Path, install: Install, name: str) -> None:
    commands = make_venv(tmp_path / name)
    install(wheel, commands)
    [package] = (tmp_path / name).glob("lib/python3*/site-packages/nono_mcp")
    assert_commands_start(commands, package)


@pytest.mark.parametrize("install", INSTALLERS)
def test_an_editable_install_starts(editable: Path, tmp_path: Path, install: Install) -> None:
    commands = make_venv(tmp_path / "venv")
    install(editable, commands)
    assert_commands_start(commands, SOURCES / "nono_mcp")


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build(SOURCES, "sdist", tmp_path / "sdist")
    run("tar", "-xf", sdist, "-C", tmp_path)
    [unpacked] = tmp_path.glob("nono_mcp-*")
    assert build(unpacked, "wheel", tmp_path / "wheel").read_bytes() == wheel.read_bytes()


def test_a_wheel_brings_our_packages_and_commands_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    release = "-".join(wheel.name.split("-")[:2])
    packages = {"nono_mcp", "nono_proxy", "nono_sandbox"}
    assert {name.split("/")[0] for name in names} == {
        *packages,
        f"{release}.data",
        f"{release}.dist-info",
    }
    scripts = f"{release}.data/scripts/"
    assert {name for name in names if ".data/" in name} == {scripts + "nono", scripts + "nono-mcp"}


def install_outside_a_venv(wheel: Path, base: Path, *options: str) -> None:
    # Debian's Python refuses without the long word.
    options = ("--break-system-packages", "--no-deps", "--no-warn-script-location", *options)
    run(*PIP, "--python", BASE, "install", *TRIED_ONCE, *options, wheel, PYTHONUSERBASE=str(base))


def test_an_install_of_a_user_starts(wheel: Path, tmp_path: Path) -> None:
    base = tmp_path / "user base"
    install_outside_a_venv(wheel, base, "--user")
    assert run(base / "bin" / "nono", "--version").startswith("nono ")


def test_an_install_in_debians_layout_starts(wheel: Path, tmp_path: Path) -> None:
    install_outside_a_venv(wheel, tmp_path, f"--prefix={tmp_path}")
    # Debian's own pip puts packages into dist-packages.
    for packages in tmp_path.glob("lib/python3*/site-packages"):
        packages.rename(packages.with_name("dist-packages"))
    assert run(tmp_path / "bin" / "nono", "--version").startswith("nono ")


def test_installed_packages_are_in_reach_of_who_asks(wheel: Path, tmp_path: Path) -> None:
    base = tmp_path / "user base"
    install_outside_a_venv(wheel, base, "--user")
    [packages] = (path.parent for path in base.rglob("nono_mcp"))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "dependency.py").touch()
    (packages / "linked.pth").write_text(f"{tmp_path / 'linked'}\n")
    code = f"import sys; sys.path.append({str(packages)!r})"
    asked = "from nono_mcp._site import enable_site; enable_site()"
    run(BASE, "-I", "-S", "-c", f"{code}; {asked}; import dependency")
    with pytest.raises(AssertionError, match="No module named 'dependency'"):
        run(BASE, "-I", "-S", "-c", f"{code}; import dependency")


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    commands = make_venv(tmp_path_factory.mktemp("installed") / "venv")
    pip_install(wheel, commands, *TRIED_ONCE)
    return commands


def test_links_to_the_commands_start(commands: Path, tmp_path: Path) -> None:
    for name in ("nono", "nono-mcp"):
        (tmp_path / name).symlink_to(commands / name)
    (tmp_path / "again").symlink_to("nono")
    (tmp_path / "directory").symlink_to(commands)
    for spelling in ("nono", "again", "directory/nono"):
        assert run(tmp_path / spelling, "--version").startswith("nono ")
    assert "nono serve" in run(tmp_path / "nono-mcp", "--help")
    relative = os.pathsep.join([".", os.environ["PATH"]])
    assert run("/bin/sh", "-c", "again --version", cwd=tmp_path, PATH=relative).startswith("nono ")


def test_the_command_starts_from_its_own_directory(commands: Path) -> None:
    assert run("./nono", "--version", cwd=commands).startswith("nono ")
    assert run("/bin/sh", "nono", "--version", cwd=commands).startswith("nono ")
    assert "nono serve" in run("/bin/sh", "nono-mcp", "--help", cwd=commands)


BY_WAY_OF_SH = """#!/bin/sh
'''exec' {} "$0" "$@"
' '''
"""


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("python3.11", "#!{}\nimport sys\n"),
        ("python3.11", "#!{} -s\nimport sys\n"),
        ("a python", BY_WAY_OF_SH.format("'{}'")),
        ("a python", BY_WAY_OF_SH.format('"{}"')),
        ("exec it's long" + "g" * 128, BY_WAY_OF_SH.format('"{}"')),
        ("python-of-a-long-name" + "g" * 128, BY_WAY_OF_SH.format("{}")),
    ],
)
def test_the_interpreter_is_the_one_the_installer_chose(
    tmp_path: Path, name: str, written: str
) -> None:
    python = tmp_path / name
    python.write_text('#!/bin/sh\nprintf "%s|" "$0" "$@"\n')
    python.chmod(0o755)
    nono = shutil.copy(SOURCES / "bin" / "nono", tmp_path)
    (tmp_path / "nono-python").write_text(written.format(python))
    shown = run(nono, "run", "a b", "").split("|")
    assert shown == [str(python), "-I", "-S", str(nono), "run", "a b", "", ""]
