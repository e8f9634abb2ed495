"""`nono serve --http` with the conformance suite's fixtures beside our tools.

    python serve.py WORKSPACE

The whole server runs: session, fork server, log, door. Two things are put in for the suite: its
fixtures, and the token, which it has no way to send.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nono_mcp import server
from nono_mcp.policy.document import Document
from nono_mcp.policy.request import Request
from nono_mcp.server import app as app_module
from nono_mcp.server import http, own_token, shared
from tests.conformance import fixtures

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from nono_mcp.server.app import App
    from nono_mcp.server.co_tenants import CoTenants
    from nono_mcp.session import Session


TOKEN = own_token.new()


class Admitting(http.Guard):
    """A guard that lends whoever has no token the server's own."""

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http" and not any(n == b"authorization" for n, _ in scope["headers"]):
            token = f"Bearer {TOKEN}".encode()
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", token)]}
        await super().__call__(scope, receive, send)


def build(session: "Session", co_tenants: "CoTenants") -> "App":
    app = app_module.build(session, co_tenants)
    fixtures.register(app)
    return app


# Names of the module that serves, which `server.main` imports.
setattr(shared, "build", build)  # noqa: B010 - to mypy it isn't the module's to give
setattr(http, "Guard", Admitting)  # noqa: B010 - likewise
setattr(own_token, "new", lambda: TOKEN)  # noqa: B010 - likewise


def main() -> int:
    root = Path(sys.argv[1])
    request = Request(
        workspace=str(root),
        tier="",
        environ={"HOME": str(root), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        home=str(root.parent),
        state_dir=str(root.parent / "state" / "nono"),
        config_dir=str(root.parent / "config" / "nono"),
        flags=Document(),
    )
    return server.main(server.ServeOptions(request, http=server.Http("127.0.0.1", 0)))


if __name__ == "__main__":
    sys.exit(main())
