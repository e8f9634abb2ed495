"""`nono demo`: see it work, with a real MCP client and the real server.

In a temporary home that holds a secret (`scene`), the SDK's client starts `nono serve` and calls
its tools. What is claimed (`claims`) is looked at from outside: files by their absence, processes
by who runs (`processes`), the network by a listener that waits to be reached.

Architecture invariant: nothing of the person's own home is touched, and a claim that doesn't
hold ends in an exit status of 1.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import anyio
from mcp import Client, MCPError

from nono_mcp.demo.claims import Demonstration, say
from nono_mcp.demo.scene import Scene
from nono_sandbox import system

USAGE = """\
usage: nono demo [--tier TIER]

Start `nono serve` in a temporary home that holds a secret, have a real MCP client call its tools,
and look from outside whether what is claimed holds.

  --tier TIER   insist on namespaces, or on landlock; macOS has seatbelt

Exit status: 0 everything held, 1 something didn't, 2 this usage.
"""
DEADLINE_S = 120.0


def main(argv: list[str]) -> int:
    """Show it, and return 0 if everything held."""
    if argv == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    if argv and (len(argv) != 2 or argv[0] != "--tier" or argv[1] not in system.BACKEND.tiers):  # noqa: PLR2004 - an option and its value
        sys.stderr.write(USAGE)
        return 2
    # Whatever the person's takes from who makes something.
    mask = os.umask(0o077)
    try:
        with tempfile.TemporaryDirectory(prefix="nono-demo-") as directory:
            return anyio.run(_show, Scene(Path(directory).resolve()), argv)
    finally:
        os.umask(mask)


async def _show(scene: Scene, options: list[str]) -> int:
    scene.set()
    say("A temporary home holds a secret, in ~/.ssh/id_ed25519 and in the server's environment.")
    say("A real MCP client starts `nono serve` there, in ~/project, and has it run commands.\n")
    demonstration = Demonstration(scene)
    try:
        with anyio.fail_after(DEADLINE_S):
            async with Client(scene.server(options)) as client:
                await demonstration.run(client)
    except* (MCPError, TimeoutError) as errors:
        # The server has said why on standard error, which is ours.
        sys.stderr.write(f"nono demo: the server is gone: {errors.exceptions[0]}\n")
        demonstration.failed_count += 1
    say("")
    if demonstration.failed_count:
        say(f"{demonstration.failed_count} of the claims above did NOT hold.")
        return 1
    say("Everything above held. The temporary home is gone again.")
    return 0
