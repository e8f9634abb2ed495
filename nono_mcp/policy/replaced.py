"""Whether what was judged is still there, asked of a confinement that couldn't be enforced.

Between judging and opening a grant an editor may save it, or Git check out another. What is
enforced is what was judged or nothing; so it's judged anew, and no more than `STARTS_MAX` times:
somebody may replace it again and again.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Confinement, Grant

STARTS_MAX = 3
"""How often a policy is judged, where a grant is replaced before it's opened."""


def is_any(confinement: Confinement) -> bool:
    """Tell whether something else than what was judged stands at a grant by now, or nothing."""
    return not all(
        _is_as_judged(grant) for grant in confinement.grants if grant.identity is not None
    )


def _is_as_judged(grant: Grant) -> bool:
    try:
        status = os.lstat(grant.source or grant.path)
    except OSError:
        return False
    # A number is given out again at once, to a link or a directory too.
    kind = stat.S_IFMT(status.st_mode)
    is_alike = kind != stat.S_IFLNK and (kind == stat.S_IFDIR) != grant.exact
    return is_alike and grant.identity == (status.st_dev, status.st_ino)
