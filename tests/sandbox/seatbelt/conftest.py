"""What runs where: attempts under the real sandbox-exec need a Mac."""

import sys

collect_ignore_glob = [] if sys.platform == "darwin" else ["test_on_macos.py"]
