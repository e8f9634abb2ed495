"""How hosts, credentials and routes are written in a policy: each text checked by itself.

Architecture invariant: this module does no I/O. `nono_proxy` is imported by those alone whose
policy has a proxy.
"""

from __future__ import annotations

from nono_mcp.policy import environment, paths
from nono_mcp.policy.errors import PolicyError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nono_proxy.config import Placement

_SHOWN_MAX = 80


def check_host(text: str) -> None:
    """Raise PolicyError unless *text* is a rule for hosts."""
    from nono_proxy.config import HostRule

    _try("host", text, lambda: HostRule.parse(text))


def check_address(text: str) -> None:
    """Raise PolicyError unless *text* is a range of addresses."""
    from ipaddress import ip_network

    _try("range of addresses", text, lambda: ip_network(text))


def check_name(text: str) -> None:
    """Raise PolicyError unless *text* can name a credential and its route."""
    from nono_mcp.credentials import source

    _try("credential's name", text, lambda: source.check_name(text))


def check_source(text: str) -> None:
    """Raise PolicyError unless *text* is where a credential can be kept; it isn't repeated."""
    from nono_mcp.credentials import source
    from nono_mcp.credentials.secret import CredentialError

    try:
        source.parse(text)
    except CredentialError as error:
        raise PolicyError(str(error)) from None


def check_endpoint(text: str) -> None:
    """Raise PolicyError unless *text* is NAME:METHOD:PATH."""
    from nono_proxy.config import EndpointRule

    name, _, rule = text.partition(":")
    check_name(name)
    _try("endpoint", text, lambda: EndpointRule.parse(rule), "NAME:METHOD:/PATH")


def check_proxy(text: str) -> None:
    """Raise PolicyError unless *text* is the URL of a proxy."""
    from nono_proxy.config import UpstreamProxy

    _try("proxy", text, lambda: UpstreamProxy.parse(text), "http://HOST:PORT, without a password")


def check_file(text: str) -> None:
    """Raise PolicyError unless *text* is the absolute path of a file."""
    if not text.startswith("/") or "\0" in text or len(text) > paths.PATH_CHARACTERS_MAX:
        raise PolicyError(f"{quoted(text[:_SHOWN_MAX])} isn't an absolute path")


def check_placement(text: str) -> None:
    """Raise PolicyError unless *text* is a place for a credential in a request."""
    _try("placement", text, lambda: placement(text), "bearer, token, basic-password:USER, "
         "basic-user, header:NAME, query:NAME, path:PREFIX, body:/POINTER or sigv4")  # fmt: skip


def check_prefix(text: str) -> None:
    """Raise PolicyError unless a token may begin with *text*."""
    from nono_proxy.config import Route

    _try("prefix", text, lambda: Route("x", ("x.example",), phantom_prefix=text))


def check_base_url(text: str) -> None:
    """Raise PolicyError unless *text* is a variable, or VARIABLE/SUFFIX."""
    environment.check_name(text.partition("/")[0])


ROUTE_CHECKS: Mapping[str, Callable[[str], None]] = {
    "upstreams": check_host,
    "placements": check_placement,
    "key_variables": environment.check_name,
    "base_urls": check_base_url,
}


def _try(what: str, text: str, act: Callable[[], object], hint: str = "") -> None:
    from nono_mcp.credentials.secret import CredentialError

    try:
        act()
    except (ValueError, CredentialError):
        raise PolicyError(f"{quoted(text[:_SHOWN_MAX])} isn't a {what}", hint=hint) from None


def placement(text: str) -> Placement:
    """Return the place for a credential that *text* names.

    Raises:
        ValueError: It names none.
    """
    from nono_proxy.config import Header, InBody, Path, Query, SigV4

    kind, _, name = text.partition(":")
    plain: dict[str, Placement] = {
        "bearer": Header("Authorization", "bearer"),
        "token": Header("Authorization", "token"),
        "basic-user": Header("Authorization", "basic-user"),
        "sigv4": SigV4(),
    }
    if text in plain:
        return plain[text]
    if kind == "basic-password":
        return Header("Authorization", "basic-password", name)
    if kind == "header":
        return Header(name)
    if kind == "query":
        return Query(name)
    if kind == "path":
        return Path(name)
    if kind == "body":
        return InBody(name)
    raise ValueError(text)
