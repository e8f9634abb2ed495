"""One session's handle on the log: what it appends, its own key signs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from nono_mcp.audit import canonical, kinds
from nono_mcp.audit import record as rec
from nono_mcp.audit.end import AuditWriteError
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.redact import Redactor

DATA_BYTES_MAX: Final = rec.BODY_BYTES_MAX - 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """A record that is in the log."""

    seq: int
    hash: str
    """Its leaf hash, which stands for it and all before it."""


Write = Callable[["Session", str, bytes, bool], Receipt]


class Session:
    """Appends to the log under one identifier and one key, which exists nowhere else."""

    def __init__(self, name: str, key: SigningKey, redactor: Redactor, write: Write) -> None:
        """Use `AuditLog.session`."""
        self.name = name
        self.key = key
        self.closed = False
        self.listeners: list[Callable[[str | None], None]] = []
        """Told that there is a record more, and of which call."""
        self._redactor = redactor
        self._write = write

    def append(self, kind: str, fields: Mapping[str, object], *, sync: bool = False) -> Receipt:
        """Write a record; it is in the log when this returns.

        With *sync* it would also survive a loss of power; without, the death of this process.

        Raises:
            AuditWriteError: It isn't in the log. Don't do what it was to announce.
            ValueError, TypeError: *fields* aren't what the kind asks for; nothing was written.
        """
        kinds.require(kind, fields)
        return self._append(kind, dict(fields), sync=sync)

    def _append(self, kind: str, fields: dict[str, object], *, sync: bool) -> Receipt:
        if self.closed:
            raise AuditWriteError("the session has ended")
        data = self._redactor.encode(fields)
        if len(data) > DATA_BYTES_MAX:
            required = kinds.KINDS.get(kind, {})
            kept = {name: self._redactor.clean(fields[name]) for name in required}
            data = canonical.encode({**kept, "too_large": self._redactor.commit(data)})
            if len(data) > DATA_BYTES_MAX:
                raise AuditWriteError(f"{kind}: {len(data)} bytes are too many for a record")
        receipt = self._write(self, kind, data, sync)
        if self.listeners:
            call = fields.get("call")
            for listener in self.listeners:
                listener(call if isinstance(call, str) else None)
        return receipt

    def hide(self, secrets: Iterable[str]) -> None:
        """Take these very values out of every record from now on, encoded forms included."""
        self._redactor.hide(secrets)

    def commit(self, value: bytes) -> dict[str, object]:
        """Return a salted commitment to *value*, to be put in a record's fields.

        Call it for what is large or private: the record then proves what it was to who has it.
        """
        return self._redactor.commit(value)

    def close(self, reason: str = "closed") -> None:
        """Write the session's last record; its key is forgotten.

        Raises:
            AuditWriteError: The end isn't in the log; verification will call the session open.
        """
        if not self.closed:
            self._append(rec.END, {"reason": reason}, sync=True)
            self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("closed" if kind is None else f"failed: {kind.__name__}")
