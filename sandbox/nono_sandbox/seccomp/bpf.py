"""Rows compiled to classic BPF, as seccomp(2) takes it.

The program asks for the architecture, finds the call's number in a balanced tree of ranges, and
looks at arguments only of calls that have conditions: so the kernel (seccomp's action cache,
Linux 5.11) runs nothing at all for a call that is simply allowed.

Foreign calls get ENOSYS: those of another architecture (int 0x80, a 32-bit program), the x32
numbers from 0x40000000 on, and every number that `syscalls` doesn't know, so that a new
kernel's new call is no hole before somebody has judged it.

Architecture invariant: a pure function of its arguments; installing its result is the caller's
act. Little endian only, which both architectures are.
"""

from __future__ import annotations

import struct
from errno import ENOSYS

from nono_sandbox.seccomp.rules import ALLOW, INT, NOTIFY
from nono_sandbox.seccomp.syscalls import AUDIT_ARCH, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from nono_sandbox.seccomp.rules import Condition, Row

    # What a call comes to: answers in order, each with its conditions, up to the first that
    # has none.
    Decision: TypeAlias = tuple[tuple[int, tuple[Condition, ...]], ...]

SECCOMP_RET_ERRNO = 0x0005_0000
SECCOMP_RET_USER_NOTIF = 0x7FC0_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000

_ACTIONS = {ALLOW: SECCOMP_RET_ALLOW, NOTIFY: SECCOMP_RET_USER_NOTIF}

INSTRUCTIONS_MAX = 4096
"""BPF_MAXINSNS."""

# BPF_LD | BPF_W | BPF_ABS and so on, of <linux/bpf_common.h>.
LOAD = 0x20
AND = 0x54
JUMP = 0x05
JUMP_EQUAL = 0x15
JUMP_AT_LEAST = 0x35
RETURN = 0x06

# struct seccomp_data of <linux/seccomp.h>.
NUMBER_AT = 0
ARCH_AT = 4
ARGS_AT = 16

_NEAR = 254
"""A conditional jump spans at most 255 instructions, one of which its own sibling may need."""


class UnknownCallError(Exception):
    """A row names a system call that no table knows; nothing was compiled."""


def compile_rows(rows: tuple[Row, ...], arch: str) -> bytes:
    """Return an array of struct sock_filter that answers as *rows* say on *arch*.

    Raises:
        UnsupportedArchitectureError: There is no table for *arch*; don't go on.
        UnknownCallError: A row would be left out silently; don't go on.
    """
    code = _Code()
    ranges = _ranges(_decisions(rows, arch))
    native = code.load(NUMBER_AT, INT, code.tree(ranges))
    foreign = code.answer(ENOSYS)
    code.load(ARCH_AT, INT, code.jump(JUMP_EQUAL, AUDIT_ARCH[arch], native, foreign))
    return code.assemble()


def _decisions(rows: tuple[Row, ...], arch: str) -> dict[int, Decision]:
    """Return what each call of *arch* comes to, by its number."""
    known = numbers(arch)
    decisions: dict[int, Decision] = dict.fromkeys(known.values(), ())
    absent: set[str] = set()
    for row in rows:
        for name in row.calls.split():
            if name not in known:
                absent.add(name)
                continue
            decision = decisions[known[name]]
            if not decision or decision[-1][1]:
                decisions[known[name]] = (*decision, (row.answer, row.when))
    _check_elsewhere(absent)
    return decisions


def _check_elsewhere(names: set[str]) -> None:
    unknown = names and names.difference(*map(numbers, AUDIT_ARCH))
    if unknown:
        raise UnknownCallError(f"no system call is named {', '.join(sorted(unknown))}")


def _ranges(decisions: dict[int, Decision]) -> list[tuple[int, Decision]]:
    """Return where each stretch of like numbers begins, and what it comes to."""
    unknown: Decision = ((ENOSYS, ()),)
    ranges: list[tuple[int, Decision]] = []
    for number in range(max(decisions) + 2):
        decision = decisions.get(number, unknown)
        if not ranges or ranges[-1][1] != decision:
            ranges.append((number, decision))
    return ranges


class _Code:
    """Instructions in reverse, since every jump of BPF goes forward: targets exist before jumps.

    A label is how many instructions follow the one it stands for.
    """

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []
        self._answers: dict[int, int] = {}
        self._decisions: dict[Decision, int] = {}

    def assemble(self) -> bytes:
        if len(self._code) > INSTRUCTIONS_MAX:
            raise OverflowError(f"{len(self._code)} instructions, {INSTRUCTIONS_MAX} is the limit")
        fields = [field for instruction in reversed(self._code) for field in instruction]
        return struct.pack("=" + "HBBI" * len(self._code), *fields)

    def tree(self, ranges: list[tuple[int, Decision]]) -> int:
        if len(ranges) == 1:
            return self._decide(ranges[0][1])
        middle = len(ranges) // 2
        above = self.tree(ranges[middle:])
        below = self.tree(ranges[:middle])
        return self.jump(JUMP_AT_LEAST, ranges[middle][0], above, below)

    def answer(self, answer: int) -> int:
        label = self._answers.get(answer)
        # Another return costs no more than the long jump to a far one.
        if label is None or self._distance(label) > _NEAR:
            action = _ACTIONS.get(answer, SECCOMP_RET_ERRNO | answer & 0xFFFF)
            label = self._answers[answer] = self._put(RETURN, action)
        return label

    def jump(self, code: int, value: int, yes: int, no: int) -> int:
        yes = self._near(yes)
        no = self._near(no)
        return self._put(code, value, self._distance(yes), self._distance(no))

    def load(self, offset: int, mask: int, then: int) -> int:
        """Load a word, keep the bits of *mask*, and go on at *then*."""
        if self._distance(then):
            self._put(JUMP, self._distance(then))
        if mask != INT:
            self._put(AND, mask)
        return self._put(LOAD, offset)

    def _decide(self, decision: Decision) -> int:
        label = self._decisions.get(decision)
        if label is None:
            after = self.answer(ALLOW)
            for answer, when in reversed(decision):
                yes = self.answer(answer)
                for condition in reversed(when):
                    yes = self._test(condition, yes, after)
                after = yes
            label = self._decisions[decision] = after
        return label

    def _test(self, condition: Condition, yes: int, no: int) -> int:
        if not condition.holds:
            yes, no = no, yes
        low, high = condition.mask & INT, condition.mask >> 32
        offset = ARGS_AT + 8 * condition.arg
        if not high:
            for value in reversed(condition.values):
                no = self.jump(JUMP_EQUAL, value, yes, no)
            return self.load(offset, low, no)
        for value in reversed(condition.values):
            same = self.load(offset, low, self.jump(JUMP_EQUAL, value & INT, yes, no))
            no = self.load(offset + 4, high, self.jump(JUMP_EQUAL, value >> 32, same, no))
        return no

    def _near(self, label: int) -> int:
        distance = self._distance(label)
        return label if distance < _NEAR else self._put(JUMP, distance)

    def _distance(self, label: int) -> int:
        """Return how many instructions the next one would skip to reach *label*."""
        return len(self._code) - label

    def _put(self, code: int, value: int, yes: int = 0, no: int = 0) -> int:
        self._code.append((code, yes, no, value))
        return len(self._code)
