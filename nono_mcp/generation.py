"""A fork server and its lanes, for as long as what was granted stays the same."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING

from nono_mcp.held_scratch import HeldScratch
from nono_mcp.kept_lanes import KeptLanes
from nono_mcp.policy import egress, home, load, replaced, required
from nono_mcp.policy.paths import covers
from nono_sandbox.client import ForkServer
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, WRITE
from nono_sandbox.errors import ConfinementError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_mcp.credentials.vault import Vault
    from nono_mcp.gateway import Heard, SessionProxy
    from nono_mcp.policy.request import Prepared, Request
    from nono_sandbox.client import Lane
    from nono_sandbox.confinement import Call

SETTLED_NS = 3 * 10**9
"""A directory that hasn't changed for so long has a ctime that its next change will change."""
_KERNELS_OWN = ("/sys/devices/system", "/sys/kernel")
"""What is there as long as this kernel runs. To look at one costs as much as at five others."""
IDENTITIES_MAX = 64
"""Grants that are looked at before each call; a replaced one among the others loses its grant."""


class ReplacedError(ConfinementError):
    """What stands at a grant isn't what was judged any more. Nothing was started."""


class Closed:
    """What a policy closes, as it was when that was enforced: which object, or none.

    A mask is over an object. Whoever puts another one in its place, as editors do when they save,
    takes the mask away with the old one; and over what wasn't there, there is none.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._names: dict[str, dict[str, tuple[int, int] | None]] = {}
        paths = (*(one.path for one in prepared.confinement.denials), *dict(prepared.awaited))
        for path in paths:
            directory, _, name = path.rpartition("/")
            self._names.setdefault(directory or "/", {})[name] = _identity(path)
        self._unchanged: dict[str, int] = {}

    def changed(self) -> bool:
        """Tell whether another object is there now, or none, or one where none was."""
        return any(self._changed(directory, names) for directory, names in self._names.items())

    def _changed(self, directory: str, names: Mapping[str, tuple[int, int] | None]) -> bool:
        try:
            changed_ns = os.stat(directory).st_ctime_ns  # noqa: PTH116 - at each call; a Path costs more
        except OSError:
            return any(names.values())
        if self._unchanged.get(directory) == changed_ns:
            return False
        if any(_identity(f"{directory}/{name}") != was for name, was in names.items()):
            return True
        if time.time_ns() - changed_ns > SETTLED_NS:
            self._unchanged[directory] = changed_ns
        return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Generation:
    """A fork server and its lanes, for as long as the objects that were granted stay the same."""

    def __init__(
        self,
        server: ForkServer,
        prepared: Prepared,
        closed: Closed,
        scratch: HeldScratch | None,
        proxy: SessionProxy | None = None,
    ) -> None:
        self.server = server
        self.proxy = proxy
        """By which its calls reach hosts, if its policy names any."""
        self._scratch = scratch
        grants = [
            (grant.source or grant.path, grant.identity)
            # The system's come first, and there may be more of them than are looked at.
            for grant in reversed(prepared.confinement.grants)
            if grant.identity is not None
            and not any(covers(own, grant.source or grant.path) for own in _KERNELS_OWN)
        ]
        # What can be written is what can be replaced.
        writable = {grant.path for grant in prepared.confinement.grants if grant.access & WRITE}
        self._closed = closed
        grants.sort(key=lambda pair: pair[0] not in writable)
        self._looked_at = grants[:IDENTITIES_MAX]
        self._lanes = KeptLanes(server.lane, get_ready=server.tier == LANDLOCK)
        self._of_files = self._lanes
        if server.tier == NAMESPACES:
            self._of_files = KeptLanes(partial(server.lane, waits=True), get_ready=True)
        self._retired = False
        self._forsaken = False

    def usable(self) -> bool:
        """Tell whether the fork server lives and what was judged still stands where it stood."""
        return not self._forsaken and self.server.alive() and not self.stale()

    def forsake(self) -> None:
        """Be usable no more: what it mounted was led away from, and is to be mounted anew."""
        self._forsaken = True

    def stale(self) -> bool:
        """Tell whether what stands at a grant, or a denial, isn't what was judged any more."""
        lstat = os.lstat
        try:
            for path, (device, inode) in self._looked_at:
                status = lstat(path)
                if status.st_ino != inode or status.st_dev != device:
                    return True
        except OSError:
            return True
        return self._closed.changed()

    def take(self, call: Call) -> Lane:
        """Return a lane for *call* that runs nothing; `give_back` it.

        To fork a worker takes longer than all that a file tool does in it, so of those one waits.

        Raises:
            LaneLostError: The fork server died.
        """
        return (self._of_files if call.builtin else self._lanes).take()

    def give_back(self, lane: Lane, call: Call, *, keep: bool) -> None:
        """Take *lane* back; without *keep* it is ended with whatever it still runs."""
        lanes = self._of_files if call.builtin else self._lanes
        lanes.give_back(lane, keep=keep and not self._retired)
        self._end_if_unused()

    def retire(self) -> None:
        """End the fork server, once the calls that still use it have ended."""
        self._retired = True
        self._lanes.end_idle()
        self._of_files.end_idle()
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if not self._retired or self._lanes.busy_count or self._of_files.busy_count:
            return
        self.server.close()
        if self.proxy is not None:
            self.proxy.end()
            self.proxy = None
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None


class ProxyStarter:
    """Starts the proxies of one session, which share its credentials and who hears of their use."""

    def __init__(self, report: Heard) -> None:
        self._report = report
        self._vault: Vault | None = None

    def begin(self, proxy: SessionProxy, prepared: Prepared, server: ForkServer) -> None:
        """Start *proxy* for the workers of *server*.

        Raises:
            OSError: It couldn't be started. Nothing leaves.
        """
        rules = prepared.document.network
        # Only a policy with a proxy pays for the import.
        from nono_mcp import gateway  # noqa: PLC0415
        from nono_mcp.policy import trust_roots  # noqa: PLC0415

        if self._vault is None:
            self._vault = gateway.vault_for(rules)
        proxy.begin(
            trust_roots.config_for(prepared, server.tier), self._vault, self._report, server.door
        )


def start(request: Request, tier: str | None, starter: ProxyStarter) -> tuple[Generation, Prepared]:
    """Start a fork server for *request* and, if its policy has one, a proxy; blocks.

    What is replaced while it starts is judged anew, as what was there from the start would be.

    Raises:
        PolicyError, RefusedError, SandboxError, OSError: Nothing was started.
    """
    for _ in range(replaced.STARTS_MAX - 1):
        try:
            return _start(request, tier, starter)
        except ReplacedError:
            continue
    return _start(request, tier, starter)


def _start(
    request: Request, tier: str | None, starter: ProxyStarter
) -> tuple[Generation, Prepared]:
    server = ForkServer.start(tier, request.open_files_usual)
    directory = proxy = None
    try:
        request = request.replace(tier=server.tier)
        if server.tier != NAMESPACES and request.tmpdir is None:
            directory = HeldScratch(request.state_dir, tempfile.gettempdir())
            request = request.replace(tmpdir=directory.path)
        prepared = load.prepare(request)
        if prepared.document.network.mode == egress.PROXY:
            # Only a policy with a proxy pays for the import.
            from nono_mcp import gateway  # noqa: PLC0415

            proxy = gateway.SessionProxy(server.tier, request.state_dir)
            if proxy.port:
                prepared = load.prepare(request.replace(proxy_port=proxy.port))
            prepared = prepared.replace(confinement=proxy.around(prepared.confinement))
        if prepared.document.enforcement.require:
            facts = required.found(server.reason, server.groups.reason)
            required.check(prepared, facts, server.tier)
        home.ensure(prepared)
        closed = Closed(prepared)
        _configure(server, prepared)
        if proxy is not None:
            starter.begin(proxy, prepared, server)
    except BaseException:
        server.close()
        if proxy is not None:
            proxy.end()
        if directory is not None:
            directory.remove()
        raise
    return Generation(server, prepared, closed, directory, proxy), prepared


def _configure(server: ForkServer, prepared: Prepared) -> None:
    """Have *server* enforce what was *prepared*.

    Raises:
        ReplacedError: Something else stands at a grant by now. Close the server.
        SandboxError: It can't be enforced. Close the server.
    """
    try:
        server.configure(prepared.confinement)
    except ConfinementError as error:
        if replaced.is_any(prepared.confinement):
            raise ReplacedError(str(error)) from error
        raise
