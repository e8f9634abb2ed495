"""How programs tell that they couldn't reach a host: by words, or by a status of their own.

Architecture invariant: pure. It says what a program told, and nothing of why.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = (
    "could not resolve",
    "couldn't resolve",
    "unable to resolve",
    "temporary failure resolving",
    "failed to lookup address",
    "name resolution",
    "name or service not known",
    "no address associated",
    "no such host",
    "unknownhostexception",
    "network is unreachable",
    "failed to connect",
    "eai_again",
    "enotfound",
    "enetunreach",
)
_STATUSES = {
    # EXIT CODES of curl(1), EXIT STATUS of wget(1) and ssh(1), whose others are the remote
    # program's own.
    "curl": (5, 6, 7),
    "wget": (4,),
    "ssh": (255,),
    "scp": (255,),
    "sftp": (255,),
}
_SHELLS = ("sh", "bash", "dash", "zsh")
_OF_SHELLS = frozenset(";|&()<>{}`$\n\\\"'!")
"""With one of these a command may be more than one program, or another than its first word."""


def says(text: str) -> bool:
    """Tell whether *text*, which a program wrote, says that a host couldn't be reached."""
    lowered = text.lower()
    return any(words in lowered for words in _WORDS)


def is_told_by(status: int, argv: Sequence[str]) -> bool:
    """Tell whether *status* is what the program of *argv* ends with if it couldn't reach a host."""
    words = list(argv)
    if len(words) == 3 and _name(words[0]) in _SHELLS and words[1] == "-c":  # noqa: PLR2004
        words = [] if _OF_SHELLS & {*words[2]} else words[2].split()
    return bool(words) and status in _STATUSES.get(_name(words[0]), ())


def _name(path: str) -> str:
    return path.rpartition("/")[2]
