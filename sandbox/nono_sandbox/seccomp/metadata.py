"""Modes, owners and times, which no Landlock right is about.

In the first tier mounts hold them outside what a session may write, in the second whoever has
the filter's listener (`nono_sandbox.behalf.metadata`). A call that gave up all its writes has
nothing whose metadata it may change, and mounts can't be changed for one call.

Architecture invariant: data.
"""

from __future__ import annotations

from errno import EROFS

from nono_sandbox.seccomp.rules import NOTIFY, Row

_CALLS = "chmod fchmod fchmodat chown fchown lchown fchownat utime utimes futimesat utimensat"

ON_BEHALF = (Row(_CALLS, NOTIFY, "where a path leads, and a descriptor, isn't seen from here"),)
"""Behind the rows that refuse set-id bits."""

WITHOUT_METADATA = (
    Row(
        _CALLS,
        EROFS,
        "the call writes nothing; the answer is that of a read-only file system",
    ),
)
"""On top of any other filter. What `rows` refuses already (fchmodat2, xattrs) isn't repeated."""
