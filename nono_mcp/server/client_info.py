"""Who asks, as far as the client says, and whether it can ask a person in turn.

What it says of itself is for the audit log, and for nothing that is decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from mcp.server.mcpserver import Context


def can_ask(context: Context[Any, Any]) -> bool:
    """Tell whether the client can put a question to the person."""
    capabilities = context.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    # A bare `{}` means forms, from before there was anything else.
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def asked_by(context: Context) -> dict[str, object]:
    """Return what the client says of itself and of its request: its name, its `_meta`."""
    request = context.request_context
    asked: dict[str, object] = {}
    known = request.session.client_params
    if known is not None:
        asked["client"] = f"{known.client_info.name} {known.client_info.version}"
    if request.request_id is not None:
        asked["request"] = str(request.request_id)
    if request.meta:
        asked["meta"] = dict(request.meta)
    return asked
