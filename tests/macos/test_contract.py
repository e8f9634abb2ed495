"""The contract that Linux's tiers keep, collected as a Mac collects it.

Once where the evaluator judges what a confined Python attempts, by the very profile of the call:
then it is kept, but for what only a kernel shows. Once where nothing is judged: then each attempt
has to succeed, and its test to fail, which shows that they'd notice.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nono_mcp
import nono_proxy
import nono_sandbox
from tests.macos import mac, stand_in

if TYPE_CHECKING:
    from tests.macos.conftest import Mac

TESTS = Path(__file__).parents[1]
LONG_ENOUGH_S = 900
CONTRACT = (
    ("files", "environment", "launch_races", "descriptors", "network"),
    ("processes", "resources", "client"),
    ("forkserver", "single_run", "privilege", "metadata", "scratch", "builtin"),
)
"""What of tests/sandbox asks for a confinement, or for what is around it, in three parts."""
COLLECTED_MIN = (50, 40, 60)
OF_THE_STAND_IN = {
    "test_the_environment_is_what_was_given_and_nothing_else[seatbelt]",
    "test_an_environment_may_be_empty[seatbelt]",
}
"""What the shell that the stand-in is adds to."""
OF_THE_KERNEL = {
    "test_no_interpreter_is_run_that_wasnt_granted[seatbelt]",
    "test_a_working_directory_replaced_by_a_link_leads_to_nothing[seatbelt]",
    "test_what_can_only_be_set_in_a_child_is_set_in_one[seatbelt]",
    "test_no_set_id_bit_is_planted_by_making_a_file_nor_by_programs[seatbelt]",
}
"""What other programs than Python attempt, which are judged by a Mac's own kernel alone."""
UNDECIDED = (
    "test_launch_races.py::test_a_grant_swapped_while_a_session_starts_never_leads_elsewhere",
    "test_launch_races.py::test_a_link_swapped_while_a_worker_opens_it_never_leads_outside",
    "test_processes.py::test_nothing_a_program_leaves_survives_its_end[seatbelt-a session of its",
)
"""How names begin of races that judging by names may lose, and of a child that Linux doesn't tell
whose it was."""
NEED_NOTHING = {
    "test_a_file_made_inside_belongs_to_the_person",
    "test_the_supervisors_environment_is_in_no_process_in_reach",
    "test_the_arguments_are_what_was_given",
    "test_the_program_is_called_as_it_was_named",
    "test_a_program_starts_where_the_call_says",
    "test_signals_are_as_a_new_program_expects_them",
    "test_the_mask_for_new_files_is_the_persons",
    "test_priority_is_that_of_the_supervisor",
    "test_who_runs_is_who_asked",
}
"""What holds without any confinement, by how a program is started."""


def outcomes(machine: Mac, names: tuple[str, ...]) -> dict[str, str]:
    """Run the tests of these files as a Mac would; return the outcomes by the tests' names."""
    packages = (nono_mcp, nono_proxy, nono_sandbox)
    roots = sorted({str(Path(*one.__path__).parent) for one in packages})
    code = (
        f"import sys; sys.path += {[*roots, str(mac.HERE)]!r}; import mac;"
        f"mac.contract({str(machine.machine.root)!r}, *sys.argv[1:])"
    )
    files = [TESTS / "sandbox" / name for name in names]
    found = [str(one if one.is_dir() else one.with_name(f"test_{one.name}.py")) for one in files]
    left_out = [f"--deselect=tests/sandbox/{one}" for one in UNDECIDED]
    ended = subprocess.run(
        [sys.executable, "-c", code, "-rA", *left_out, *found],
        capture_output=True,
        check=False,
        cwd=TESTS.parent,
        text=True,
        timeout=LONG_ENOUGH_S,
    )
    told = re.findall(r"^(PASSED|FAILED|ERROR) \S+?::(.+?)(?: - .*)?$", ended.stdout, re.MULTILINE)
    assert told, ended.stdout + ended.stderr
    return {name: outcome for outcome, name in told}


@pytest.mark.slow
@pytest.mark.parametrize(("names", "least"), [*zip(CONTRACT, COLLECTED_MIN, strict=True)])
def test_it_is_kept_where_its_profiles_are(on_mac: Mac, names: tuple[str, ...], least: int) -> None:
    stand_in.judge(on_mac.machine.root)
    told = outcomes(on_mac, names)
    assert len(told) >= least
    failed = {name for name, outcome in told.items() if outcome != "PASSED"}
    assert failed == (OF_THE_STAND_IN | OF_THE_KERNEL) & told.keys()
    assert not [name for name in told if "denied" in name]


def test_where_nothing_is_judged_every_attempt_is_noticed(on_mac: Mac) -> None:
    told = outcomes(on_mac, ("files", "environment"))
    passed = {name.partition("[")[0] for name, outcome in told.items() if outcome == "PASSED"}
    assert passed == NEED_NOTHING
    assert len(told) > len(NEED_NOTHING) + len(OF_THE_STAND_IN)
