"""Why an operation on files wasn't done, in words for who asked for it.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations


class FailedError(Exception):
    """The operation can't be done as asked. Nothing was changed."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.path = path
