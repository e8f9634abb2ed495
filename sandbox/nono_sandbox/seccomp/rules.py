"""The words in which a seccomp filter is written: rows of data, each with its reason.

Architecture invariant: pure values; what they say is in `table` and `sockets`, what becomes of
them in `bpf`.
"""

from __future__ import annotations

from nono_sandbox.values import Value

ALLOW = 0
"""A row's answer when it isn't an errno: let the call through."""

NOTIFY = -1
"""A row's answer: whoever holds the filter's listener acts in the caller's stead, and answers."""

INT = 0xFFFF_FFFF
"""All the kernel looks at of an `int` argument: the upper half of the register is the caller's."""
POINTER = 0xFFFF_FFFF_FFFF_FFFF


class Condition(Value):
    """`args[arg] & mask` is one of *values*, or none of them if *holds* is false.

    The mask is what the kernel itself looks at. One bit more, and a caller sets it to dodge
    the comparison (CVE-2019-10063, CVE-2023-28100).
    """

    arg: int
    mask: int
    values: tuple[int, ...]
    holds: bool = True


class Row(Value):
    """An answer to some system calls under conditions that hold together.

    The first row that fits a call decides; a known call that no row fits is allowed.
    """

    calls: str
    """Names separated by blanks; one that an architecture hasn't got is left out there."""
    answer: int
    """An errno, ALLOW or NOTIFY."""
    why: str
    when: tuple[Condition, ...] = ()


def one_of(arg: int, *values: int, mask: int = INT) -> Condition:
    """Return the condition that an argument is one of *values*."""
    return Condition(arg, mask, values)


def none_of(arg: int, *values: int, mask: int = INT) -> Condition:
    """Return the condition that an argument is none of *values*."""
    return Condition(arg, mask, values, holds=False)


def any_bit(arg: int, bits: int) -> Condition:
    """Return the condition that at least one of *bits* is set in an argument."""
    return Condition(arg, bits, (0,), holds=False)
