"""Remembering what came of judging a run's policy, for `recalled_run`.

Nothing is kept of a run that has to be told of, that needs more than a lane, or whose environment
holds what the person passed on by name: a key, it may be.

Architecture invariant: imported by runs alone that may be kept.
"""

from __future__ import annotations

import marshal
import os
import stat

from nono_mcp.cli import policy_flags
from nono_mcp.policy import guarded, home, load, recall
from nono_mcp.policy.egress import PROXY
from nono_mcp.policy.witness import Witness
from nono_sandbox import wire
from nono_sandbox.confinement import CLOSED, NAMESPACES, OPEN, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.policy.request import Prepared, Request
    from nono_sandbox.confinement import Call
    from nono_sandbox.single_run.launching import Launch

_OF_THEIR_OWN = ("--dry-run", "--audit", "--rollback", "--json", "--verbose", "--env")
"""Options with which a run isn't kept; `-v` is one of them by its long name."""

_OWN_ALONE = 0o700


def may_be(parsed: Parsed, command: tuple[str, ...], argv: tuple[str, ...]) -> bool:
    """Tell whether a run of *argv* may be kept, for which *command* was taken at first."""
    return command == argv and not any(parsed.all(name) for name in _OF_THEIR_OWN)


class RunToRemember:
    """One run that may be kept."""

    def __init__(self, key: bytes, begun_ns: int) -> None:
        self._key = key
        self._begun_ns = begun_ns
        self._witness = Witness()
        self._tier: str | None = None
        self._network = ""

    def judged(self, parsed: Parsed) -> tuple[Request, Prepared]:
        """Return what *parsed* asks for, and what comes of it, with a witness.

        Raises:
            UsageError, PolicyError, RefusedError: As without.
        """
        self._tier = policy_flags.tier(parsed)
        self._network = policy_flags.likely_network(parsed)
        with self._witness:
            request = policy_flags.request(parsed)
            return request, load.prepare(request)

    def keep(self, prepared: Prepared, call: Call, launch: Launch) -> None:
        """Keep it, if it's as it may be; the private home has been seen to."""
        if launch.tier != NAMESPACES or not self._is_plain(prepared):
            return
        self._note_home(prepared)
        outcome = recall.Outcome(
            tier=self._tier,
            network=self._network,
            confinement=wire.plain(prepared.confinement),
            call=wire.plain(call.replace(argv=())),
            programs=launch.programs,
            guarded=guarded.settling(prepared) if guarded.roots(prepared) else (),
            prepared=marshal.dumps(wire.plain(prepared)),
        )
        self._witness.keep(self._key, outcome, self._begun_ns)

    def _is_plain(self, prepared: Prepared) -> bool:
        document, network = prepared.document, prepared.confinement.network
        secret = document.environment.passed or document.environment.set
        more = document.enforcement.require or document.audit.runs or prepared.blocked
        if secret or more or prepared.notices:
            return False
        # No proxy, and no ports, which need more than a lane.
        plain = network in (Network(CLOSED), Network(OPEN)) and document.network.mode != PROXY
        return plain and network.mode == self._network

    def _note_home(self, prepared: Prepared) -> None:
        """Note that the private home is there as `home.ensure` leaves it."""
        path = prepared.private_home
        if path is None:
            return
        status = os.lstat(path)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != _OWN_ALONE:
            self._witness.give_up()  # its worker got at it
        there = (home.GIT_CONFIG, *(name for name, _ in home.links(prepared)))
        self._witness.ask("own-status", path)
        for name in there:
            self._witness.ask("exists", f"{path}/{name}")
