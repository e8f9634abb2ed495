"""A rename that takes nobody's place, and one that swaps two: renameat2(2), renameatx_np(2).

Nobody has run the half that is macOS's.
"""

from __future__ import annotations

import os
import sys

if sys.platform == "linux":
    from nono_sandbox import _uapi

    def appear(directory: int, old: str, new: str) -> None:
        """Rename *old* to *new*, where nothing stands.

        Raises:
            OSError: EEXIST: something does. EINVAL: this file system can't.
        """
        _uapi.rename_in(directory, old, new, _uapi.RENAME_NOREPLACE)

    def exchange(directory: int, one: str, other: str) -> None:
        """Swap what stands at two names.

        Raises:
            OSError: EINVAL: this file system can't.
        """
        _uapi.rename_in(directory, one, other, _uapi.RENAME_EXCHANGE)

else:
    import errno

    from nono_sandbox import _foreign

    _RENAME_SWAP, _RENAME_EXCL = 2, 4

    def _renamed(directory: int, old: str, new: str, flags: int) -> None:
        names = os.fsencode(old), os.fsencode(new)
        arguments = (directory, names[0], directory, names[1], _foreign.UInt(flags))
        if _foreign.Library().call("renameatx_np", *arguments) < 0:
            code = _foreign.get_errno()
            # "The file system does not support it", which is EINVAL on Linux.
            raise OSError(errno.EINVAL if code == errno.ENOTSUP else code, os.strerror(code))

    def appear(directory: int, old: str, new: str) -> None:
        """Rename *old* to *new*, where nothing stands.

        Raises:
            OSError: EEXIST: something does. EINVAL: this file system can't.
        """
        _renamed(directory, old, new, _RENAME_EXCL)

    def exchange(directory: int, one: str, other: str) -> None:
        """Swap what stands at two names.

        Raises:
            OSError: EINVAL: this file system can't.
        """
        _renamed(directory, one, other, _RENAME_SWAP)
