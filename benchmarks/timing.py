"""Medians of interleaved rounds: what is compared runs side by side, in one process, in turn.

Warm: in its turn each runs twice, and the second time counts. The first finds the processor's
caches as whoever ran before left them, which says more of that one.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    name: str
    median_s: float
    ratio: float
    p90_s: float


def interleaved(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int, bare: str
) -> list[Row]:
    """Time each contender once a round, *rounds* times; ratios are to *bare*."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, act in contenders.items():
            act()
            began_at = time.perf_counter()
            act()
            times[name].append(time.perf_counter() - began_at)
    return _rows(times, bare)


async def interleaved_async(
    contenders: Mapping[str, Callable[[], Awaitable[object]]], *, rounds: int, bare: str
) -> list[Row]:
    """Do what `interleaved` does, for contenders that are awaited."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, act in contenders.items():
            await act()
            began_at = time.perf_counter()
            await act()
            times[name].append(time.perf_counter() - began_at)
    return _rows(times, bare)


def _rows(times: Mapping[str, list[float]], bare: str) -> list[Row]:
    base = statistics.median(times[bare])
    return [
        Row(
            name,
            statistics.median(taken),
            statistics.median(taken) / base,
            statistics.quantiles(taken, n=10)[-1],
        )
        for name, taken in times.items()
    ]


def show(title: str, rows: list[Row]) -> None:
    """Print a table of *rows*."""
    sys.stdout.write(f"\n{title}\n{'':<44} {'median ms':>10} {'p90 ms':>8} {'ratio':>7}\n")
    for row in rows:
        times = f"{row.median_s * 1e3:>10.2f} {row.p90_s * 1e3:>8.2f}"
        sys.stdout.write(f"{row.name:<44} {times} {row.ratio:>6.2f}x\n")
    sys.stdout.flush()
