"""What a server did and does, as Prometheus reads it (text exposition format 0.0.4).

Architecture invariant: this module does no I/O. Labels are names that the operator gave, and words
of ours: nothing that a client sends is one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_mcp.server.tenant import Holding

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_ABOUT = {
    "nono_requests_total": ("counter", "Requests answered, by whose and by status."),
    "nono_refused_total": ("counter", "Requests refused by their headers, by status."),
    "nono_unauthenticated": ("gauge", "Connections with no request of somebody's in hand."),
    "nono_sessions": ("gauge", "Sessions that there are."),
    "nono_requests": ("gauge", "Requests in hand."),
    "nono_calls_running": ("gauge", "Commands that run."),
    "nono_calls_waiting": ("gauge", "Commands that wait for a turn."),
}


class Metrics:
    """Counts what is over; what is, is looked at when it's asked for."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, int]] = Counter()
        self._refused: Counter[int] = Counter()

    def answered(self, name: str, status: int) -> None:
        """Count an answer to somebody who was let in."""
        self._answered[name, status] += 1

    def refused(self, status: int) -> None:
        """Count somebody who wasn't."""
        self._refused[status] += 1

    def text(self, present: Mapping[str, Holding], unauthenticated_count: int) -> str:
        """Return everything, with those who have a session now, and those who have none."""
        each = present.items()
        values: dict[str, list[str]] = {
            "nono_requests_total": [
                f'{{principal="{name}",status="{status}"}} {count}'
                for (name, status), count in sorted(self._answered.items())
            ],
            "nono_refused_total": [
                f'{{status="{status}"}} {count}' for status, count in sorted(self._refused.items())
            ],
            "nono_unauthenticated": [f" {unauthenticated_count}"],
            "nono_sessions": [_of(name, one.sessions_count) for name, one in each],
            "nono_requests": [_of(name, one.requests_count) for name, one in each],
            "nono_calls_running": [_of(name, one.share.running_count) for name, one in each],
            "nono_calls_waiting": [_of(name, one.share.waiting_count) for name, one in each],
        }
        lines = []
        for name, (kind, about) in _ABOUT.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            lines += [name + value for value in values[name]]
        return "\n".join(lines) + "\n"


def _of(name: str, value: int) -> str:
    return f'{{principal="{name}"}} {value}'
