"""The ratchet: each key signs one session's introduction and its successor's, then is erased.

The next secret is stored before the record that names it is written, and the used one is erased
after: whoever is killed in between leaves a keystore that still holds the key the log asks for.
"""

import base64
import json
from dataclasses import dataclass
from typing import Final

from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.keystore import Keystore, KeystoreError
from nono_mcp.audit.record import RecordError, base64_bytes

ENTRY: Final = "ratchet"
NOTE_ENTRY: Final = "note"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the ratchet: the key to sign with, the key to name."""

    current: SigningKey
    following: SigningKey


def _text(log_id: str, *secrets: SigningKey) -> str:
    kept = [base64.b64encode(key.secret()).decode() for key in secrets]
    return json.dumps({"log": log_id, "secrets": kept})


def _secrets(store: Keystore, entry: str, log_id: str) -> list[SigningKey]:
    """Return the keys that *store* holds for the log.

    Raises:
        KeystoreError: It holds none, or another log's.
    """
    text = store.get(entry)
    if text is None:
        raise KeystoreError(f"{store.name}: the log's key is gone")
    try:
        match json.loads(text):
            case {"log": str(owner), "secrets": list(secrets)} if owner == log_id:
                return [SigningKey(base64_bytes(secret, 32)) for secret in secrets]
            case _:
                raise KeystoreError(f"{store.name}: the key there is another log's")
    except (json.JSONDecodeError, RecordError) as error:
        raise KeystoreError(f"{store.name}: the key there can't be read") from error


def make(store: Keystore, log_id: str, entry: str = ENTRY) -> bytes:
    """Make the first key, keep it in *store* and return its public half."""
    key = SigningKey()
    store.put(entry, _text(log_id, key))
    return key.public


def require(store: Keystore, log_id: str, expected: bytes) -> None:
    """Check that *store* can be used and holds the key whose public half is *expected*.

    Raises:
        KeystoreError: It can't, or doesn't.
    """
    if all(key.public != expected for key in _secrets(store, ENTRY, log_id)):
        raise KeystoreError(f"{store.name}: the key there isn't the one that this log asks for")


def begin(store: Keystore, log_id: str, expected: bytes) -> Turn:
    """Return the key whose public half is *expected*, and its successor, already stored.

    Raises:
        KeystoreError: The keystore doesn't hold that key; nothing changed.
    """
    for key in _secrets(store, ENTRY, log_id):
        if key.public == expected:
            turn = Turn(key, SigningKey())
            store.put(ENTRY, _text(log_id, turn.current, turn.following))
            return turn
    raise KeystoreError(f"{store.name}: the key there isn't the one that this log asks for")


def finish(store: Keystore, log_id: str, turn: Turn) -> None:
    """Erase the key that was used."""
    store.put(ENTRY, _text(log_id, turn.following))


def note_key(store: Keystore, log_id: str) -> SigningKey:
    """Return the key that signs checkpoints."""
    return _secrets(store, NOTE_ENTRY, log_id)[0]
