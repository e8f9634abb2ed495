"""Why a server didn't start."""

from __future__ import annotations


class ServeError(Exception):
    """The server can't be reached as it was asked to be. Nothing was started, nothing runs."""
