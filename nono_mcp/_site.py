"""Reach the installed packages from an interpreter that was started without `site`.

The launcher starts Python with -S: most commands need the standard library and ourselves, and
processing site-packages would double their start-up time. Commands that need more say so here.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never


def enable_site() -> None:
    """Make all that is installed beside us importable, .pth files included.

    Does what the interpreter does at its start without -S. Call it before the first import of
    a package that isn't ours; where `site` has already run it does nothing.
    """
    if not sys.flags.no_site:
        return
    import site  # noqa: PLC0415 - the cost this module is about

    site.main()
    # Isolated, `site` leaves out the user's own packages, where `pip install --user` put us.
    ours = os.path.dirname(os.path.dirname(__file__))
    if ours not in site.getsitepackages():
        site.addsitedir(ours)


def python() -> Never:
    """Become the interpreter that nono is installed for: the command `nono-python`.

    For a person's scripts that import us and can't know the environment we are in. The launcher
    doesn't start it, only reads which interpreter the installer wrote into its first line: until
    we get here, the caller's PYTHON* variables have had their say.
    """
    # -E, -P: as isolated as the launcher, but the user's own site-packages are in reach.
    os.execv(sys.executable, [sys.executable, "-E", "-P", *sys.argv[1:]])  # noqa: S606
