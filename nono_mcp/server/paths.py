"""The paths at which a server by HTTP answers.

Architecture invariant: this module imports nothing of the SDK, so that who writes an address down
needn't.
"""

from __future__ import annotations

import re

PATH = "/mcp"
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
"""What may follow it, as the name of a session."""
