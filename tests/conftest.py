"""What holds for every test: which are collected where, and that none is skipped in CI."""

import gc
import math
import os
import re
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from nono_mcp.guard import times
from nono_sandbox.cgroups import session_groups
from tests import folding

SOURCES = Path(__file__).parents[1]
# The tests are also run from a copy beside which nothing lies but README.md, against the wheel.
collect_ignore_glob = [] if (SOURCES / "bin").is_dir() else ["test_frame_sources*.py"]

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def exact_times() -> str:
    """Return where temporary files have exact times, if anywhere: /tmp is often in memory."""
    for place in (tempfile.gettempdir(), "/var/tmp"):  # noqa: S108 - pytest makes its own there
        if os.access(place, os.W_OK):
            directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            kind = times.file_system(directory)
            os.close(directory)
            if kind in times.LOCKED:
                return place
    return ""


# What imitates a Mac on Linux is none by its kernel's name.
HERE = {
    "linux": sys.platform == "linux",
    "macos": os.uname().sysname == "Darwin",
    "groups": not session_groups.why_none(),
    "exact_times": bool(exact_times()),
    "folding": bool(folding.DIRECTORIES),
}
OF_LINUX = re.compile(r"^pytestmark = .*\bmark\.linux\b", re.MULTILINE)
PROVEN = pytest.StashKey[set[str]]()
TIERS = {"", "namespaces", "landlock"}


def pytest_configure() -> None:
    # A socket's path has 104 bytes there, half of which are the temporary directory's.
    if HERE["macos"]:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/private/tmp")
    if HERE["exact_times"]:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", exact_times())
    tier = os.environ.get("NONO_TEST_TIER", "")
    if tier not in TIERS:
        raise pytest.UsageError(f"NONO_TEST_TIER is {tier!r}, not namespaces or landlock")
    # In the background of a script, or under nohup, we ignore these, and so would all we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector of garbage what is collected here: a million objects that all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what is Linux's as a whole before it is imported, which fails elsewhere."""
    file = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    if HERE["linux"] or file.suffix != ".py" or not file.exists():
        return None
    return OF_LINUX.search(file.read_text(encoding="utf-8")) is not None or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Before anything is deselected, here or by -m.
    config.stash[PROVEN] = {mark.args[0] for item in items for mark in item.iter_markers("claim")}
    elsewhere = [
        item for item in items if not all(HERE.get(m.name, True) for m in item.iter_markers())
    ]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    items[:] = long_first(items, getattr(config, "workerinput", {}).get("workercount", 1))


def long_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Put what is long where each of the *workers*, who share in equal parts, begins.

    Others take from the end of a part, so that at last nobody waits for a long one.
    """
    long = [item for item in items if item.get_closest_marker("slow")]
    short = [item for item in items if not item.get_closest_marker("slow")]
    size = math.ceil(len(short) / workers)
    return [
        item
        for number in range(workers)
        for item in (*long[number::workers], *short[number * size : (number + 1) * size])
    ]


@pytest.fixture
def proven(request: pytest.FixtureRequest) -> set[str]:
    """The claims that the collected tests prove."""
    if request.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        pytest.skip("only a run of every test can tell")
    return request.config.stash[PROVEN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure is reported as skipped, but it did run.
    if report.skipped and not hasattr(report, "wasxfail"):
        fail_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        fail_in_ci(report)
    return report


def fail_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure: in CI a proof that didn't run proves nothing."""
    if "CI" in os.environ:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
