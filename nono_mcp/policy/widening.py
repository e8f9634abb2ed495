"""A policy with one more path or host, given while it is in force."""

from __future__ import annotations

import os

from nono_mcp.policy import egress
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_sandbox.confinement import OPEN, PORTS, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.document import Document
    from nono_mcp.policy.request import Prepared

_KEYS = {READ: "read", WRITE: "write", READ | WRITE: "allow"}


def widened(document: Document, path: str, access: int) -> Document:
    """Return *document* with a grant of *access* to *path*, a directory or a file as it stands.

    Raises:
        PolicyError: The path isn't absolute, or there is no such access.
    """
    if not path.startswith("/") or access not in _KEYS:
        raise PolicyError(f"can't grant {quoted(path)}: give an absolute path and what may be done")
    key = _KEYS[access] if os.path.isdir(path) else f"{_KEYS[access]}_file"
    section = document.filesystem
    more = section.replace(**{key: (*getattr(section, key), path)})
    return document.replace(filesystem=more)


def with_host(document: Document, host: str, prepared: Prepared) -> Document:
    """Return *document*, part of what is *prepared*, with a rule for *host*, as a policy has them.

    Raises:
        PolicyError: It is no rule for hosts.
        RefusedError: The rule would give nothing, or take ports away.
    """
    egress.check_host(host)
    rules = prepared.document.network
    if rules.mode in (OPEN, PORTS):
        raise RefusedError(
            f"can't grant {quoted(host)}: the network is {rules.mode}, without a proxy in between",
            code="net.mode",
            remedy='start the session with network mode "proxy" or "closed"',
        )
    egress.verify_grantable(rules, host, prepared.confinement.tier)
    section = document.network
    more = section.replace(mode=egress.PROXY, allow_domains=(*section.allow_domains, host))
    return document.replace(network=more)
