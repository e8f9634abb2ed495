"""Grants put together: what is granted at a path is what is granted there and around it.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy.paths import ancestors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_sandbox.confinement import Grant


class Granted:
    """What is granted, by location; a directory's access is its own and what is around it."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        access: dict[tuple[str, bool], int] = {}
        first: dict[tuple[str, bool], Grant] = {}
        for grant in grants:
            key = (grant.path, grant.exact)
            access[key] = access.get(key, 0) | grant.access
            first.setdefault(key, grant)
        self._directories: dict[str, int] = {}
        self.grants: list[Grant] = []
        # A directory stands before what is in it, so what is around it is known already.
        for key in sorted(access, key=lambda key: (key[0].count("/") * (key[0] != "/"), key)):
            around = self.access(key[0])
            joined = access[key] | around
            if joined == around:
                continue
            if not first[key].exact:
                self._directories[key[0]] = joined
            self.grants.append(first[key].replace(access=joined))

    def access(self, path: str) -> int:
        """Return the access that the nearest granted directory gives to *path*."""
        around = self.around(path)
        return 0 if around is None else self._directories[around]

    def around(self, path: str) -> str | None:
        """Return the nearest granted directory that covers *path*."""
        for above in (path, *ancestors(path)):
            if above in self._directories:
                return above
        return None
