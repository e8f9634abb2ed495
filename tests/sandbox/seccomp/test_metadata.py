import errno

import pytest

from nono_sandbox.seccomp import unwritten_filter
from nono_sandbox.seccomp.metadata import WITHOUT_METADATA
from nono_sandbox.seccomp.simulate import simulate
from nono_sandbox.seccomp.syscalls import AUDIT_ARCH, numbers

SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_a_call_that_writes_nothing_changes_no_metadata_and_is_otherwise_as_before(
    arch: str,
) -> None:
    program = unwritten_filter(arch)
    refused = set(WITHOUT_METADATA[0].calls.split())
    for name, number in numbers(arch).items():
        answer = simulate(program, AUDIT_ARCH[arch], number, ())
        wanted = SECCOMP_RET_ERRNO | errno.EROFS if name in refused else SECCOMP_RET_ALLOW
        assert answer == wanted, name
