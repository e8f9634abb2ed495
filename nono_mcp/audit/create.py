"""Beginning a log, and telling whether one that is there is the one remembered."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from nono_mcp.audit import canonical, files, ratchet
from nono_mcp.audit import record as rec
from nono_mcp.audit.chain import segment_name
from nono_mcp.audit.end import AuditTamperedError, End
from nono_mcp.audit.heads import Head, read_head, write_head
from nono_mcp.audit.keys import SigningKey
from nono_mcp.audit.keystore import FILE, FileKeystore, Keystore, KeystoreError
from nono_mcp.audit.merkle import leaf_hash

DIRECTORY: Final = "audit"
HINT: Final = "look at it with `nono audit verify`; `nono audit restart --reason WHY` sets it aside"
"""What to do about a log that isn't what it was."""


def stamp(now_ns: int) -> str:
    """Return a time as records have it."""
    seconds, ns = divmod(now_ns, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{ns // 1000:06d}Z"


def first_line(dir_fd: int) -> bytes:
    """Return record 0, or b"" if no log was begun here.

    Raises:
        AuditTamperedError: The log's beginning is missing.
    """
    names = files.segments(dir_fd)
    with contextlib.suppress(FileNotFoundError):
        pruned = files.read_pruned(dir_fd)
        return pruned.split(b"\n", 1)[0] + b"\n"
    if not names:
        return b""
    fd = files.open_file(dir_fd, names[0])
    try:
        line = next(files.lines_forward(fd, 0, os.fstat(fd).st_size), b"")
    finally:
        os.close(fd)
    if files.first_seq(names[0]) or (len(names) > 1 and not line.endswith(b"\n")):
        raise AuditTamperedError(f"the log's beginning is missing; {HINT}")
    return line if line.endswith(b"\n") else b""


def identity(dir_fd: int) -> tuple[str, str]:
    """Return the log's identifier and its root fingerprint.

    Raises:
        AuditTamperedError: Record 0 can't be read.
    """
    line = first_line(dir_fd)
    try:
        return str(rec.parse(line).data["log"]), leaf_hash(line).hex()
    except (rec.RecordError, KeyError) as error:
        raise AuditTamperedError(f"record 0: {error}; {HINT}") from error


def begin_log(
    dir_fd: int, stores: Sequence[Keystore], now: str, after: dict[str, object] | None = None
) -> None:
    """Write record 0; call it with the lock held and no log there.

    Raises:
        AuditTamperedError: A log is remembered here, and *after* doesn't account for it.
        OSError: It can't be written.
    """
    usable: list[Keystore] = []
    labels: dict[str, object] = {}
    for store in stores:
        try:
            remembered = read_head(store)
        except KeystoreError as error:
            if store.name == FILE:
                raise
            # The log begins without a keychain, and says why.
            labels[store.name] = str(error)
            continue
        if remembered is not None and after is None:
            raise _gone(store, remembered)
        usable.append(store)
        labels[store.name] = store.label
    log_id = os.urandom(16).hex()
    key = SigningKey()
    data: dict[str, object] = {
        "format": rec.FORMAT,
        "key": rec.to_base64(key.public),
        "keystores": labels,
        "log": log_id,
        "note": rec.to_base64(ratchet.make(usable[-1], log_id, ratchet.NOTE_ENTRY)),
        "ratchets": {s.name: rec.to_base64(ratchet.make(s, log_id)) for s in usable},
    }
    if after is not None:
        data["after"] = after
    place = rec.Place(0, rec.GENESIS_PREV, rec.GENESIS_SESSION, now)
    body = rec.build_body(rec.CREATE, canonical.encode(data), place)
    line = rec.build_line(body, key.sign(rec.SIGNED_PREFIX + body))
    files.replace_file(dir_fd, segment_name(0), line)


def refuse_new(stores: Sequence[Keystore]) -> NoReturn:
    """Say that there's no log, or that there was one.

    Raises:
        AuditTamperedError: A log is remembered here.
        FileNotFoundError: None is.
    """
    for store in stores:
        head = _head_or_none(store)
        if head is not None:
            raise _gone(store, head)
    raise FileNotFoundError("no log was begun here")


def _gone(store: Keystore, head: Head) -> AuditTamperedError:
    return AuditTamperedError(
        f"the log is gone: {store.label} remembers {head.size} records; {HINT}"
    )


def check_heads(dir_fd: int, end: End, stores: Sequence[Keystore]) -> None:
    """Compare the log with what is remembered of it.

    Raises:
        AuditTamperedError: It's another log, shorter, or differs.
    """
    log_id, root = identity(dir_fd)
    for store in stores:
        try:
            head = read_head(store)
        except KeystoreError:
            if store.name == FILE:
                raise
            # Locked: `session` will say so in a record, and `verify` compares later.
            continue
        if head is None:
            continue
        if (head.log, head.root) != (log_id, root):
            raise AuditTamperedError(f"this isn't the log that {store.label} remembers; {HINT}")
        if head.size > end.size:
            raise AuditTamperedError(
                f"{head.size - end.size} records are missing: {store.label} remembers "
                f"{head.size}, the log has {end.size}; {HINT}"
            )
        if hash_at(dir_fd, end, head.size - 1) != head.hash:
            raise AuditTamperedError(
                f"record {head.size - 1} isn't the one that {store.label} remembers; {HINT}"
            )


def hash_at(dir_fd: int, end: End, seq: int) -> str | None:
    """Return the leaf hash of record *seq*, or None if it isn't there."""
    if seq in end.recent:
        return end.recent[seq]
    line = line_at(dir_fd, seq)
    return None if line is None else leaf_hash(line).hex()


def line_at(dir_fd: int, seq: int) -> bytes | None:
    """Return the line of record *seq*, or None if it isn't there."""
    names = [name for name in files.segments(dir_fd) if files.first_seq(name) <= seq]
    if not names:
        return None
    fd = files.open_file(dir_fd, names[-1])
    try:
        skip = seq - files.first_seq(names[-1])
        for number, line in enumerate(files.lines_forward(fd, 0, os.fstat(fd).st_size)):
            if number == skip:
                return line if line.endswith(b"\n") else None
    finally:
        os.close(fd)
    return None


@contextlib.contextmanager
def _locked(path: str, keychain: Keystore | None) -> Iterator[tuple[int, list[Keystore]]]:
    """Yield the directory of a log, made if it isn't there, and its keystores; under its lock."""
    with contextlib.ExitStack() as stack:
        dir_fd = files.open_directory(path, create=True)
        stack.callback(os.close, dir_fd)
        stack.enter_context(files.locked(dir_fd))
        keys_fd = files.open_directory(files.KEYS, create=True, dir_fd=dir_fd)
        stack.callback(os.close, keys_fd)
        yield dir_fd, [FileKeystore(keys_fd), *([keychain] if keychain else [])]


def restart(state_dir: str, keychain: Keystore | None, reason: str) -> str:
    """Set the log in *state_dir* aside and begin another that says so; return where it is now.

    Raises:
        AuditPathError: The directory isn't safely ours.
    """
    path = str(Path(state_dir) / DIRECTORY)
    aside = f"{path}.aside-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(2).hex()}"
    # Writers that still hold the old directory's files keep writing to what was set aside.
    with _locked(path, keychain) as (_, stores):
        heads = [head for store in stores if (head := _head_or_none(store)) is not None]
        last = max(heads, key=lambda head: head.size, default=None)
        Path(path).rename(aside)
    with _locked(path, keychain) as (dir_fd, stores):
        begin_log(dir_fd, stores, stamp(time.time_ns()), _after(last, reason))
        line = first_line(dir_fd)
        _remember(stores, Head(*identity(dir_fd), 1, leaf_hash(line).hex()))
    return aside


def _remember(stores: Sequence[Keystore], head: Head) -> None:
    for store in stores:
        with contextlib.suppress(KeystoreError):
            write_head(store, head)


def _head_or_none(store: Keystore) -> Head | None:
    with contextlib.suppress(KeystoreError):
        return read_head(store)
    return None


def _after(last: Head | None, reason: str) -> dict[str, object]:
    if last is None:
        return {"reason": reason}
    return {"hash": last.hash, "log": last.log, "reason": reason, "size": last.size}
