"""Directories that don't tell names apart by case, which are where somebody mounted some.

NONO_TEST_FOLDING=/mnt/vfat:/mnt/ext4/casefold pytest -m folding
"""

from __future__ import annotations

import os

DIRECTORIES = tuple(filter(None, os.environ.get("NONO_TEST_FOLDING", "").split(":")))
