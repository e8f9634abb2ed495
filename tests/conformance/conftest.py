"""Where the official suite and Inspector are: NONO_NODE_MODULES names what npm put them into."""

import os
from pathlib import Path

MODULES = Path(os.environ.get("NONO_NODE_MODULES", "/nowhere"))
BIN = MODULES / ".bin"
collect_ignore = [] if (BIN / "conformance").exists() else ["test_conformance.py"]
