"""A policy with one more grant, given while it is in force."""

from __future__ import annotations

import os

from nono_mcp.policy.errors import PolicyError, quoted
from nono_sandbox.confinement import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.document import Document

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
