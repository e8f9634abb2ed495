"""What was judged for a command line before, for as long as it would be judged the same.

Judging is a function: of the options, of this program, and of what it asks of its environment and
of the file system. `witness` notes each of those questions with its answer, beside what came of
it. Asked again, they cost a tenth of judging anew; and unless every answer is the same to the
letter, what was kept counts nothing.

Architecture invariant: it says nothing of what may be done, and changes nothing. What is enforced
is compared once more with what was judged, as ever. No worker can write what counts: what is kept
is among our own state, belongs to this user, and has a tag by a key that is kept among our
configuration, so that a place which was a worker's to write before it was ours holds nothing.
"""

from __future__ import annotations

import _stat as stat
import marshal
import posix as os
import sys
from _imp import source_hash

from nono_mcp import places
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from nono_mcp.policy.request import Prepared
    from nono_sandbox.sealing import Programs

    Notes = tuple[tuple[str, tuple[tuple[Any, Any], ...]], ...]

FOLDER = "recall"
"""Within our state."""
SLOTS_COUNT = 128
"""Command lines that are remembered, each in a file of its own; more take the place of others."""
KEY = "recall.key"
"""Within our configuration."""
KEY_BYTES = 8
BYTES_MAX = 1 << 20
TAG_BYTES = 8
_VERSION = 3
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PATH_ALONE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC
NO_SUCH_NAME = -1
"""Instead of an errno: no system call takes that."""


class Outcome(Value):
    """What came of judging, as far as a run that nothing is to be said of needs it."""

    tier: str | None
    """What is insisted on."""
    network: str
    """The mode."""
    confinement: list[Any]
    """As `wire.plain` has it."""
    call: list[Any]
    """Environment, directory and limits, likewise."""
    programs: Programs
    """Of seccomp."""
    guarded: tuple[Any, ...]
    """What `Guard.settle` takes; nothing where there is nothing to guard."""
    prepared: bytes
    """All of it, for explaining."""


class Memory(Value):
    """An outcome, and what it holds by."""

    notes: Notes
    outcome: Outcome


def key_of(words: tuple[str, ...]) -> bytes:
    """Return what an outcome belongs to, besides what is noted: the options *words*, and us.

    Raises:
        OSError: The current directory is gone.
    """
    machine = os.uname()
    ids = os.getuid(), os.geteuid(), os.getgid(), os.getegid()
    program = sys.hexversion, sys.executable, sys.prefix, sys.base_prefix, __file__
    kernel = machine.sysname, machine.release, machine.machine
    return marshal.dumps((_VERSION, words, os.getcwd(), ids, program, kernel))


def path_of(key: bytes, environ: Mapping[str, str]) -> str | None:
    """Return where the outcome of *key* is kept, or None where no environment says."""
    if not environ.get("HOME", "").startswith("/"):
        return None
    slot = int.from_bytes(source_hash(0, key), "little") % SLOTS_COUNT
    return f"{places.state_dir(environ)}/{FOLDER}/{slot}"


def find(key: bytes) -> Memory | None:
    """Return what is kept for *key*, which counts only as long as its notes `hold`."""
    environ = places.environ()
    path = path_of(key, environ)
    data = None if path is None else read(path, BYTES_MAX)
    secret = None if data is None else read(key_path(environ), KEY_BYTES)
    if data is None or secret is None or len(secret) != KEY_BYTES:
        return None
    kept = data[TAG_BYTES:]
    if tag_of(secret, kept) != data[:TAG_BYTES]:
        return None
    try:
        found, notes, outcome = marshal.loads(kept)  # noqa: S302 - we wrote it
        return Memory(notes, Outcome(*outcome)) if found == key else None
    except (EOFError, TypeError, ValueError):
        return None  # another version of us did


def key_path(environ: Mapping[str, str]) -> str:
    """Return where the key of what is kept is."""
    return f"{places.config_dir(environ)}/{KEY}"


def tag_of(secret: bytes, data: bytes) -> bytes:
    """Return what only who has the key *secret* can say of *data* (SipHash)."""
    return source_hash(int.from_bytes(secret, "little", signed=True), data)


def read(path: str, bytes_max: int) -> bytes | None:
    """Return what the file *path* begins with, if it's this user's alone to write."""
    try:
        descriptor = os.open(path, _OPEN)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        own = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        return os.read(descriptor, bytes_max) if own and stat.S_ISREG(status.st_mode) else None
    finally:
        os.close(descriptor)


def hold(notes: Notes) -> bool:
    """Tell whether everything that was asked is answered as it was, of our own sources too."""
    if not any(sense == "source" for sense, _ in notes):
        return False
    for sense, asked in notes:
        ask = SENSES.get(sense)
        if ask is None:
            return False
        for question, answer in asked:
            if ask(question) != answer:
                return False
    return True


def facts(status: os.stat_result) -> tuple[int, ...]:
    """Return what of a status anything is judged by.

    How many links a directory has says how many directories are in it, and nothing else.
    """
    links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
    return status.st_mode, status.st_ino, status.st_dev, status.st_uid, status.st_gid, links


def _status(path: str, *, follow_symlinks: bool = True) -> tuple[int, ...] | int:
    try:
        return facts(os.stat(path, follow_symlinks=follow_symlinks))
    except OSError as error:
        return error.errno or 0
    except ValueError:
        return NO_SUCH_NAME


def _own_status(path: str) -> tuple[int, ...] | int:
    return _status(path, follow_symlinks=False)


def _link(path: str) -> str | int:
    try:
        return os.readlink(path)
    except OSError as error:
        return error.errno or 0
    except ValueError:
        return NO_SUCH_NAME


def _opened(path: str) -> tuple[Any, ...] | int:
    """Return the facts of what is opened by *path*, and where that is."""
    try:
        descriptor = os.open(path, _PATH_ALONE)
    except OSError as error:
        return error.errno or 0
    except ValueError:
        return NO_SUCH_NAME
    try:
        return facts(os.fstat(descriptor)), _link(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _names(path: str) -> tuple[str, ...] | int:
    try:
        return tuple(os.listdir(path))
    except OSError as error:
        return error.errno or 0


def _entries(path: str) -> tuple[tuple[str, int, str], ...] | int:
    try:
        with os.scandir(path) as entries:
            return tuple((one.name, one.inode(), kind(one)) for one in entries)
    except OSError as error:
        return error.errno or 0


def kind(entry: os.DirEntry[str]) -> str:
    """Return which of the kinds that an entry may be asked for it is, itself."""
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _access(question: tuple[str, int]) -> bool:
    return os.access(*question)


def _standing(root: str) -> tuple[tuple[Any, ...], ...]:
    # Whoever asks this guards it too, and pays for the import anyway: of all of it in one go.
    from nono_mcp.guard import guard, spots  # noqa: F401

    return tuple((one.directory, one.name, one.rule, one.what) for one in spots.standing(root))


def _other_names(
    question: tuple[tuple[tuple[str, int], ...], tuple[str, ...]],
) -> tuple[tuple[str, int, str, bool], ...]:
    # Only who closes something within a grant pays for the import.
    from nono_mcp.policy import hard_links

    return hard_links.find(*question)


def _source(path: str) -> tuple[int, ...] | int:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno or 0
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _exists(path: str) -> bool:
    return not isinstance(_own_status(path), int)


def _variable(name: str) -> str | None:
    return places.variable(name)


SENSES: dict[str, Callable[[Any], Any]] = {
    "variable": _variable,
    "status": _status,
    "own-status": _own_status,
    "link": _link,
    "opened": _opened,
    "names": _names,
    "entries": _entries,
    "access": _access,
    "exists": _exists,
    "standing": _standing,
    "other-names": _other_names,
    "source": _source,
}
"""How each kind of question is asked."""


def prepared_of(data: bytes) -> Prepared:
    """Return the whole of what was prepared."""
    from nono_mcp.policy import document, request
    from nono_sandbox import wire

    values = dict(wire.VALUES)
    values |= {
        name: thing
        for module in (document, request)
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, Value)
    }
    whole: Prepared = wire.whole(marshal.loads(data), values)  # noqa: S302 - likewise
    return whole
