"""Starts `nono serve --http`, has `nono install` tell clients of it, and runs all of them at once.

    python -m tests.e2e.by_http PLAN

The plan is JSON: "workspace", "home" and, of each of the "clients", the "host" that `nono install`
knows it as, and its "command", "environ" and "out". Where there is a network of its own, loopback
is brought up first. The exit status is the highest of theirs.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.standin import bring_loopback_up

NONO = str(Path(sys.executable).parent / "nono")
BEGUN = re.compile(r"serving MCP at (\S+)$.*? token is in (\S+)$", re.MULTILINE | re.DOTALL)


def begin(plan: dict[str, Any]) -> tuple[subprocess.Popen[str], str, str]:
    """Start the server, and return it, its address and its token, when it listens."""
    command = [NONO, "serve", "--workspace", plan["workspace"], "--http", "0"]
    environ = {"PATH": os.environ["PATH"], "HOME": plan["home"], "LANG": "C.UTF-8"}
    server = subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    said = ""
    while (begun := BEGUN.search(said)) is None:
        line = server.stderr.readline()
        assert line, said
        said += line
    return server, begun[1], Path(begun[2]).read_text().strip()


def start(client: dict[str, Any], workspace: str, url: str, token: str) -> subprocess.Popen[bytes]:
    """Have one client told of the server, as its person would, and start it."""
    environ = client["environ"]
    install = [NONO, "install", client["host"], "--url", url, "--project", workspace]
    with Path(client["out"]).open("wb") as out:
        subprocess.run(install, check=True, env=environ, stdout=out, stderr=out)
        return subprocess.Popen(
            client["command"],
            cwd=workspace,
            env=environ | {"NONO_TOKEN": token},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def main() -> int:
    """Run the clients to their ends."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    if plan["alone"]:
        bring_loopback_up()
    server, url, token = begin(plan)
    try:
        running = [start(client, plan["workspace"], url, token) for client in plan["clients"]]
        return max(abs(client.wait()) for client in running)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
