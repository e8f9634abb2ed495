"""What can go wrong between a request and a confined program.

Architecture invariant: when one of these is raised, the program did not run, or (only
`LaneLostError`) it was killed with everything it started.
"""

from __future__ import annotations


class SandboxError(Exception):
    """Base of this package's errors; its text tells a person what to do next."""


class UnsupportedError(SandboxError):
    """This machine can't give a guarantee that the confinement needs. Nothing ran."""


class ConfinementError(SandboxError):
    """A part of the confinement can't be enforced as it stands. Nothing ran."""


class StartError(SandboxError):
    """The program couldn't be executed. Nothing ran.

    `status` is what a shell would exit with: 127 if there is no such program, else 126.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class LaneLostError(SandboxError):
    """The process in charge of the call died; what it had confined was killed."""
