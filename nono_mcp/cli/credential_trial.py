"""`nono credential test`: whether a credential can be had, and whether its provider accepts it."""

from __future__ import annotations

import os

from nono_mcp.cli import host_flags
from nono_mcp.credentials import fetch, source
from nono_mcp.credentials.vault import Vault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_mcp.cli.options import Parsed

_AROUND = "(upstream proxy)"
_VERDICTS = {"accepted": "accepts it", "rejected": "doesn't accept it"}


def trial(name: str, text: str | None, parsed: Parsed, *, offline: bool) -> dict[str, object]:
    """Say whether the credential *name* can be had, from the source *text* if one is named.

    Raises:
        CredentialError: It can't, or its provider can't be asked.
    """
    source.check_name(name)
    # What the proxy around wants is checked as a policy's would be.
    rules = host_flags.section(parsed)
    asked = {name: source.usual(name) if text is None else source.parse(text)}
    if rules.upstream_proxy_credential is not None:
        asked[_AROUND] = source.parse(rules.upstream_proxy_credential)
    vault = Vault(asked, fetch.Sources(fetch.take(asked, os.environ)))
    value = vault.get(name)
    fields: dict[str, object] = {"name": name, "source": str(asked[name]), "verdict": "unasked"}
    if offline:
        return fields
    # An HTTP client is dear to import.
    from nono_mcp.credentials import probe

    secret = vault.get(_AROUND) if _AROUND in asked else None
    around = probe.Around(rules.upstream_proxy, secret, rules.upstream_ca)
    answer = probe.ask(name, value, around)
    if answer is None:
        return fields
    about = {"host": answer.host, "status": answer.status, "verdict": answer.verdict}
    return fields | about


def told(fields: Mapping[str, object]) -> str:
    """Return what a trial came to, in a line."""
    text = f"{fields['source']} can be had"
    if "host" not in fields:
        return text
    verdict = _VERDICTS.get(str(fields["verdict"]), "doesn't say whether it accepts it")
    return f"{text}; {fields['host']} {verdict} (status {fields['status']})"


def passed(fields: Mapping[str, object]) -> bool:
    """Tell whether nothing speaks against the credential."""
    return fields["verdict"] in ("accepted", "unasked")
