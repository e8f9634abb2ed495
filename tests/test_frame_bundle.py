"""The bundle is as good as the sources: never older, never another Python's, never in the way."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from nono_mcp import _bundle, _bundling
from nono_mcp._bundle import FOLDERS

SCRIPT = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from nono_mcp import _bundle
_bundle.install(sys.argv[1])
import nono_mcp.cli.said as said, nono_sandbox.values as values
print(said.TEXT, type(said.__spec__.loader).__name__, values.__file__)
"""


class Installed:
    """Packages in a directory, as an installer leaves them, and what a start says of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for folder in FOLDERS:
            (directory / folder).mkdir(parents=True)
            (directory / folder / "__init__.py").touch()
        self.said = directory / "nono_mcp/cli/said.py"
        self.said.write_text("TEXT = 'first'\n")
        (directory / "nono_sandbox/values.py").touch()
        for module in (_bundle, _bundling):
            source = Path(module.__file__ or "")
            (directory / "nono_mcp" / source.name).write_bytes(source.read_bytes())
        self.start()  # the first import makes __pycache__

    def start(self) -> list[str]:
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            SCRIPT,
            str(self.directory),
            str(self.directory),
        ]
        finished = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
        return finished.stdout.split()

    def bundle(self) -> Path:
        [path] = (self.directory / "nono_mcp/__pycache__").glob("bundle.*")
        return path


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_code_comes_from_the_bundle_and_says_where_its_source_is(installed: Installed) -> None:
    values = installed.directory / "nono_sandbox/values.py"
    assert installed.start() == ["first", "_Loader", str(values)]


def test_a_changed_source_counts_at_once_and_is_in_the_next_bundle(installed: Installed) -> None:
    installed.said.write_text("TEXT = 'another'\n")
    assert installed.start()[0] == "another"
    assert installed.start()[:2] == ["another", "_Loader"]


def test_a_changed_source_counts_however_it_comes_to_be_imported(installed: Installed) -> None:
    folder = installed.said.parent
    installed.said.write_text("from nono_mcp.cli.between import TEXT\n")
    (folder / "between.py").write_text("from nono_mcp.cli.below import TEXT\n")
    (folder / "below.py").write_text("TEXT = 'first'\n")
    installed.start()
    assert installed.start()[:2] == ["first", "_Loader"]
    (folder / "below.py").write_text("TEXT = 'another'\n")
    assert installed.start()[0] == "another"
    assert installed.start()[:2] == ["another", "_Loader"]


def test_a_source_that_is_gone_is_gone(installed: Installed) -> None:
    installed.said.unlink()
    with pytest.raises(subprocess.CalledProcessError):
        installed.start()


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b"\x10\0\0\0garbage", None])
def test_what_is_no_bundle_is_replaced(installed: Installed, damage: bytes | None) -> None:
    damaged = installed.bundle().read_bytes()[:-1] if damage is None else damage
    installed.bundle().write_bytes(damaged)
    assert installed.start()[:2] == ["first", "_Loader"]
    assert installed.bundle().read_bytes() != damaged


def test_one_that_another_python_made_is_replaced(installed: Installed) -> None:
    whole = installed.bundle().read_bytes()
    magic = importlib.util.MAGIC_NUMBER
    assert whole.count(magic) == 1
    installed.bundle().write_bytes(whole.replace(magic, b"\0\0\r\n"))
    assert installed.start()[:2] == ["first", "_Loader"]
    assert magic in installed.bundle().read_bytes()


def test_one_of_another_directory_is_replaced(installed: Installed, tmp_path: Path) -> None:
    copy = tmp_path.with_name(f"{tmp_path.name}-copy")
    subprocess.run(["cp", "-a", str(tmp_path), str(copy)], check=True)
    installed.directory = copy
    assert installed.start() == ["first", "_Loader", str(copy / "nono_sandbox/values.py")]


def test_one_that_is_replaced_while_it_is_used_gives_no_code(installed: Installed) -> None:
    path = installed.bundle()
    found = _bundle._read(str(path), str(installed.directory))  # noqa: SLF001 - between two looks
    assert found is not None
    assert found.code("nono_mcp.cli.said") is not None
    path.write_bytes(path.read_bytes() + b"\0")
    assert found.code("nono_mcp.cli.said") is None


def test_one_that_is_damaged_within_fails_no_start(installed: Installed) -> None:
    whole = installed.bundle().read_bytes()
    head = 4 + int.from_bytes(whole[:4], "little")
    installed.bundle().write_bytes(whole[:head] + b"\xff" * (len(whole) - head))
    # The first does without it, the next has one that is made anew.
    assert [installed.start()[1] for _ in range(3)][-1] == "_Loader"


def test_a_start_that_cannot_write_it_does_without(installed: Installed) -> None:
    installed.bundle().unlink()
    name = f"bundle.{sys.implementation.cache_tag}.pyc"
    (installed.directory / "nono_mcp/__pycache__" / name).mkdir()
    assert installed.start()[:2] == ["first", "SourceFileLoader"]


def test_nobody_else_may_write_it(installed: Installed) -> None:
    assert installed.bundle().stat().st_mode & 0o022 == 0
    assert [path.name for path in installed.bundle().parent.glob("bundle.*")] == [
        installed.bundle().name
    ]


def test_what_a_module_imports_first_is_as_if_it_was_imported(installed: Installed) -> None:
    cli = installed.directory / "nono_mcp/cli"
    installed.said.write_text(
        """if True:
    from nono_mcp.cli import first
import sys
TEXT = repr((
    first.__name__, first.__package__, first.__file__, type(first.__spec__.loader).__name__,
    first is sys.modules["nono_mcp.cli.first"], first is sys.modules["nono_mcp.cli"].first,
    first.OTHER, sys.modules["nono_mcp.cli"].__path__,
)).replace(" ", "")
from nono_mcp.cli import first
"""
    )
    (cli / "first.py").write_text("from nono_mcp.cli import second\nOTHER = second.OTHER\n")
    (cli / "second.py").write_text("from nono_mcp.cli import first\nOTHER = 'of the second'\n")
    expected = (
        "nono_mcp.cli.first", "nono_mcp.cli", str(cli / "first.py"), "_Loader",
        True, True, "of the second", [str(cli)],
    )  # fmt: skip
    said = ""
    for _ in range(2):  # once to make the bundle
        said = installed.start()[0]
    assert said == repr(expected).replace(" ", "")


def test_a_module_that_fails_is_not_there(installed: Installed) -> None:
    (installed.directory / "nono_mcp/cli/first.py").write_text("raise ValueError('as it is')\n")
    installed.said.write_text(
        """import sys
try:
    from nono_mcp.cli import first
except ValueError as error:
    TEXT = f"{error},{'nono_mcp.cli.first' in sys.modules}".replace(" ", "")
"""
    )
    said = ""
    for _ in range(2):
        said = installed.start()[0]
    assert said == "asitis,False"


GROUPED = """
import sys
sys.path[:0] = [sys.argv[1]]
from nono_mcp import _bundle
reads = []
read = _bundle.Bundle._part
_bundle.Bundle._part = lambda self, *part: reads.append(part) or read(self, *part)
_bundle.begin(sys.argv[1], ["nono", *sys.argv[2:]])
told = [name for name in ("nono_mcp.cli.begin_run", "nono_mcp.cli.said") if name in sys.modules]
import nono_mcp.cli.begin_run as again
print(len(reads), *told, again.TEXT, type(again.__spec__.loader).__name__)
"""


@pytest.fixture
def grouped(installed: Installed) -> Installed:
    """One whose `nono run` imports a module more than the one it begins with."""
    begin_run = installed.directory / "nono_mcp/cli/begin_run.py"
    begin_run.write_text("from nono_mcp.cli import said\nTEXT = said.TEXT\n")
    installed.bundle().unlink()
    installed.start()
    return installed


def begun(installed: Installed, *argv: str) -> list[str]:
    command = [sys.executable, "-I", "-S", "-c", GROUPED, str(installed.directory), *argv]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    return done.stdout.split()


def test_what_a_run_needs_is_read_at_once_and_for_a_run_alone(grouped: Installed) -> None:
    both = ["nono_mcp.cli.begin_run", "nono_mcp.cli.said"]
    # For a run its group, and for what was imported as usual the index and a module's own code.
    reads, *told = begun(grouped, "run", "--", "true")
    assert told == [*both, "first", "_Loader"]
    assert int(begun(grouped, "version")[0]) > int(reads)
    assert begun(grouped, "version")[1:] == ["first", "_Loader"]


def test_a_changed_source_of_a_group_counts_at_once(grouped: Installed) -> None:
    grouped.said.write_text("TEXT = 'another'\n")
    assert begun(grouped, "run")[1:] == ["another", "SourceFileLoader"]
    grouped.start()
    assert begun(grouped, "run")[-2:] == ["another", "_Loader"]


def test_a_changed_source_of_a_groups_last_counts_at_once(grouped: Installed) -> None:
    begin_run = grouped.directory / "nono_mcp/cli/begin_run.py"
    begin_run.write_text("TEXT = 'alone'\n")
    assert begun(grouped, "run")[-2:] == ["alone", "SourceFileLoader"]
    grouped.start()
    assert begun(grouped, "run")[-2:] == ["alone", "_Loader"]


BUILT_IN = """
import sys
sys.path[:0] = [sys.argv[1]]
from nono_mcp import _bundle
asked = []
class Finder:
    def find_spec(name, *_):
        asked.append(name)
sys.meta_path.insert(0, Finder)
_bundle.begin(sys.argv[1], ["nono", "run"])
errno = sys.modules["errno"]
print("errno" in asked, errno.__spec__.origin, errno.__loader__.__name__, errno.__package__ == "",
      errno.ENOENT, __import__("errno") is errno)
"""


def test_what_is_built_in_is_as_if_it_was_imported(installed: Installed) -> None:
    begin_run = installed.directory / "nono_mcp/cli/begin_run.py"
    begin_run.write_text("import errno\n")
    installed.bundle().unlink()
    installed.start()
    command = [sys.executable, "-I", "-S", "-c", BUILT_IN, str(installed.directory)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "built-in", "BuiltinImporter", "True", "2", "True"]


LATE = """
import os, shutil, sys
sys.path[:0] = [sys.argv[1]]
from nono_mcp import _bundle
_bundle.begin(sys.argv[1], ["nono", "run"])
from nono_mcp.cli import begin_run
from nono_sandbox import disk_growth
before = "TEXT" in vars(disk_growth)
shutil.rmtree(sys.argv[1])
print(before, disk_growth.TEXT, begin_run.text())
"""


def test_what_is_to_run_later_runs_when_it_is_asked_where_nothing_can_be_read(
    installed: Installed,
) -> None:
    growth = installed.directory / "nono_sandbox/disk_growth.py"
    growth.write_text("TEXT = 'grown'\n")
    begin_run = installed.directory / "nono_mcp/cli/begin_run.py"
    begin_run.write_text(
        "from nono_sandbox import disk_growth\ndef text():\n    return disk_growth.TEXT\n"
    )
    installed.bundle().unlink()
    installed.start()
    command = [sys.executable, "-I", "-S", "-c", LATE, str(installed.directory)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "grown", "grown"]


REPLACING = """
import posix, sys
[path] = (each._path for each in sys.meta_path if hasattr(each, "_path"))
with open(path, "rb") as old, open(path + ".new", "wb") as new:
    new.write(old.read())
posix.replace(path + ".new", path)
TEXT = "replaced"
"""


def test_one_that_another_start_replaces_after_a_group_was_read_fails_nothing(
    grouped: Installed,
) -> None:
    """Several may start at once, and each that found no bundle makes one."""
    grouped.said.write_text(REPLACING)
    grouped.bundle().unlink()
    # The first start makes it, and replaces it as it imports from it; so does the next.
    for _ in range(2):
        assert begun(grouped, "run")[-2] == "replaced"


FAILING = """
def fail(x):
    y = 1
    return (
        y / x)
try:
    fail(0)
except ZeroDivisionError as error:
    failed = error.__traceback__.tb_next
    positions = [*failed.tb_frame.f_code.co_positions()]
    TEXT = str((failed.tb_lineno, *positions[failed.tb_lasti // 2])).replace(" ", "")
"""


def test_what_is_bundled_knows_its_lines_and_no_columns(installed: Installed) -> None:
    installed.said.write_text(FAILING)
    installed.start()  # makes the bundle anew
    assert installed.start()[:2] == ["(5,5,5,None,None)", "_Loader"]
