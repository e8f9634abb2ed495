"""Ed25519 keys, by `cryptography`."""

from collections import OrderedDict
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PARSED_MAX: Final = 256


class SigningKey:
    """A secret key; `repr` shows its public half alone."""

    __slots__ = ("_key", "public", "sign")

    def __init__(self, secret: bytes | None = None) -> None:
        """Take a secret of 32 bytes, or make one."""
        self._key = (
            Ed25519PrivateKey.generate()
            if secret is None
            else Ed25519PrivateKey.from_private_bytes(secret)
        )
        self.public = self._key.public_key().public_bytes_raw()
        self.sign = self._key.sign

    def secret(self) -> bytes:
        """Return the secret, to be kept in a keystore."""
        return self._key.private_bytes_raw()

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()})"


class Checker:
    """Checks signatures; keeps public keys parsed, since a session's key checks many."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[bytes, Ed25519PublicKey] = OrderedDict()

    def __call__(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Tell whether *signature* over *message* is by *public*."""
        key = self._parsed.get(public)
        if key is None:
            key = self._parsed[public] = Ed25519PublicKey.from_public_bytes(public)
            if len(self._parsed) > _PARSED_MAX:
                self._parsed.popitem(last=False)
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True
