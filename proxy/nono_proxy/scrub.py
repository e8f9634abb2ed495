"""A credential taken out of what comes back, as it streams.

What is found is overwritten by as many asterisks, so that no length changes. Nothing is held back
but an end that could be a credential's beginning. An upstream that wants to hand the credential to
the worker can encode it in some way of its own: this guards against one that echoes.

Architecture invariant: no I/O; what is kept between two calls is shorter than a credential's form.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

CREDENTIAL_OCTETS_MIN = 8
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


def forms(secrets: tuple[bytes, ...]) -> tuple[bytes, ...]:
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


class Scrubber:
    """The state of one scrubbed stream."""

    __slots__ = ("_carry", "_forms", "_shortest", "_tail", "count")

    def __init__(self, spellings: tuple[bytes, ...]) -> None:
        self._forms = spellings
        # The longest come first.
        self._tail = len(spellings[0]) - 1
        self._shortest = len(spellings[-1])
        self._carry = b""
        self.count = 0

    def finds(self, data: bytes) -> bool:
        """Tell whether the credential stands in *data*."""
        if len(data) < self._shortest:
            return False
        # From behind: CPython's search in that direction is three times as quick, and a list is
        # quicker than a generator.
        return max([data.rfind(form) for form in self._forms]) >= 0

    def scrub(self, data: bytes) -> bytes:
        """Return *data*, a whole, without the credential."""
        if not self.finds(data):
            return data
        for form in self._forms:
            if form in data:
                self.count += data.count(form)
                data = data.replace(form, b"*" * len(form))
        return data

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on now."""
        data = self.scrub(self._carry + data if self._carry else data)
        held = self._held(data)
        if held:
            self._carry = data[-held:]
            return data[:-held]
        self._carry = b""
        return data

    def _held(self, data: bytes) -> int:
        """Return how long an end of *data* is that some form begins with."""
        longest = 0
        tail = data[-self._tail :]
        for form in self._forms:
            at = tail.find(form[:1])
            while at >= 0:
                rest = len(tail) - at
                if rest < len(form) and form.startswith(tail[at:]):
                    longest = max(longest, rest)
                    break
                at = tail.find(form[:1], at + 1)
        return longest

    def finish(self) -> bytes:
        """Return what was held back."""
        rest, self._carry = self._carry, b""
        return rest
