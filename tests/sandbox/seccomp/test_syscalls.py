import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from nono_sandbox.seccomp.syscalls import AARCH64, X86_64, UnsupportedArchitectureError, numbers

pytestmark = pytest.mark.linux

# What arch/arm64/include/asm/unistd.h asks of the generic header.
ARM64_WANTS = (
    "RENAMEAT",
    "NEW_STAT",
    "SET_GET_RLIMIT",
    "SYS_CLONE3",
    "MEMFD_SECRET",
)
NEWEST = 471

needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None and "CI" not in os.environ, reason="no C preprocessor"
)


def defined(header: str, *flags: str) -> dict[str, int]:
    """Return the system calls that a header of this machine defines."""
    finished = subprocess.run(
        ["gcc", "-dM", "-E", *flags, "-include", header, "-x", "c", "/dev/null"],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    macros = dict(re.findall(r"^#define __NR(\w+) (\w+)$", finished.stdout, re.MULTILINE))
    calls = {}
    for name, value in macros.items():
        if name.startswith("3264_") or name in ("_syscalls", "_arch_specific_syscall"):
            continue
        number = value
        while not number.isdigit():
            number = macros[number.removeprefix("__NR")]
        calls[name.removeprefix("_")] = int(number)
    return calls


@needs_gcc
@pytest.mark.skipif(os.uname().machine != X86_64, reason="the header is this machine's")
def test_x86_64_is_the_headers() -> None:
    calls = defined("asm/unistd_64.h")
    assert len(calls) > 350
    assert calls.items() <= numbers(X86_64).items()


@needs_gcc
def test_aarch64_is_the_generic_headers() -> None:
    calls = defined("asm-generic/unistd.h", *(f"-D__ARCH_WANT_{word}" for word in ARM64_WANTS))
    assert len(calls) > 300
    assert calls.items() <= numbers(AARCH64).items()


@pytest.mark.parametrize(("arch", "count"), [(X86_64, 385), (AARCH64, 327)])
def test_every_name_and_every_number_stands_once(arch: str, count: int) -> None:
    calls = numbers(arch)
    assert len(calls) == len(set(calls.values())) == count


@pytest.mark.parametrize("arch", [X86_64, AARCH64])
def test_newer_calls_have_the_numbers_they_have_everywhere(arch: str) -> None:
    calls = numbers(arch)
    assert max(calls.values()) == NEWEST
    newer = {
        "clone3": 435,
        "quotactl_fd": 443,
        "cachestat": 451,
        "fchmodat2": 452,
        "map_shadow_stack": 453,
        "futex_requeue": 456,
        "statmount": 457,
        "listmount": 458,
        "lsm_set_self_attr": 460,
        "mseal": 462,
        "setxattrat": 463,
        "getxattrat": 464,
        "removexattrat": 466,
        "open_tree_attr": 467,
        "file_getattr": 468,
        "file_setattr": 469,
        "listns": 470,
        "rseq_slice_yield": 471,
    }
    assert newer.items() <= calls.items()


def test_probes_of_the_kernel_itself_are_known_where_they_exist() -> None:
    assert {"uretprobe": 335, "uprobe": 336}.items() <= numbers(X86_64).items()


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="riscv64"):
        numbers("riscv64")


@pytest.mark.skipif(os.uname().machine not in (X86_64, AARCH64), reason="no table to compare")
def test_the_running_kernel_has_nothing_at_the_numbers_that_name_nothing(
    confined: Callable[..., list[int]], kernel: Callable[..., int]
) -> None:
    unnamed = sorted(set(range(NEWEST)) - set(numbers(os.uname().machine).values()))
    assert confined(lambda: [kernel(number, *[-1] * 6) for number in unnamed]) == [
        -errno.ENOSYS
    ] * len(unnamed)
