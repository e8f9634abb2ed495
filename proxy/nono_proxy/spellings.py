"""How a credential may be spelled when it comes back, and whether one of these stands in a text.

Architecture invariant: no I/O.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

CREDENTIAL_OCTETS_MIN = 8
# Below, looking for each spelling is as quick as telling which of them can stand there.
_SIEVED_BYTES_MIN = 32768
_ESCAPE = re.compile(rb"%[0-9A-F]{2}")
# As Go's, PHP's, Java's and .NET's servers write JSON.
_IN_JSON = tuple(re.compile(rb"[%b]" % one) for one in (b"<>&", b"<>&'", b"<>&'=", b"<>&'+`"))
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# As they write HTML.
_IN_HTML = tuple(
    str.maketrans(_MARKUP | quotes)
    for quotes in (
        {},
        {'"': "&quot;"},
        {'"': "&quot;", "'": "&#x27;"},
        {'"': "&quot;", "'": "&#39;"},
        {'"': "&quot;", "'": "&#039;"},
        {'"': "&#34;", "'": "&#39;"},
        {'"': "&quot;", "'": "&#x27;", "+": "&#x2B;"},
        {'"': "&quot;", "'": "&#39;", "+": "&#43;"},
    )
)


def _base64_forms(secret: bytes) -> set[bytes]:
    """Return what base64 of any text with *secret* in it has for sure, at its three alignments."""
    found: set[bytes] = set()
    for shift in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            # The outer digits mix with what stands before and behind.
            first = (shift * 8 + 5) // 6
            last = (shift + len(secret)) * 8 // 6
            found.add(encode(b"\0" * shift + secret)[first:last])
    return found


def _forms(secrets: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return every spelling that is looked for.

    Raw, escaped for JSON, HTML and URLs, base64, in hexadecimal digits.
    """
    found: set[bytes] = set()
    for secret in secrets:
        text = secret.decode("latin-1")
        escaped = json.dumps(text)[1:-1].encode()
        found |= {secret, escaped, escaped.replace(b"/", rb"\/")}
        for characters in _IN_JSON:
            for digits in (b"\\u%04x", b"\\u%04X"):
                found.add(characters.sub(lambda one: digits % ord(one[0]), escaped))  # noqa: B023
        for escapes in _IN_HTML:
            found.add(text.translate(escapes).encode("latin-1"))
        quoted = {quote(secret, safe=safe).encode() for safe in ("", "/", "!'()*", "/:@")}
        for one in quoted | {quote_plus(secret).encode()}:
            found |= {one, _ESCAPE.sub(lambda escape: escape[0].lower(), one)}
        found |= {secret.hex().encode(), secret.hex().upper().encode()}
        found |= _base64_forms(secret)
    return tuple(sorted(found, key=len, reverse=True))


class Spellings:
    """Every spelling of a credential, the longest first."""

    __slots__ = ("_octets", "forms", "shortest")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self.forms = _forms(secrets)
        self.shortest = len(self.forms[-1])
        holders: dict[int, int] = {}
        for at, form in enumerate(self.forms):
            for octet in form:
                holders[octet] = holders.get(octet, 0) | 1 << at
        # Those first whose absence tells of the most.
        self._octets = sorted(holders.items(), key=lambda held: -held[1].bit_count())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def stand_in(self, data: bytes) -> bool:
        """Tell whether one of them stands in *data*."""
        if len(data) < self.shortest:
            return False
        forms = self.forms if len(data) < _SIEVED_BYTES_MIN else self._left(data)
        # From behind: CPython's search in that direction is three times as quick, and a list is
        # quicker than a generator.
        return max([data.rfind(form) for form in forms], default=-1) >= 0

    def _left(self, data: bytes) -> list[bytes]:
        """Return those whose octets all stand in *data*.

        One octet is looked for by the processor's widest instructions where it's absent, and is
        found at once where it's common: five times as quick as a search for one spelling.
        """
        left = (1 << len(self.forms)) - 1
        for octet, holders in self._octets:
            if left & holders and octet not in data:
                left &= ~holders
                if not left:
                    break
        return [form for at, form in enumerate(self.forms) if left >> at & 1]
