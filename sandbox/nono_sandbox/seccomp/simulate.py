"""Classic BPF interpreted as the kernel does it for seccomp, to ask a filter what it would say.

Architecture invariant: knows instructions and nothing of rows, so that it can tell whether the
compiler has kept its word. It reads arguments only when the program does.
"""

from __future__ import annotations

import struct

from nono_sandbox.seccomp import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_INSTRUCTION = struct.Struct("=HBBI")


class InvalidProgramError(Exception):
    """The kernel would refuse to install this program."""


def simulate(program: bytes, audit_arch: int, number: int, args: Sequence[int]) -> int:
    """Return the SECCOMP_RET_* value (action and data) for one system call.

    Raises:
        InvalidProgramError: An instruction is none that is known, or leads out of the program.
    """
    return trace(program, audit_arch, number, args)[0]


def trace(program: bytes, audit_arch: int, number: int, args: Sequence[int]) -> tuple[int, int]:
    """Return what `simulate` returns, and how many instructions that took."""
    code = list(_INSTRUCTION.iter_unpack(program))
    accumulator = at = steps = 0
    while at < len(code):
        operation, yes, no, value = code[at]
        at += 1
        steps += 1
        if operation == bpf.RETURN:
            return value, steps
        if operation == bpf.LOAD:
            accumulator = _word(value, audit_arch, number, args)
        elif operation == bpf.AND:
            accumulator &= value
        elif operation == bpf.JUMP:
            at += value
        elif operation == bpf.JUMP_EQUAL:
            at += yes if accumulator == value else no
        elif operation == bpf.JUMP_AT_LEAST:
            at += yes if accumulator >= value else no
        else:
            raise InvalidProgramError(f"unknown operation {operation:#x}")
    raise InvalidProgramError("the program ends without an answer")


def _word(offset: int, audit_arch: int, number: int, args: Sequence[int]) -> int:
    if offset == bpf.NUMBER_AT:
        return number & 0xFFFF_FFFF
    if offset == bpf.ARCH_AT:
        return audit_arch
    arg, rest = divmod(offset - bpf.ARGS_AT, 8)
    if arg not in range(6) or rest not in (0, 4):
        raise InvalidProgramError(f"no word of seccomp_data is at {offset}")
    return args[arg] >> (8 * rest) & 0xFFFF_FFFF
