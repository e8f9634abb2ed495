"""Start one proxy for `benchmarks.proxy`, and say as JSON how it's used.

python -m benchmarks.proxy_peers ours|nono-py|asyncio|epoll UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from benchmarks import proxy_floor

if TYPE_CHECKING:
    from collections.abc import Callable

CREDENTIAL = "sk-benchmark-0123456789"
MANY = 2000


def _say(port: int, path: str, token: str, secret: str) -> None:
    text = json.dumps({"port": port, "path": path, "token": token, "secret": secret})
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def ours(upstream: int) -> None:
    """Run this project's proxy: every check, record and scrubbing on."""
    from ipaddress import ip_network  # noqa: PLC0415 - each proxy runs in a process of its own

    from nono_proxy.config import (  # noqa: PLC0415
        BaseUrl,
        Config,
        EndpointRule,
        Header,
        HostRule,
        Limits,
        Route,
    )
    from nono_proxy.proxy import Proxy  # noqa: PLC0415

    row = Route(
        "model",
        (f"127.0.0.1:{upstream}",),
        "model",
        (Header("Authorization", "bearer"),),
        base_urls=(BaseUrl("MODEL_BASE_URL"),),
        endpoints=(EndpointRule("*", "/**"),),
        tls=False,
    )
    config = Config(
        (HostRule("localhost", upstream, raw=True),),
        routes=(row,),
        address_grants=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        limits=Limits(connections_max=MANY),
    )
    records: list[object] = []

    def report(record: object) -> None:
        records.append(record)
        if len(records) > MANY:
            records.clear()

    async def lookup(_: str) -> bytes:
        return CREDENTIAL.encode()

    listener = socket.create_server(("127.0.0.1", 0), backlog=MANY)
    port = listener.getsockname()[1]
    async with Proxy([listener], config, lookup, report) as proxy:
        lease = proxy.mint("benchmark")
        _say(port, "/model", lease.tokens["model"], lease.secret)
        await asyncio.Event().wait()


def nono_py(upstream: int) -> None:
    """Run nono-py's proxy, which is written in Rust."""
    import nono_py  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    os.environ["BENCH_KEY"] = CREDENTIAL
    row = nono_py.RouteConfig(
        "model", f"http://127.0.0.1:{upstream}", "env://BENCH_KEY", env_var="MODEL_KEY"
    )
    config = nono_py.ProxyConfig(
        allowed_hosts=["localhost"], routes=[row], max_connections=MANY, allow_all_hosts=False
    )
    handle = nono_py.start_proxy(config)
    found = dict(handle.env_vars()) | dict(handle.credential_env_vars())
    secret = found["HTTP_PROXY"].partition("://")[2].partition("@")[0].partition(":")[2]
    _say(handle.port, "/model", found["MODEL_KEY"], secret)
    while True:
        # What has been recorded is to be taken, or it grows.
        signal.sigtimedwait([signal.SIGUSR1], 0.2)
        handle.drain_audit_events()


def floor(upstream: int, kind: str) -> None:
    """Relay without looking."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=MANY)
    _say(listener.getsockname()[1], "", "none", "")
    if kind == "epoll":
        proxy_floor.by_epoll(listener, upstream)
    else:
        asyncio.run(proxy_floor.by_asyncio(listener, upstream))


def main() -> None:
    """Run the proxy that the command line names."""
    peers: dict[str, Callable[[int], None]] = {
        "ours": lambda port: asyncio.run(ours(port)),
        "nono-py": nono_py,
        "asyncio": lambda port: floor(port, "asyncio"),
        "epoll": lambda port: floor(port, "epoll"),
    }
    peers[sys.argv[1]](int(sys.argv[2]))


if __name__ == "__main__":
    main()
