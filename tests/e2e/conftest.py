"""Which of the real clients are here: NONO_CLAUDE and NONO_CODEX name them, or PATH has them."""

import os
import shutil

CLIENTS = {
    name: found
    for name in ("claude", "codex")
    if (found := os.environ.get(f"NONO_{name.upper()}") or shutil.which(name))
}
collect_ignore = [] if CLIENTS else ["test_real_clients.py"]
