"""What a benchmark's figures are to be at most, and whether they are."""

import sys


class Bars:
    """What is to hold, and whether it does."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def note(self, name: str, value: float, at_most: float, unit: str) -> None:
        """Note that *value* is to be no more than *at_most*."""
        verdict = "holds" if value <= at_most else "MISSED"
        self._lines.append(f"{verdict:8}{name:52}{value:10.2f} of {at_most:g} {unit}\n")

    def show(self) -> None:
        """Print them all."""
        sys.stdout.writelines(["bars, by medians:\n", *self._lines])
