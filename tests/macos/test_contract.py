"""The contract that Linux's tiers keep, collected as a Mac collects it, where nothing confines.

So each attempt has to succeed, and its test to fail: that shows that they are collected, that what
is around them works there, and that they'd notice.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nono_mcp
import nono_sandbox
from tests.macos import mac

if TYPE_CHECKING:
    from tests.macos.conftest import Mac

TESTS = Path(__file__).parents[1]
FILES = ("sandbox/test_files.py", "sandbox/test_environment.py")
NEED_NOTHING = {
    "test_a_file_made_inside_belongs_to_the_person",
    "test_the_supervisors_environment_is_in_no_process_in_reach",
    "test_the_arguments_are_what_was_given",
    "test_the_program_is_called_as_it_was_named",
    "test_a_program_starts_where_the_call_says",
    "test_the_mask_for_new_files_is_the_persons",
}
"""What holds without any confinement, by how a program is started."""
OF_THE_STAND_IN = {
    "test_the_environment_is_what_was_given_and_nothing_else",
    "test_an_environment_may_be_empty",
}
"""What the shell that the stand-in is adds to."""


def test_it_is_collected_and_every_attempt_is_noticed(on_mac: Mac) -> None:
    roots = sorted({str(Path(*one.__path__).parent) for one in (nono_mcp, nono_sandbox)})
    code = (
        f"import sys; sys.path += {[*roots, str(mac.HERE)]!r}; import mac;"
        f"mac.contract({str(on_mac.machine.root)!r}, *sys.argv[1:])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "-rA", *(str(TESTS / name) for name in FILES)],
        capture_output=True,
        check=False,
        cwd=TESTS.parent,
        text=True,
        timeout=120,
    )
    outcomes = dict(
        reversed(found)
        for found in re.findall(
            r"^(PASSED|FAILED) \S+::(\w+)\[seatbelt\]", ended.stdout, re.MULTILINE
        )
    )
    assert len(outcomes) >= 17, ended.stdout + ended.stderr
    passed = {name for name, outcome in outcomes.items() if outcome == "PASSED"}
    assert passed | OF_THE_STAND_IN == NEED_NOTHING | OF_THE_STAND_IN, ended.stdout
    assert "denied" not in " ".join(outcomes)
