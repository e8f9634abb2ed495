"""A machine in small, on which a session's calls change what they can unseen."""

from tests.guard.conftest import _namespaces_missing, tier

__all__ = ["_namespaces_missing", "tier"]
