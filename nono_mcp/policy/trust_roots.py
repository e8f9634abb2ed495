"""Whom the proxy of a policy trusts in hosts: a company's certificates beside the system's."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace

from nono_mcp.policy import egress, load
from nono_mcp.policy.decide import Allow
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.request import Prepared
    from nono_proxy.config import Config

CERTIFICATES_BYTES_MAX = 1 << 20


def config_for(prepared: Prepared, tier: str) -> Config:
    """Return what the proxy of a policy is told, the certificates it names with it.

    Raises:
        PolicyError, RefusedError: It can't be had, or whoever is confined could change it.
    """
    rules = prepared.document.network
    found = egress.config(rules, tier)
    path = rules.upstream_ca
    if path is None:
        return found
    # What stands in a directory that can be written can be replaced, a link as well.
    changeable = (load.explain(prepared, one, "write")[1] for one in (path, os.path.dirname(path)))
    if any(isinstance(verdict, Allow) for verdict in changeable):
        raise RefusedError(
            f"{quoted(path)} says whom to trust, and a program could change it",
            code="net.upstream-ca",
            path=path,
            remedy="keep it where nothing is granted for writing",
        )
    return replace(found, upstream_roots_pem=_certificates(path))


def _certificates(path: str) -> str:
    """Return the certificates in a file."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(CERTIFICATES_BYTES_MAX + 1)
        if len(text) > CERTIFICATES_BYTES_MAX:
            raise PolicyError(f"{quoted(path)}: over {CERTIFICATES_BYTES_MAX} bytes")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError:
        raise PolicyError(f"{quoted(path)} holds no certificates (PEM)") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not PEM"
        raise PolicyError(f"{quoted(path)} can't be read: {reason}") from None
    return text
