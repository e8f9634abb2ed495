"""Runs of programs in a workspace, with what `nono run` does around them but its sandbox."""

from __future__ import annotations

import os
import subprocess
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from nono_mcp.guard import after_run, directory_listings, times
from nono_mcp.guard.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from nono_mcp.guard.action import Action

ENVIRON = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
}

APART_NS = 20_000_000
"""By how much less than that clocks are known."""
SETTLED_NS = directory_listings.SETTLED_NS + APART_NS
"""What was listed so long after it was changed is known."""


class Runs:
    """Programs that are run one after the other in a workspace, without a sandbox."""

    def __init__(self, root: Path) -> None:
        self.work = root / "work"
        self.state = str(root / "state")
        self.actions: list[Action] = []

    def run(
        self,
        script: str,
        given_up: tuple[str, ...] = (),
        *,
        looked: bool = False,
        first: str = "",
        asked_max: int | None = None,
    ) -> list[str]:
        """Run a shell script as `nono run` does, and return what was done after it.

        All of it is done before anybody could look or, if somebody has *looked*, what is *first*.
        The look ends when it has asked more than *asked_max* times whether to go on.
        """
        self.settle()
        guard = Guard(self.state)
        guard.settle(*self._settled(given_up))
        assert guard.begin() == ()
        looking = self.looking(guard, given_up)
        if first:
            self.outside(first)
        while looked and looking.pause_ms is not None:
            looking.step()
        self.outside(script)
        guard.end()
        guard.close()
        asked = count(1)
        is_patient = lambda *_: asked_max is None or next(asked) <= asked_max  # noqa: E731 - as it's called
        return self.told(looking.look(lambda: is_patient))

    def _settled(self, given_up: tuple[str, ...]) -> tuple[Any, ...]:
        return [(str(self.work), None)], (), (), "", given_up

    def looking(self, guard: Guard, given_up: tuple[str, ...] = ()) -> after_run.AfterRun:
        """Return what looks after a program that began when *guard* did."""
        settled = self._settled(given_up)
        return after_run.AfterRun(self.state, settled, str(self.work / "any"), guard.began)

    def told(self, actions: tuple[Action, ...]) -> list[str]:
        """Return what was done, in short."""
        self.actions = list(actions)
        return sorted(f"{one.action} {one.path[len(f'{self.work}/') :]}" for one in actions)

    def outside(self, script: str) -> None:
        home = {"HOME": str(self.work.parent)}
        subprocess.run(["/bin/sh", "-c", script], cwd=self.work, env=ENVIRON | home, check=True)

    def settle(self, wait_ns: int = 0) -> None:
        """Wait until what is changed from here on has another time than what was."""
        (self.work.parent / "now").write_text("")
        until = (self.work.parent / "now").stat().st_ctime_ns + wait_ns + APART_NS
        while times.now_ns() <= until:
            time.sleep(0.001)


def with_statuses(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[os.stat_result], dict[str, int]]
) -> None:
    """Have the guard find statuses with what is *told* of each, as another file system has them."""

    def changed(asked: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def ask(*about: object, **more: object) -> os.stat_result:
            status = asked(*about, **more)
            named = {name: getattr(status, name) for name in dir(status) if name[:3] == "st_"}
            named |= told(status)
            plain = (*status[:2], named["st_dev"], *status[3:])
            return os.stat_result(plain, named)

        return ask

    for name in ("stat", "lstat", "fstat"):
        monkeypatch.setattr(f"posix.{name}", changed(getattr(os, name)))
