"""A session's fork server, where what is granted changes while it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.policy import load
from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.policy.errors import RefusedError
from nono_mcp.policy.replaced import STARTS_MAX
from nono_mcp.policy.request import Prepared, Request
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import LANDLOCK, READ, Grant
from nono_sandbox.errors import ConfinementError
from nono_sandbox.granted import open_judged
from tests.guard.runs import ENVIRON

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.linux
LONG_ENOUGH_S = 60


class Bench:
    """A file that is granted, and somebody who acts after each judging of that."""

    def __init__(self, root: Path, tier: str | None, patch: pytest.MonkeyPatch) -> None:
        self.root, self.tier = root, tier
        self.file = root / "notes" / "file"
        self.file.parent.mkdir()
        (root / "work").mkdir()
        (root / "home").mkdir()
        self.file.write_text("saved 0")
        self.judged_count = 0
        self._prepare = load.prepare
        patch.setattr(load, "prepare", self._judged)
        self.act: Callable[[], object] = lambda: None

    def _judged(self, request: Request) -> Prepared:
        prepared = self._prepare(request)
        self.judged_count += 1
        self.act()
        return prepared

    def save(self) -> None:
        """Do as an editor does."""
        new = self.file.with_name("new")
        new.write_text(f"saved {self.judged_count}")
        new.rename(self.file)

    def said(self, *then: Callable[[], object]) -> str:
        """Return what a call of a new session reads, and one after each that is done *then*."""
        flags = FilesystemSection().replace(read_file=(str(self.file),))
        request = Request(
            workspace=str(self.root / "work"),
            tier="",
            environ=ENVIRON,
            home=str(self.root / "home"),
            state_dir=str(self.root / "state"),
            config_dir=str(self.root / "config"),
            flags=Document(filesystem=flags),
        )
        output: list[bytes] = []

        async def run() -> None:
            with anyio.fail_after(LONG_ENOUGH_S):
                async with Session.open(request, tier=self.tier) as session:
                    command = Command(("/bin/cat", str(self.file)))
                    await session.run(command, on_output=output.append)
                    for act in then:
                        act()
                        output.append(b"; ")
                        await session.run(command, on_output=output.append)

        anyio.run(run)
        return b"".join(output).decode()


@pytest.fixture(params=[None, LANDLOCK])
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, request.param, monkeypatch)


def test_what_is_replaced_before_it_is_opened_is_judged_anew(bench: Bench) -> None:
    bench.act = lambda: bench.save() if bench.judged_count < STARTS_MAX else None
    assert bench.said() == f"saved {STARTS_MAX - 1}"
    assert bench.judged_count == STARTS_MAX


def test_what_is_replaced_again_and_again_is_refused(bench: Bench) -> None:
    bench.act = bench.save
    with pytest.raises(ConfinementError, match="was replaced"):
        bench.said()
    assert bench.judged_count == STARTS_MAX


def test_what_leads_elsewhere_then_is_judged_by_where_it_leads(bench: Bench) -> None:
    """A link to what is protected is refused, and never opened by the first judging."""
    secret = bench.root / "home" / ".ssh" / "id"
    secret.parent.mkdir()
    secret.write_text("secret")

    def link() -> None:
        if bench.judged_count == 1:
            bench.file.with_name("link").symlink_to(secret)
            bench.file.with_name("link").rename(bench.file)

    bench.act = link
    with pytest.raises(RefusedError, match="closed by protected"):
        bench.said()
    assert bench.judged_count == 1


def test_a_link_that_has_the_number_of_what_was_granted_is_none_of_it(tmp_path: Path) -> None:
    """Numbers of files are given out again at once."""
    link = tmp_path / "link"
    link.symlink_to("/etc/hostname")
    status = link.lstat()
    with pytest.raises(ConfinementError, match="was replaced"):
        open_judged(Grant(str(link), READ, exact=True, identity=(status.st_dev, status.st_ino)))


def test_what_is_replaced_between_two_calls_is_given_to_the_second(bench: Bench) -> None:
    # Without namespaces there are more grants, of the system's, than are looked at before a call.
    assert bench.said(bench.save) == "saved 0; saved 1"
