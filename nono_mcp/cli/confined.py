"""Run one program under a policy: what `nono run` and `nono shell` have in common.

Architecture invariant: nothing that takes time comes before `launching.start`. What comes after is
done while the lane makes itself ready, on another processor.
"""

from __future__ import annotations

import os

from nono_mcp.cli import options, policy_flags, say, signals
from nono_mcp.cli.options import Option, UsageError
from nono_sandbox.confinement import NAMESPACES, Call
from nono_sandbox.errors import ConfinementError, SandboxError
from nono_sandbox.single_run import launching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_mcp.cli.attend import Outcome
    from nono_mcp.cli.options import Parsed
    from nono_mcp.cli.remember_run import RunToRemember
    from nono_mcp.cli.run_guard import RunGuard
    from nono_mcp.cli.run_proxy import RunProxy
    from nono_mcp.cli.run_so_far import RunSoFar
    from nono_mcp.cli.undoing import Undoing
    from nono_mcp.guard.action import Action
    from nono_mcp.held_scratch import HeldScratch
    from nono_mcp.policy.request import Prepared, Request
    from nono_sandbox.single_run.launching import Launch

PROXY = "proxy"
"""The mode of a network with a proxy in it."""
DRY_RUN = Option("--dry-run")
AUDIT = Option("--audit")
ROLLBACK = Option("--rollback", "WHAT", optional=True)
OPTIONS = (
    *policy_flags.OPTIONS,
    DRY_RUN,
    AUDIT,
    ROLLBACK,
    options.JSON,
    options.VERBOSE,
    options.QUIET,
    options.HELP,
)
TMP = "/tmp"  # noqa: S108 - where the person's TMPDIR is if the environment doesn't say


class Run:
    """One command line that runs a program, from its policy to its exit status."""

    def __init__(
        self,
        name: str,
        parsed: Parsed,
        argv: tuple[str, ...],
        start: RunSoFar | None = None,
        *,
        starts_count: int = 0,
    ) -> None:
        self._starts_count = starts_count
        self._is_to_start_over = False
        self._name = name
        self._parsed = parsed
        self._argv = argv
        self._start = start
        self._to_remember: RunToRemember | None = None
        self._tmpdir: HeldScratch | None = None
        self._arrived: signals.Signals | None = None
        self._guard: RunGuard | None = None
        self._proxy: RunProxy | None = None
        self._undoing: Undoing | None = None
        self._request: Request

    def status(self) -> int:
        """Run the program and return the exit status.

        Raises:
            UsageError: Nothing was done.
            PolicyError, RefusedError, SandboxError: Nothing ran.
            LaneLostError: What ran was killed.
        """
        _check(self._argv)
        parsed = self._parsed
        if parsed.flag(ROLLBACK):
            from nono_mcp.cli import undoing

            self._undoing = undoing.Undoing.wanted(parsed)
        launch = None if self._start is None else self._start.launch
        if launch is None:
            launch = launching.start(policy_flags.tier(parsed), policy_flags.likely_network(parsed))
        try:
            return self._run(launch, self._prepared(launch))
        except ConfinementError:
            if not self._is_to_start_over:
                raise
            launch.abandon()
        finally:
            if self._undoing is not None:
                self._undoing.close()
            if self._proxy is not None:
                self._proxy.end()
            if self._tmpdir is not None:
                self._tmpdir.remove()
        return self._anew().status()

    def _anew(self) -> Run:
        """Return the same run, of which nothing is begun, and nothing judged."""
        start = None if self._start is None else self._start.replace(launch=None)
        count = self._starts_count + 1
        return Run(self._name, self._parsed, self._argv, start, starts_count=count)

    def _prepared(self, launch: Launch) -> Prepared:
        """Return the policy for the tier that this machine gives."""
        from nono_mcp.policy import home, load

        request, prepared = self._judged(launch)
        launch.await_ready()
        if launch.tier != request.tier:
            request = self._without_namespaces(request, launch)
            prepared = load.prepare(request)
        if prepared.document.network.mode == PROXY and not self._parsed.flag(DRY_RUN):
            prepared = self._with_proxy(prepared, request)
        self._check_required(prepared, launch)
        if not self._parsed.flag(DRY_RUN):
            home.ensure(prepared)
        return prepared

    def _judged(self, launch: Launch) -> tuple[Request, Prepared]:
        """Return the policy for the tier that is hoped for, and what it was asked."""
        from nono_mcp.policy import load

        start = self._start
        if start is not None and start.key is not None and launch.tier == NAMESPACES:
            from nono_mcp.cli import remember_run

            if remember_run.may_be(self._parsed, start.command, self._argv):
                self._to_remember = remember_run.RunToRemember(start.key, start.begun_ns)
                self._request, prepared = self._to_remember.judged(self._parsed)
                return self._request, prepared
        request = self._request = policy_flags.request(self._parsed)
        if launch.tier != NAMESPACES:
            request = self._without_namespaces(request, launch)
        return request, load.prepare(request)

    def _without_namespaces(self, request: Request, launch: Launch) -> Request:
        from nono_mcp.held_scratch import HeldScratch

        # Before there is what is to be removed again, however this ends.
        self._arrived = signals.Signals(*signals.PASSED_ON, signals.TSTP)
        place = request.environ.get("TMPDIR", "")
        parent = place if place.startswith("/") else TMP
        # A dry run writes nothing of ours.
        state_dir = None if self._parsed.flag(DRY_RUN) else request.state_dir
        self._tmpdir = HeldScratch(state_dir, parent)
        return request.replace(tier=launch.tier, tmpdir=self._tmpdir.path)

    def _with_proxy(self, prepared: Prepared, request: Request) -> Prepared:
        from nono_mcp.cli.run_proxy import RunProxy

        self._proxy = RunProxy(request, quiet=self._parsed.flag(options.QUIET))
        if not self._proxy.port:
            return prepared
        from nono_mcp.policy import load

        return load.prepare(request.replace(proxy_port=self._proxy.port))

    def _check_required(self, prepared: Prepared, launch: Launch) -> None:
        """Refuse to run without what the policy requires, unless best effort will do."""
        enforcement = prepared.document.enforcement
        if not enforcement.require:
            return
        from nono_mcp.cli import required

        for text in required.check(prepared, launch):
            self._note(text)

    def _run(self, launch: Launch, prepared: Prepared) -> int:
        parsed = self._parsed
        for notice in prepared.notices:
            self._note(notice)
        if parsed.flag(DRY_RUN) or parsed.flag(options.VERBOSE):
            from nono_mcp.cli import describe

            if parsed.flag(DRY_RUN):
                describe.dry_run(self._name, prepared, launch, self._argv, parsed)
                return 0
            describe.at_start(prepared, launch)
        confinement = prepared.confinement
        call = Call(
            argv=self._argv,
            environment=confinement.environment,
            cwd=confinement.cwd,
            limits=confinement.limits,
            tty=os.isatty(0) and os.isatty(1),
        )
        if self._proxy is not None:
            confinement, call = self._proxy.begin(launch, prepared, call)
            prepared = prepared.replace(confinement=confinement)
        if self._undoing is not None:
            self._undoing.begin(self._request, prepared)
        if self._is_recorded(prepared):
            outcome = self._audited(launch, prepared, call)
        else:
            outcome = self._guarded(launch, prepared, call)
        return self.ended(outcome, prepared, launch)

    def _is_recorded(self, prepared: Prepared) -> bool:
        """Tell whether the run goes into the audit log: by default where something may leave."""
        wanted = prepared.document.audit.runs
        return self._parsed.flag(AUDIT) or (self._proxy is not None if wanted is None else wanted)

    def _audited(self, launch: Launch, prepared: Prepared, call: Call) -> Outcome:
        from nono_mcp.cli import audited

        undoing = self._undoing
        before = undoing.before if undoing is not None else None
        about = self._name, before
        run = audited.begin(self._request, prepared, launch, call, about)
        if self._proxy is not None:
            self._proxy.record = run.network
        try:
            outcome = self._guarded(launch, prepared, call)
        except SandboxError as error:
            self._warn(run.lost(error, self._actions()))
            raise
        after = undoing.after if undoing is not None else None
        self._warn(run.ended(outcome, self._actions(), after))
        return outcome

    def _actions(self) -> tuple[Action, ...]:
        return () if self._guard is None else self._guard.actions

    def _guarded(self, launch: Launch, prepared: Prepared, call: Call) -> Outcome:
        """Run the call, and put right what it did to what is guarded."""
        from nono_mcp.cli import run_guard

        guard = self._guard = run_guard.RunGuard(prepared)
        guard.begin()
        if self._undoing is not None:
            guard.begin_below(self._request.workspace)
        try:
            outcome = self._attended(launch, prepared, call, guard)
        finally:
            guard.end(self._arrived, quiet=self._parsed.flag(options.QUIET))
            self.say_put_right(guard.actions)
            if self._undoing is not None:
                self._undoing.look()
        number = 0 if self._arrived is None else self._arrived.cut_short_by
        return outcome.replace(cut_short_by=number) if number else outcome

    def _attended(self, launch: Launch, prepared: Prepared, call: Call, guard: RunGuard) -> Outcome:
        from nono_mcp.cli import attend

        # Before anything runs: what arrives from then on is the program's.
        arrived = self._arrived = self._arrived or signals.Signals(*signals.PASSED_ON, signals.TSTP)
        ended = arrived.ending()
        if ended is not None:
            return attend.never_begun(ended)

        try:
            master = launch.run(prepared.confinement, call, lambda: guard.look_beside(launch))
        except ConfinementError:
            ended = arrived.ending()
            if ended is not None:
                return attend.never_begun(ended)
            self._is_to_start_over = self._may_start_over(prepared)
            raise
        # The rest is done while it runs.
        if self._to_remember is not None:
            self._to_remember.keep(prepared, call, launch)
        return attend.to_its_end(launch, master, arrived, guard.beside)

    def _may_start_over(self, prepared: Prepared) -> bool:
        """Tell whether a grant was replaced since it was judged, and it may be judged anew."""
        from nono_mcp.policy import replaced

        # A proxy has threads, after which nothing is forked, and what is kept is kept once.
        is_plain = self._proxy is None and self._undoing is None
        may_be = is_plain and self._starts_count + 1 < replaced.STARTS_MAX
        return may_be and replaced.is_any(prepared.confinement)

    def say_put_right(self, actions: Iterable[Action]) -> None:
        """Tell the person what the guard did."""
        if not actions:
            return
        from nono_mcp.cli import guard_report

        for text in guard_report.texts(actions):
            self._note(text)

    def _warn(self, text: str) -> None:
        if text:
            say.note(text)

    def ended(self, outcome: Outcome, prepared: Prepared, launch: Launch) -> int:
        """Say how it ended, if there is anything to say; return the exit status."""
        if outcome.plain_success and not (self._parsed.flag(options.JSON) or self._undoing):
            return 0
        from nono_mcp.cli import ending

        end = ending.End(outcome, prepared, self._argv, launch)
        if self._parsed.flag(options.JSON):
            undone = 0 if self._undoing is None else self._undoing.end()
            undo = {} if self._undoing is None else {"undo": self._undoing.fields()}
            say.document(end.fields(self._name, launch.tier) | undo, fd=2)
            return end.status or undone
        if not self._parsed.flag(options.QUIET):
            for text in end.texts():
                say.note(text)
        undone = 0 if self._undoing is None else self._undoing.end()
        return end.status or undone

    def _note(self, text: str) -> None:
        if not self._parsed.flag(options.QUIET):
            say.note(text)


def _check(argv: tuple[str, ...]) -> None:
    if not argv:
        raise UsageError("no command to run", "name one after --")
    if not argv[0]:
        raise UsageError("the command is empty", "name a program to run")
    if any("\0" in word for word in argv):
        raise UsageError("the command holds a NUL character, which no system call takes")
