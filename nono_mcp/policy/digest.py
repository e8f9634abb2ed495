"""SHA-256 without OpenSSL, which costs more to load than all that is hashed here.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import sys

# Both modules are the interpreter's own, and type checkers know neither. A name that isn't there
# would be looked for in every directory.
try:
    if sys.version_info >= (3, 12):
        from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]
    else:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256 as _sha256


def sha256(data: bytes) -> str:
    """Return the SHA-256 of *data*, in hexadecimal."""
    digest: str = _sha256(data).hexdigest()
    return digest
