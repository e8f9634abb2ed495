"""SHA-256 without OpenSSL, which costs more to load than all that is hashed here.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

# Both modules are the interpreter's own, and type checkers know neither.
try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        # Python 3.11 has it under this name.
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256 as _sha256


def sha256(data: bytes) -> str:
    """Return the SHA-256 of *data*, in hexadecimal."""
    digest: str = _sha256(data).hexdigest()
    return digest
