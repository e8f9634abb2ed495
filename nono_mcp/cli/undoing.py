"""What `--rollback` adds to a run: the workspace is kept before it, and the person asked after.

Architecture invariant: nothing runs unless the workspace is kept, and nothing is put back unless
the person says so, at the terminal or by the option's value. Whatever happens to the question or
to the answer, how to undo the run is said.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from nono_mcp._site import enable_site
from nono_mcp.cli import asking, options, say
from nono_mcp.cli.confined import ROLLBACK
from nono_mcp.cli.options import FailedError, UsageError, nearest, shown
from nono_mcp.policy.errors import RefusedError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.cli.workspace_snapshots import WorkspaceSnapshots
    from nono_mcp.policy.request import Prepared, Request
    from nono_mcp.snapshots.values import Difference, Outcome, Snapshot

ASK, KEEP, ALL = "ask", "keep", "all"
ANSWERS = (ASK, KEEP, ALL)
CHOICES_MAX = 500
"""How many changes can be chosen from; of more, by paths: `nono rollback --paths`."""
UNDO = "nono rollback"
NOT_DONE = 1
_ID_BYTES = 8


class Undoing:
    """The workspace of one run. Made by `wanted`."""

    def __init__(self, parsed: Parsed, answer: str, prompt: asking.Prompt | None) -> None:
        self._parsed = parsed
        self._answer = answer
        self._prompt = prompt
        self._open = ExitStack()
        self._kept: WorkspaceSnapshots | None = None
        self._difference: Difference | None = None
        self._outcome: Outcome | None = None
        self._error = ""
        self._ran = False
        self._told = False
        self.call = os.urandom(_ID_BYTES).hex()
        """By what the log knows the run, if it does, and the store its snapshots."""
        self.before: Snapshot | None = None
        self.after: Snapshot | None = None

    @classmethod
    def wanted(cls, parsed: Parsed) -> Undoing | None:
        """Return what *parsed* wants, if it does.

        Raises:
            UsageError: Nobody could be asked.
        """
        if not parsed.flag(ROLLBACK):
            return None
        answer = parsed.one(ROLLBACK.name) or ASK
        if answer not in ANSWERS:
            raise UsageError(
                f"{ROLLBACK.name}={shown(answer)}: one of {', '.join(ANSWERS)}",
                nearest(answer, ANSWERS),
            )
        if answer != ASK:
            return cls(parsed, answer, None)
        instead = f"say {ROLLBACK.name}={KEEP} or {ROLLBACK.name}={ALL}"
        if parsed.flag(options.JSON):
            raise UsageError(f"{options.JSON.name} and a question contradict each other", instead)
        prompt = asking.Prompt.opened()
        if prompt is None:
            raise UsageError("there is no terminal to ask at when the program has ended", instead)
        wanted = cls(parsed, answer, prompt)
        wanted._open.callback(prompt.close)
        return wanted

    def begin(self, request: Request, prepared: Prepared) -> None:
        """Keep the workspace as it is.

        Raises:
            RefusedError: It isn't kept. Run nothing.
        """
        enable_site()
        from nono_mcp.cli import workspace_snapshots
        from nono_mcp.cli.policy_flags import BROAD
        from nono_mcp.policy import guarded
        from nono_mcp.policy.paths import covers
        from nono_mcp.undo.opening import broad_error
        from nono_mcp.undo.rules import Rules

        rules = Rules.of(request, prepared)
        outside = [p for p, _ in guarded.roots(prepared) if not covers(rules.workspace, p)]
        for path in outside:
            self._note(f"not kept, since it isn't in the workspace: {quoted(path)}")
        if not rules.may_be_written:
            self._note("the workspace can't be written, so there will be nothing to put back")
            return
        broad = rules.broad or self._parsed.flag(BROAD)
        if rules.is_broad and not broad:
            raise broad_error(rules.workspace, f"say {BROAD.name}, if it is meant")
        request = request.replace(workspace=rules.workspace)
        try:
            with workspace_snapshots.failing():
                opening = workspace_snapshots.open_at(request, rules.section, broad=broad)
                self._kept = self._open.enter_context(opening)
                self._begin(self._kept)
        except (FailedError, OSError) as error:
            raise RefusedError(
                f"the workspace can't be kept as it is: {error}",
                code="snapshots.unkept",
                path=rules.workspace,
                remedy=f"without {ROLLBACK.name} it isn't kept, and what is done can't be undone",
            ) from error

    def _begin(self, opened: WorkspaceSnapshots) -> None:
        from nono_mcp.cli.progress import showing

        if not opened.restore_lock.enter():
            raise FailedError("a rollback is going on in it: try again")
        with showing() as hear:
            self.before = opened.snapshots.take(
                "before-call", call=self.call, dirty=opened.dirty(), progress=hear
            )

    def look(self) -> None:
        """Find out what the run changed; nothing of it lives any more."""
        if self._kept is None or self.before is None:
            return
        from nono_mcp.cli.progress import showing
        from nono_mcp.snapshots.errors import SnapshotError

        self._ran = True
        store = self._kept.snapshots
        try:
            with showing() as hear:
                self.after = store.take(
                    "after-call", call=self.call, dirty=self._kept.dirty(), progress=hear
                )
            if self.after.root != self.before.root:
                ends = self.before.id, self.after.id
                self._difference = store.diff(*ends, limit=CHOICES_MAX)
        except (SnapshotError, OSError) as error:
            self._error = str(error)
        finally:
            # Until then nobody thins out what this is undone by.
            self._kept.restore_lock.leave()

    def close(self) -> None:
        """Let go of the store and the terminal; say how to undo what nobody was asked about."""
        if self.before is not None and self._ran and not self._told:
            self._note(f"what was done is undone by: {self._command()}")
        self._open.close()

    def end(self) -> int:
        """Put back what is wanted, and return 0, or `NOT_DONE` if that isn't done."""
        self._told = True
        if self._kept is None or self.before is None:
            return 0
        if self._error:
            self._note(
                f"what changed isn't known: {self._error}; undo: {self._command()}", loud=True
            )
            return NOT_DONE
        if self._difference is None:
            self._note("nothing changed in the workspace")
            return 0
        from nono_mcp.server import changes

        self._note(f"changed: {changes.counted(self._difference)}")
        try:
            paths = self._paths(self._difference)
        except asking.NoAnswerError:
            self._note("no answer", loud=True)
            paths = None
        if paths is None:
            self._note(f"kept; undo: {self._command()}")
            return 0
        return self._put_back(self._kept, self.before, paths)

    def _paths(self, difference: Difference) -> tuple[str, ...] | None:
        """Return what to put back; nothing stands for everything, None for: nothing at all."""
        if self._prompt is None:
            return () if self._answer == ALL else None
        from nono_mcp.cli.choosing import Choice

        with self._prompt.asking():
            return Choice(self._prompt, difference, self._text).answer()

    def _text(self, path: bytes) -> str:
        """Return what changed in a file."""
        if self._kept is None or self.before is None or self.after is None:
            return ""
        return self._kept.snapshots.text_diff(self.before.id, self.after.id, path).text

    def _put_back(
        self, opened: WorkspaceSnapshots, before: Snapshot, paths: tuple[str, ...]
    ) -> int:
        from nono_mcp.cli import workspace_snapshots
        from nono_mcp.server import changes
        from nono_mcp.snapshots.errors import SnapshotError
        from nono_mcp.undo.values import Wanted

        try:
            wanted = Wanted(before.id, "paths" if paths else "everything", paths)
            with workspace_snapshots.recorded(opened, "nono run") as log:
                self._outcome = opened.roll_back(wanted, log)
        except (SnapshotError, FailedError, OSError) as error:
            self._error = str(error)
            self._note(f"NOT put back: {error}; undo: {self._command()}", loud=True)
            return NOT_DONE
        for line in changes.of_outcome(before.id, self._outcome, UNDO).splitlines():
            self._note(line, loud=not self._outcome.verified)
        return 0 if self._outcome.verified else NOT_DONE

    def fields(self) -> dict[str, object]:
        """Return what came of it, for a program to read."""
        from nono_mcp.cli import workspace_snapshots

        snapshots = {"before": self.before, "after": self.after}
        return {
            **{key: None if one is None else one.id for key, one in snapshots.items()},
            "call": self.call,
            "changes": self._difference and workspace_snapshots.fields_of(self._difference),
            "put_back": self._outcome and workspace_snapshots.fields_of(self._outcome),
            "error": self._error or None,
        }

    def _command(self) -> str:
        return f"{UNDO} {self.before.id[:8] if self.before else ''}"

    def _note(self, text: str, *, loud: bool = False) -> None:
        if loud or not (self._parsed.flag(options.QUIET) or self._parsed.flag(options.JSON)):
            say.note(text)
