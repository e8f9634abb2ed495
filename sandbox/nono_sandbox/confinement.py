"""What a confined process may do, as frozen values.

A `Confinement` is made by the caller (who knows policy) and enforced by this package (which
knows none). Every path in it is absolute, free of `.`, `..` and symlinks, and spelled as
`os.fsdecode` spells it, so a name that isn't UTF-8 holds lone surrogates.

Architecture invariant: this module imports nothing but `values`; it opens no path and asks
the kernel nothing.
"""

from __future__ import annotations

from nono_sandbox.values import Value

READ = 1
"""Open, list and execute."""
WRITE = 2
"""Change, make, rename and remove."""

CLOSED = "closed"
OPEN = "open"
PORTS = "ports"

NAMESPACES = "namespaces"
"""The first tier: namespaces with a fresh root, then Landlock and seccomp."""
LANDLOCK = "landlock"
"""The second tier: Landlock and seccomp alone, where no namespaces are to be had."""
SEATBELT = "seatbelt"
"""macOS's only tier."""


class Grant(Value):
    """Access to one directory and all beneath it or, if *exact*, to one file."""

    path: str
    access: int
    exact: bool = False
    identity: tuple[int, int] | None = None
    """(st_dev, st_ino) of what was judged; another object at *path* is an error."""
    source: str | None = None
    """In the first tier: the directory to be found at *path*, if it isn't *path* itself."""


class Denial(Value):
    """Access refused beneath *path* (inclusive), whatever a grant says."""

    path: str
    access: int = READ | WRITE
    """READ | WRITE hides the path; WRITE alone leaves it readable."""
    says: str = ""
    """A script to stand in place of a hidden file, in the first tier; elsewhere it's hidden."""


class Link(Value):
    """A symlink of the machine that the fresh root repeats, so that familiar paths work."""

    path: str
    target: str


class Network(Value):
    """Which TCP a worker may speak; anything but TCP never leaves, whatever the mode.

    PORTS names ports of the machine's loopback: to connect to, and to serve there. In the first
    tier they are carried into and out of a network of the session's own. OPEN is the machine's own
    network, UDP included.
    """

    mode: str = CLOSED
    connect_ports: tuple[int, ...] = ()
    bind_ports: tuple[int, ...] = ()
    door_port: int = 0
    """With CLOSED, in the first tier: the port of 127.0.0.1, in the session's own network, of a
    listening socket that is handed out of it. Below 1024 no worker can take its place."""


PROCESSES_USUAL = 2048
"""Of a call of which nobody said how many it may have."""


GRANT_MOVED = "grant-moved"
"""For a limit: a grant in the private home was led away from, so writes may have gone astray."""


class Limits(Value):
    """Upper bounds of one call; None sets none."""

    wall_s: float | None = None
    cpu_s: float | None = None
    memory_bytes_max: int | None = None
    processes_max: int | None = None
    open_files_max: int | None = None
    file_size_bytes_max: int | None = None
    output_bytes_max: int | None = None
    disk_bytes_max: int | None = None
    """What a call may add to where it writes; a file is at least `disk_growth.INODE_BYTES`."""
    disk_free_bytes_min: int | None = None
    """What a call leaves free where it writes, where something keeps it (Linux): `disk_reserve`."""


class Places(Value):
    """Where the calls of a session may write."""

    paths: tuple[str, ...] = ()
    began_ns: int = 0
    free_bytes: tuple[tuple[int, int], ...] = ()
    """How much was free then on each file system, by device; nothing for a single call."""


class Confinement(Value):
    """Everything a session's workers have in common; what it doesn't grant is refused."""

    cwd: str
    grants: tuple[Grant, ...] = ()
    denials: tuple[Denial, ...] = ()
    links: tuple[Link, ...] = ()
    sockets: tuple[tuple[int, int], ...] = ()
    """(st_dev, st_ino) of local sockets of programs outside, inside grants, to be connected to."""
    network: Network = Network()
    limits: Limits = Limits()
    environment: tuple[tuple[str, str], ...] = ()
    ptrace: bool = False
    """Let workers trace the processes of their own call (gdb, strace)."""
    tier: str | None = None
    """NAMESPACES, LANDLOCK or SEATBELT to insist on one; None takes the best this machine has."""


class Narrowing(Value):
    """What one call gives up of its session's confinement; it can't add anything."""

    writes: tuple[str, ...] | None = None
    """The only paths beneath which the call writes; None keeps the session's."""
    network_closed: bool = False


class Call(Value):
    """One program to run, confined."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    cwd: str
    limits: Limits = Limits()
    narrowing: Narrowing = Narrowing()
    tty: bool = False
    """Standard input is a pseudo-terminal's slave: make it the controlling terminal."""
    builtin: bool = False
    """Do what `nono_sandbox.builtin` knows by the name argv[0], instead of executing a program."""


def is_answered(tier: str, network: str) -> bool:
    """Tell whether somebody acts on behalf of workers, whose *network* has that mode.

    In the first tier it's for sockets alone, and in the machine's own network nobody could tell
    those of a session from others.
    """
    return tier == LANDLOCK or network != OPEN
