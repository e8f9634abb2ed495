"""The guard of one run: at its post before the run, and what that left put right after it.

Architecture invariant: who may write nothing pays for nothing of it.
"""

from __future__ import annotations

import os

from nono_mcp import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nono_mcp.cli import signals
    from nono_mcp.guard.action import Action
    from nono_mcp.guard.after_run import AfterRun
    from nono_mcp.guard.guard import Guard
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.policy.request import Prepared
    from nono_sandbox.single_run.launching import Launch


class RunGuard:
    """Guards what a run under one policy may write, from `begin` to `end`."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._guard: Guard | None = None
        self._below: SubtreeGuard | None = None
        self._settled: tuple[Any, ...] = ()
        self.beside: AfterRun | None = None
        """What looks beneath the top directory beside the run and after it, if anything does."""
        self.actions: tuple[Action, ...] = ()
        """What has been put right."""

    def begin(self) -> None:
        """Go to its post, if anything may be written."""
        from nono_mcp.policy import guarded

        if not guarded.roots(self._prepared):
            return
        from nono_mcp.guard.guard import Guard

        guard = Guard(places.state_dir(os.environ))
        self._settled = guarded.settling(self._prepared)
        guard.settle(*self._settled)
        self.actions += guard.begin()
        self._guard = guard

    def begin_below(self, workspace: str) -> None:
        """Look beneath the top directory of *workspace* too, at all of it, before and after."""
        from nono_mcp.guard.subtree_guard import SubtreeGuard
        from nono_mcp.policy import guarded

        below = SubtreeGuard(places.state_dir(os.environ))
        guarded.settle_below(below, self._prepared, workspace)
        self.actions += below.begin(None)
        self._below = below

    def look_beside(self, launch: Launch) -> None:
        """Begin to look beneath the top directory beside the run, unless all of it is looked at."""
        if self._guard is None or self._below is not None:
            return
        from nono_mcp.guard.after_run import AfterRun

        where = places.state_dir(os.environ), self._settled, self._prepared.confinement.cwd
        self.beside = AfterRun(*where, self._guard.began)
        self.beside.begin(launch.has_news)

    def end(self, arrived: signals.Signals | None, *, quiet: bool) -> None:
        """Put right what the run left; a signal that *arrived* ends the look beside it."""
        if self._guard is not None:
            self.actions += self._guard.end()
            self._guard.close()
        if self.beside is not None and arrived is not None:
            from nono_mcp.cli import attend

            self.actions += attend.look(self.beside, arrived, quiet=quiet)
        if self._below is not None:
            self.actions += self._below.end()
            self._below.close()
