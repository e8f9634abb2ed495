"""What the shipped profiles say on macOS, whose system has its programs elsewhere.

Architecture invariant: no I/O.
"""

from __future__ import annotations

from nono_mcp.policy.document import FilesystemSection
from nono_mcp.policy.profiles import SHIPPED
from nono_sandbox.confinement import READ
from nono_sandbox.seatbelt.fixed import SYSTEM_GRANTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.document import Document
    from nono_mcp.policy.rules import Layer


def on_macos(layers: list[Layer]) -> list[Layer]:
    """Return *layers* with the shipped profile of the system's directories as macOS has them."""
    system = SHIPPED["system"]
    return [
        layer.replace(document=_system(system)) if layer.document is system else layer
        for layer in layers
    ]


def _system(system: Document) -> Document:
    granted = [grant for grant in SYSTEM_GRANTS if grant.access == READ]
    return system.replace(
        filesystem=FilesystemSection(
            read=tuple(grant.path for grant in granted if not grant.exact),
            read_file=tuple(grant.path for grant in granted if grant.exact),
        )
    )
