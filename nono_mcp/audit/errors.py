"""What can go wrong with the log, in one word: the command line asks for it without the rest."""

from __future__ import annotations


class AuditError(Exception):
    """The log can't be used; the message says why and what to do."""
