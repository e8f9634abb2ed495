"""What `benchmarks.proxy` measured, as tables, and whether each bar is held."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Protocol, TypeVar


class Named(Protocol):
    """Who is measured."""

    @property
    def name(self) -> str:
        """What it's called."""


N = TypeVar("N", bound=Named)
Row = list[float]
Rows = dict[str, Row]


def turns(
    contenders: list[N],
    measure: Callable[[N], Row],
    rounds: int,
    picks: Sequence[Callable[[Row], float]] = (),
) -> Rows:
    """Measure each *rounds* times; return medians, or what *picks* makes of each column."""
    each_by: Iterable[Callable[[Row], float]] = picks or repeat(statistics.median)
    found: dict[str, list[Row]] = {each.name: [] for each in contenders}
    for _ in range(rounds):
        for each in contenders:
            found[each.name].append(measure(each))
    return {
        name: [
            pick(list(column))
            for column, pick in zip(zip(*rows, strict=True), each_by, strict=False)
        ]
        for name, rows in found.items()
    }


def show(title: str, heads: list[str], rows: Rows) -> None:
    """Print a table."""
    print(f"\n{title}\n{'':12}" + "".join(f"{head:>14}" for head in heads))  # noqa: T201
    for name, row in rows.items():
        print(f"{name:12}" + "".join(f"{cell:>14.6g}" for cell in row))  # noqa: T201


def judge(bar: str, ours: float, bound: float, *, at_least: bool) -> None:
    """Print whether a bar is held."""
    held = ours >= bound if at_least else ours <= bound
    word = "at least" if at_least else "at most"
    verdict = "holds" if held else "DOES NOT HOLD"
    print(f"{verdict:14} {bar}: {ours:.4g}, {word} {bound:.4g}")  # noqa: T201


def judge_requests(count: int, rows: Rows) -> None:
    """Print the verdicts on requests over *count* connections."""
    bound = 2 * rows["nginx"][3]
    judge(f"CPU us a request, {count} kept, 2 x nginx's", rows["ours"][3], bound, at_least=False)
    if "nono-py" in rows:
        bound = 3 * rows["nono-py"][0]
        judge(f"requests/s, {count} kept, 3 x nono-py's", rows["ours"][0], bound, at_least=True)


def judge_unlike(rows: Rows) -> None:
    """Print the verdict on requests of which no two are the same."""
    bound = 2 * rows["nginx"][3]
    judge(
        "CPU us a request, none like another, 2 x nginx's", rows["ours"][3], bound, at_least=False
    )


def judge_tunnels(rows: Rows) -> None:
    """Print the verdict on tunnels."""
    if "nono-py" in rows:
        bound = 2 * rows["nono-py"][1]
        judge("CPU us a tunnel, 2 x nono-py's", rows["ours"][1], bound, at_least=False)


def judge_bodies(rows: Rows) -> None:
    """Print the verdicts on long bodies."""
    if "nono-py" in rows:
        for at, what in enumerate(("100 MB down", "8 MB up", "100 MB up")):
            judge(f"MB/s, {what}, nono-py's", rows["ours"][at], rows["nono-py"][at], at_least=True)


def judge_events(rows: Rows) -> None:
    """Print the verdicts on first events."""
    if "nono-py" in rows:
        for at, what in enumerate(("after streams that ended", "after ones left midway")):
            bar = f"ms to the first event, {what}, nono-py's"
            judge(bar, rows["ours"][at], rows["nono-py"][at], at_least=False)


def judge_memory(rows: Rows) -> None:
    """Print the verdicts on memory."""
    judge("MB that 1,000 connections add", rows["ours"][1], 16, at_least=False)
    judge("MB that 1 GB each way adds", rows["ours"][2], 4, at_least=False)
