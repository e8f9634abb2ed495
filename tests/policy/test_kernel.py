"""What is decided is what the kernel does: random policies, asked and then tried.

A worker attempts each operation, and whether it happened is looked at from outside: a file is
read if its own words came back, and written if they changed on the person's disk.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from nono_mcp.policy import load
from nono_mcp.policy.decide import Allow
from nono_mcp.policy.document import Document, EnforcementSection, NetworkSection
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.session import Command, Session
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, OPEN

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.policy.request import Prepared
    from tests.policy.conftest import Machine

# Of a Mac, tests/macos/test_why.py asks the texts themselves.
pytestmark = pytest.mark.linux
PYTHON = os.path.realpath(sys.executable)
POLICIES = 14
QUESTIONS = 80
"""Of each policy: over a thousand in each tier."""
LONG_ENOUGH_S = 120

INSIDE = """
import json, os, subprocess, sys

def attempt(operation, path, mark):
    try:
        if operation == "list":
            os.listdir(path)
            return "listed"
        if operation == "read":
            with open(path) as file:
                return file.read()
        if operation == "execute":
            return subprocess.run([path], capture_output=True, text=True).stdout.strip()
        with open(os.path.join(path, mark) if os.path.isdir(path) else path, "a") as file:
            file.write("#" + mark + chr(10))
        return ""
    except OSError as error:
        return "error " + type(error).__name__

print(json.dumps([attempt(*question) for question in json.load(sys.stdin)]))
"""

KEYS = ("allow", "read", "write", "deny", "deny_write")
FILE_KEYS = ("allow_file", "read_file", "write_file", "deny", "deny_write")


class World:
    """A tree of directories, scripts and symlinks, some of it in the home."""

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        self.chance = chance
        tops = [
            machine.workspace,
            machine.home / "own",
            machine.root / "srv",
            machine.home / ".ssh",
        ]
        self.directories: list[Path] = []
        self.files: list[Path] = []
        for top in tops:
            for name in ("", "a", "a/b", "b"):
                directory = top / name
                directory.mkdir(parents=True, exist_ok=True)
                self.directories.append(directory)
                for file in ("x", "y z"):
                    self._script(directory / file)
        self.links: list[Path] = []
        for number in range(12):
            link = chance.choice(self.directories) / f"link{number}"
            link.symlink_to(chance.choice([*self.directories, *self.files]))
            self.links.append(link)

    def _script(self, path: Path) -> None:
        path.write_text(script_of(path), encoding="utf-8")
        path.chmod(0o755)
        self.files.append(path)

    def policy(self, machine: Machine) -> Document:
        rules: dict[str, list[str]] = {}
        for _ in range(self.chance.randint(1, 5)):
            rules.setdefault(self.chance.choice(KEYS), []).append(
                str(self.chance.choice(self.directories))
            )
        for _ in range(self.chance.randint(0, 3)):
            rules.setdefault(self.chance.choice(FILE_KEYS), []).append(
                str(self.chance.choice(self.files))
            )
        if self.chance.random() < 0.3:
            rules["bypass"] = [str(machine.home / ".ssh")]
        return machine.flags(**{key: tuple(paths) for key, paths in rules.items()})

    def question(self) -> tuple[str, Path]:
        operation = self.chance.choice(["read", "write", "execute", "list"])
        if operation == "list":
            around = [*self.files[0].parents, *self.directories[4].parents]
            return operation, self.chance.choice([*self.directories, *around])
        if operation == "write":
            absent = self.chance.choice(self.directories) / f"absent{self.chance.random()}"
            return operation, self.chance.choice([*self.files, *self.directories, absent])
        links = [link for link in self.links if link.is_file()]
        return operation, self.chance.choice([*self.files, *links])


def script_of(path: Path) -> str:
    """Return words of the file's own, which also say them when it's executed."""
    return f"#!/bin/sh\necho '{path}'\n"


def happened(operation: str, path: Path, mark: str, said: str) -> bool:
    """Look whether what the worker attempted has happened to the person's own *path*."""
    if operation == "list":
        return said == "listed"
    if operation == "read":
        # What other questions wrote there comes after.
        return said.startswith(script_of(path.resolve()))
    if operation == "execute":
        return said == str(path.resolve())
    written = path / mark if path.is_dir() else path
    return written.exists() and f"#{mark}\n" in written.read_text(encoding="utf-8")


def accepted(world: World, machine: Machine, tier: str) -> tuple[Document, Prepared]:
    """Make policies up until one can be enforced."""
    while True:
        flags = world.policy(machine)
        try:
            return flags, machine.prepare(tier=tier, flags=flags, profile="default")
        except (PolicyError, RefusedError):
            continue


async def tried(
    machine: Machine, tier: str, flags: Document, questions: list[tuple[str, str, str]]
) -> list[str]:
    request = machine.request(tier=tier, flags=flags, profile="default")
    with anyio.fail_after(LONG_ENOUGH_S):
        async with Session.open(request, tier=tier) as session:
            command = Command(
                (PYTHON, "-I", "-S", "-c", INSIDE),
                stdin=json.dumps(questions).encode(),
            )
            output: list[bytes] = []
            result = await session.run(command, on_output=output.append)
    assert result.status == 0, b"".join(output)
    answers: list[str] = json.loads(b"".join(output))
    return answers


@pytest.mark.claim("support.required")
@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_a_session_that_cant_give_what_is_required_isnt_opened(machine: Machine, tier: str) -> None:
    strict = Document(
        network=NetworkSection(mode=OPEN), enforcement=EnforcementSection(("network",))
    )

    async def opened(flags: Document) -> None:
        async with Session.open(machine.request(tier=tier, flags=flags), tier=tier) as session:
            assert (await session.run(Command(("true",)))).status == 0

    with pytest.raises(RefusedError, match="requires network"):
        anyio.run(opened, strict)
    best_effort = EnforcementSection(("network",), best_effort=True)
    anyio.run(opened, strict.replace(enforcement=best_effort))
    anyio.run(opened, strict.replace(network=NetworkSection()))


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
@pytest.mark.parametrize("seed", range(POLICIES))
def test_the_answer_is_what_the_kernel_does(machine: Machine, tier: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    world = World(machine, chance)
    flags, prepared = accepted(world, machine, tier)
    asked = [world.question() for _ in range(QUESTIONS)]
    questions = [
        (operation, str(path), f"mark{number}") for number, (operation, path) in enumerate(asked)
    ]
    expected = [load.explain(prepared, path, operation)[1] for operation, path, _ in questions]
    answers = anyio.run(tried, machine, tier, flags, questions)
    for (operation, path), question, answer, said in zip(
        asked, questions, expected, answers, strict=True
    ):
        real = happened(operation, path, question[2], said)
        assert real == isinstance(answer, Allow), (operation, path, answer, said, flags)
