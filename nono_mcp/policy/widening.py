"""A policy with one more path or host, given while it is in force."""

from __future__ import annotations

import os

from nono_mcp.policy import egress, egress_syntax, resolve
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_sandbox.confinement import OPEN, PORTS, READ, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_mcp.policy.document import Document
    from nono_mcp.policy.request import Prepared

_KEYS = {READ: "read", WRITE: "write", READ | WRITE: "allow"}


class Given(Value):
    """A path given to a session, and the object that it was given for."""

    path: str
    """Its location, free of symlinks."""
    access: int
    key: str
    """As what a policy would grant it."""
    identity: tuple[int, int]

    def stands(self) -> bool:
        """Tell whether the path still leads to that object, by no symlink."""
        place = resolve.resolve(self.path)
        return place.path == self.path and place.identity == self.identity


def given(path: str, access: int, identity: tuple[int, int] | None = None) -> Given:
    """Return a grant of *access* to *path*, a directory or a file as it stands.

    With an *identity* (st_dev, st_ino) it's to that object or to none, by no symlink.

    Raises:
        PolicyError: The path isn't absolute, leads nowhere or elsewhere, or there is no such
            access.
    """
    if not path.startswith("/") or access not in _KEYS:
        raise PolicyError(f"can't grant {quoted(path)}: give an absolute path and what may be done")
    place = resolve.resolve(path)
    if place.identity is None:
        raise PolicyError(f"can't grant {quoted(path)}: {os.strerror(place.errno).lower()}")
    if identity is not None and (place.path, place.identity) != (path, identity):
        raise PolicyError(f"can't grant {quoted(path)}: something else is there now")
    key = _KEYS[access] if place.kind == "directory" else f"{_KEYS[access]}_file"
    return Given(place.path, access, key, place.identity)


def widened(document: Document, grants: Iterable[Given]) -> Document:
    """Return *document* with *grants*."""
    section = document.filesystem
    for one in grants:
        section = section.replace(**{one.key: (*getattr(section, one.key), one.path)})
    return document.replace(filesystem=section)


def verify_where(prepared: Prepared, grants: Iterable[Given]) -> None:
    """Verify that each of *grants* was *prepared* at the location that it was given for.

    A worker that may write around one can swap it for a symlink while the policy is looked up.

    Raises:
        PolicyError: One wasn't.
    """
    for one in grants:
        text = f"--{one.key.replace('_', '-')} {quoted(one.path)}"
        rules = [rule for rule in prepared.rules if rule.text == text and not rule.code]
        same = all(
            grant.identity in (None, one.identity)
            for grant in prepared.confinement.grants
            if grant.path == one.path and grant.source is None
        )
        if not same or any(rule.path != one.path for rule in rules):
            raise PolicyError(f"can't grant {quoted(one.path)}: something else is there now")


def with_host(document: Document, host: str, prepared: Prepared) -> Document:
    """Return *document*, part of what is *prepared*, with a rule for *host*, as a policy has them.

    Raises:
        PolicyError: It is no rule for hosts.
        RefusedError: The rule would give nothing, or take ports away.
    """
    egress_syntax.check_host(host)
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
