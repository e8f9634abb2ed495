"""Why a configuration wasn't changed."""

from __future__ import annotations


class InstallError(Exception):
    """It can't be changed as asked. Nothing was written; the text says what to do."""
