"""What is said both ways after an upgrade, as part of the exchange that asked for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from nono_proxy.errors import GrammarError

if TYPE_CHECKING:
    from nono_proxy.answer import Answer
    from nono_proxy.client import Client
    from nono_proxy.upstream import Upstream


class Switched:
    """A conversation that an upgrade began, until either end breaks off."""

    __slots__ = ("_answer", "_client", "_passed", "_refused", "_upstream")

    def __init__(
        self,
        ends: "tuple[Client, Upstream]",
        answer: "Answer",
        passed: Callable[[int, int], None],
        refused: Callable[[str, str], None],
    ) -> None:
        self._client, self._upstream = ends
        self._answer = answer
        self._passed = passed
        self._refused = refused

    def begin(self) -> None:
        """Pass everything on from now, what has come behind the heads first."""
        self._client.relay(self._up)
        rest = self._upstream.relay(self._down)
        if rest:
            self._down(rest)

    def _up(self, data: bytes) -> None:
        self._upstream.write(data)
        self._passed(len(data), 0)

    def _down(self, data: bytes) -> None:
        try:
            self._client.write(self._answer.relay(data))
        except GrammarError as error:
            self._refused("upstream-grammar", str(error))
            return
        self._passed(0, len(data))
