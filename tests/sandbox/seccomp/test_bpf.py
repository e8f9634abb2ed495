"""The compiler: any rows at all mean the same compiled and read one after another."""

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nono_sandbox.confinement import CLOSED, OPEN, PORTS
from nono_sandbox.seccomp import (
    ALLOW,
    Condition,
    Options,
    Row,
    UnknownCallError,
    UnsupportedArchitectureError,
    base_filter,
    closed_network_filter,
    compile_rows,
)
from nono_sandbox.seccomp import rows as rows_of
from nono_sandbox.seccomp.bpf import (
    INSTRUCTIONS_MAX,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_USER_NOTIF,
)
from nono_sandbox.seccomp.rules import NOTIFY
from nono_sandbox.seccomp.simulate import InvalidProgramError, simulate, trace
from nono_sandbox.seccomp.sockets import WITHOUT_NETWORK
from nono_sandbox.seccomp.syscalls import AARCH64, AUDIT_ARCH, X86_64, numbers

ARCHES = [X86_64, AARCH64]
AUDIT_ARCH_I386 = 0x4000_0003
AUDIT_ARCH_ARM = 0x4000_0028
X32 = 0x4000_0000
NAMES = {arch: {number: name for name, number in numbers(arch).items()} for arch in ARCHES}
NOT_THERE = SECCOMP_RET_ERRNO | errno.ENOSYS

booleans = st.booleans()
options_made = st.builds(
    Options,
    own_network=booleans,
    network=st.sampled_from([CLOSED, OPEN, PORTS]),
    binds=booleans,
    unix_sockets=booleans,
    on_behalf=booleans,
    ptrace=booleans,
    own_ipc=booleans,
    own_pids=booleans,
)
words = st.one_of(
    st.integers(0, 40),
    st.integers(0, 2**64 - 1),
    st.integers(0, 63).map(lambda bit: 1 << bit),
    st.sampled_from([0o4755, 0o2755, 0o100, 0o101, 0o644, 0x5412, 0x40086602, 1024, 2**32]),
)
six_words = st.tuples(words, words, words, words, words, words)


def decide(rows: tuple[Row, ...], arch: str, number: int, args: tuple[int, ...]) -> int:
    """Return the action of the first row that fits, naively."""
    if number not in NAMES[arch]:
        return NOT_THERE
    for row in rows:
        if NAMES[arch][number] in row.calls.split() and all(
            (args[test.arg] & test.mask in test.values) is test.holds for test in row.when
        ):
            if row.answer == NOTIFY:
                return SECCOMP_RET_USER_NOTIF
            return SECCOMP_RET_ALLOW if row.answer == ALLOW else SECCOMP_RET_ERRNO | row.answer
    return SECCOMP_RET_ALLOW


@st.composite
def calls(draw: st.DrawFn, rows: tuple[Row, ...], arch: str) -> tuple[int, tuple[int, ...]]:
    """Draw a call, rather one that a row is about, with arguments near what it looks for."""
    args = list(draw(six_words))
    name = None
    if rows and draw(st.integers(0, 3)) > 0:
        row = draw(st.sampled_from(rows))
        name = draw(st.sampled_from(row.calls.split()))
        for condition in row.when:
            aimed = draw(st.sampled_from(condition.values or (0,))) | (
                draw(words) & ~condition.mask & 2**64 - 1
            )
            args[condition.arg] = draw(
                st.sampled_from([aimed, aimed ^ 1 << draw(st.integers(0, 63))])
            )
    known = numbers(arch)
    if name in known:
        return known[name], tuple(args)
    return draw(st.integers(0, 600) | st.integers(0, 2**32 - 1)), tuple(args)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_compiled_table_is_the_table(data: st.DataObject) -> None:
    arch = data.draw(st.sampled_from(ARCHES))
    rows = rows_of(data.draw(options_made))
    program = compile_rows(rows, arch)
    for _ in range(5):
        number, args = data.draw(calls(rows, arch))
        assert simulate(program, AUDIT_ARCH[arch], number, args) == decide(rows, arch, number, args)


masks = st.one_of(
    st.just(0xFFFF_FFFF),
    st.just(2**64 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(1, 2**32 - 1).map(lambda low: low << 32),
)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    mask = draw(masks)
    values = draw(st.lists(words.map(lambda word: word & mask), max_size=6))
    return Condition(draw(st.integers(0, 5)), mask, tuple(values), draw(st.booleans()))


@st.composite
def any_rows(draw: st.DrawFn) -> tuple[Row, ...]:
    names = st.lists(st.sampled_from(sorted(numbers(X86_64))), min_size=1, max_size=8)
    answers = st.sampled_from([ALLOW, errno.EPERM, errno.EACCES, errno.ENOSYS, 4095])
    when = st.lists(conditions(), max_size=3).map(tuple)
    row = st.builds(Row, names.map(" ".join), answers, st.just("why"), when)
    return tuple(draw(st.lists(row, max_size=40)))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_rows_compile_to_what_they_say(data: st.DataObject) -> None:
    arch = data.draw(st.sampled_from(ARCHES))
    rows = data.draw(any_rows())
    program = compile_rows(rows, arch)
    for _ in range(5):
        number, args = data.draw(calls(rows, arch))
        assert simulate(program, AUDIT_ARCH[arch], number, args) == decide(rows, arch, number, args)


def test_jumps_longer_than_eight_bits_arrive() -> None:
    names = sorted(numbers(X86_64))
    rows = tuple(
        Row(name, 1 + at % 4000, "far", (Condition(0, 0xFFFF_FFFF, (at, at + 1000)),))
        for at, name in enumerate(names)
    )
    program = compile_rows(rows, X86_64)
    assert len(program) // 8 > 1500
    for at, name in enumerate(names):
        for value in (at, at + 1000, at + 1):
            args = (value, 0, 0, 0, 0, 0)
            number = numbers(X86_64)[name]
            expected = decide(rows, X86_64, number, args)
            assert simulate(program, AUDIT_ARCH[X86_64], number, args) == expected


def test_one_condition_with_many_values_is_a_long_jump_in_itself() -> None:
    values = tuple(range(0, 2000, 2))
    rows = (Row("ioctl", errno.EPERM, "many", (Condition(1, 0xFFFF_FFFF, values),)),)
    program = compile_rows(rows, X86_64)
    for value in (0, 1, 2, 999, 1000, 1997, 1998, 1999):
        args = (0, value, 0, 0, 0, 0)
        number = numbers(X86_64)["ioctl"]
        expected = SECCOMP_RET_ALLOW if value % 2 else SECCOMP_RET_ERRNO | errno.EPERM
        assert simulate(program, AUDIT_ARCH[X86_64], number, args) == expected


def test_what_the_kernel_would_not_load_is_an_error() -> None:
    values = tuple(range(INSTRUCTIONS_MAX))
    with pytest.raises(OverflowError, match=str(INSTRUCTIONS_MAX)):
        compile_rows((Row("ioctl", 1, "too many", (Condition(1, 2**32 - 1, values),)),), X86_64)


def test_a_misspelt_call_is_an_error() -> None:
    with pytest.raises(UnknownCallError, match="umount3"):
        compile_rows((Row("umount2 umount3", errno.EPERM, "misspelt"),), X86_64)


def test_a_machine_without_a_table_gets_no_filter() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="armv7l"):
        base_filter(Options(), "armv7l")


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("number", [0, 20, 102, 0x4000_0014, 2**32 - 1])
@pytest.mark.parametrize("foreign", [AUDIT_ARCH_I386, AUDIT_ARCH_ARM, 0])
def test_another_architecture_has_no_calls(arch: str, number: int, foreign: int) -> None:
    assert simulate(base_filter(Options(), arch), foreign, number, ()) == NOT_THERE


def test_each_architecture_is_foreign_to_the_other() -> None:
    x86_64, aarch64 = base_filter(Options(), X86_64), base_filter(Options(), AARCH64)
    assert simulate(x86_64, AUDIT_ARCH[AARCH64], 63, ()) == NOT_THERE
    assert simulate(aarch64, AUDIT_ARCH[X86_64], 0, ()) == NOT_THERE


@pytest.mark.parametrize("arch", ARCHES)
def test_x32_and_what_no_table_knows_is_not_there(arch: str) -> None:
    program = base_filter(Options(own_network=True, own_ipc=True, own_pids=True), arch)
    known = numbers(arch)
    strangers = set(range(700)) - set(known.values())
    strangers |= {X32 + number for number in known.values()}
    strangers |= {X32 - 1, 0x7FFF_FFFF, 0x8000_0000, 2**32 - 1}
    for number in strangers:
        assert simulate(program, AUDIT_ARCH[arch], number, ()) == NOT_THERE


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("rows", [rows_of(Options()), WITHOUT_NETWORK], ids=["base", "closed"])
def test_a_call_without_conditions_is_decided_by_its_number(
    arch: str, rows: tuple[Row, ...]
) -> None:
    program = compile_rows(rows, arch)
    conditional = {name for row in rows if row.when for name in row.calls.split()}
    for name in numbers(arch).keys() - conditional:
        # The simulator reads an argument only when the program does, and there is none to read.
        simulate(program, AUDIT_ARCH[arch], numbers(arch)[name], ())


@pytest.mark.parametrize("arch", ARCHES)
def test_the_program_is_small_and_shallow(arch: str) -> None:
    program = base_filter(Options(), arch)
    assert len(program) // 8 < 300
    _, steps = trace(program, AUDIT_ARCH[arch], numbers(arch)["openat"], (0,) * 6)
    assert steps <= 20


def test_instructions_are_the_kernels() -> None:
    program = closed_network_filter(X86_64)
    code = list(struct.iter_unpack("=HBBI", program))
    # ld arch; jeq AUDIT_ARCH_X86_64, onwards, elsewhere; ld nr
    assert code[0] == (0x20, 0, 0, 4)
    assert (code[1][0], code[1][1], code[1][3]) == (0x15, 0, 0xC000_003E)
    assert code[2] == (0x20, 0, 0, 0)
    assert {instruction[0] for instruction in code} <= {0x20, 0x54, 0x05, 0x15, 0x35, 0x06}


@pytest.mark.parametrize(
    "instructions",
    [
        [(0x20, 0, 0, 0)],
        [(0x05, 0, 0, 7), (0x06, 0, 0, 0)],
        [(0x07, 0, 0, 0), (0x06, 0, 0, 0)],
        [(0x20, 0, 0, 64), (0x06, 0, 0, 0)],
        [(0x20, 0, 0, 17), (0x06, 0, 0, 0)],
        [(0x20, 0, 0, 8), (0x06, 0, 0, 0)],
    ],
)
def test_the_simulator_refuses_what_makes_no_sense(
    instructions: list[tuple[int, int, int, int]],
) -> None:
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    with pytest.raises(InvalidProgramError):
        simulate(program, AUDIT_ARCH[X86_64], 0, (0,) * 6)
