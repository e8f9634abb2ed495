"""A credential taken out of what comes back, as it streams.

What is found is overwritten by as many asterisks, so that no length changes. Nothing is held back
but an end that could be a credential's beginning. An upstream that wants to hand the credential to
the worker can encode it in some way of its own: this guards against one that echoes.

Architecture invariant: no I/O; what is kept between two calls is shorter than a credential's form.
"""

from nono_proxy.spellings import Spellings


class Scrubber:
    """The state of one scrubbed stream."""

    __slots__ = ("_carry", "_spellings", "_tail", "count")

    def __init__(self, spellings: Spellings) -> None:
        self._spellings = spellings
        self._tail = len(spellings.forms[0]) - 1
        self._carry = b""
        self.count = 0

    def finds(self, data: bytes) -> bool:
        """Tell whether the credential stands in *data*."""
        return self._spellings.stand_in(data)

    def scrub(self, data: bytes) -> bytes:
        """Return *data*, a whole, without the credential."""
        if not self.finds(data):
            return data
        for form in self._spellings.forms:
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

    def clear(self, data: bytes) -> int:
        """Return how much of *data*, which comes next, can be passed on as it is."""
        if self._carry or self.finds(data):
            return 0
        return len(data) - self._held(data)

    def _held(self, data: bytes) -> int:
        """Return how long an end of *data* is that some form begins with."""
        longest = 0
        tail = data[-self._tail :]
        for form in self._spellings.forms:
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
