"""The options that name hosts and credentials: the part of a policy that the proxy keeps."""

from __future__ import annotations

import os

from nono_mcp.cli.option_values import as_policy
from nono_mcp.cli.options import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.policy.document import NetworkSection

HOSTS = (
    ("--allow-domain", "HOST[:PORT]"),
    ("--deny-domain", "HOST[:PORT]"),
    ("--credential", "NAME[=SOURCE]"),
    ("--proxy-credential", "NAME[=SOURCE]"),
    ("--allow-endpoint", "NAME:METHOD:PATH"),
)

AROUND = (
    ("--upstream-proxy", "URL"),
    ("--upstream-proxy-credential", "SOURCE"),
    ("--upstream-ca", "FILE"),
)


def section(parsed: Parsed) -> NetworkSection:
    """Return what the options say of hosts and credentials.

    Raises:
        UsageError: The value of one isn't one.
    """
    from nono_mcp.policy import egress_syntax
    from nono_mcp.policy.document import NetworkSection

    named, sources = [], []
    for text in (*parsed.all("--credential"), *parsed.all("--proxy-credential")):
        name, _, source = text.partition("=")
        as_policy("--credential", egress_syntax.check_name, name)
        named.append(name)
        if source:
            as_policy("--credential", egress_syntax.check_source, source)
            sources.append((name, source))
    ca = parsed.one("--upstream-ca")
    proxy, secret = parsed.one("--upstream-proxy"), parsed.one("--upstream-proxy-credential")
    if proxy is not None:
        as_policy("--upstream-proxy", egress_syntax.check_proxy, proxy)
    elif secret is not None:
        raise UsageError("--upstream-proxy-credential says nothing without --upstream-proxy")
    if secret is not None:
        as_policy("--upstream-proxy-credential", egress_syntax.check_source, secret)
    checks = {
        "--allow-domain": egress_syntax.check_host,
        "--deny-domain": egress_syntax.check_host,
        "--allow-endpoint": egress_syntax.check_endpoint,
    }
    for name, check in checks.items():
        for text in parsed.all(name):
            as_policy(name, check, text)
    return NetworkSection(
        allow_domains=parsed.all("--allow-domain"),
        deny_domains=parsed.all("--deny-domain"),
        credentials=tuple(dict.fromkeys(named)),
        sources=tuple(sources),
        endpoints=parsed.all("--allow-endpoint"),
        upstream_proxy=proxy,
        upstream_proxy_credential=secret,
        upstream_ca=None if ca is None else os.path.join(os.getcwd(), ca),
    )
