"""Whether a token is known, told in a time that tells nothing of those that are."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import pytest

from nono_mcp.server.http_access import digest_of, knows

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENS = [b"first", b"second", b"third"]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object]]:
    """Return what is compared from here on by the function that takes as long whatever differs."""
    found: list[tuple[object, object]] = []
    compare: Callable[..., bool] = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        found.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    return found


@pytest.mark.parametrize("token", [*TOKENS, b"another", b"", b"firs", b"first "])
def test_a_token_is_compared_with_each_that_is_known(
    token: bytes, compared: list[tuple[object, object]]
) -> None:
    digests = [digest_of(one) for one in TOKENS]
    assert knows(digests, token) == (token in TOKENS)
    assert compared == [(digest, digest_of(token)) for digest in digests]
