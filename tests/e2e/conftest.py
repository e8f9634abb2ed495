"""Which of the real clients are here: NONO_CLAUDE and NONO_CODEX name them, or PATH has them.

And which frameworks: NONO_FRAMEWORKS has an environment for each folder of integrations/.
"""

import os
import shutil
from pathlib import Path

CLIENTS = {
    name: found
    for name in ("claude", "codex")
    if (found := os.environ.get(f"NONO_{name.upper()}") or shutil.which(name))
}
FRAMEWORKS = Path(named) if (named := os.environ.get("NONO_FRAMEWORKS")) else None
collect_ignore = [] if CLIENTS else ["test_real_clients.py", "test_transcripts.py"]
if len(CLIENTS) < 2:
    collect_ignore.append("test_by_http.py")
if FRAMEWORKS is None:
    collect_ignore.append("test_frameworks.py")
