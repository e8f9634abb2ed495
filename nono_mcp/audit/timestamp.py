"""RFC 3161 time stamps: an authority's word for when a checkpoint was there (FORMAT.md section 9).

The extra `timestamp` parses and checks them, and `openssl ts` does as well.

**Architecture invariant:** a stamp is kept only after it was seen to be of this checkpoint, from
this request; whether its authority is trusted is asked of the certificates a person gives.
"""

import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nono_mcp.audit.errors import AuditError

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

WAIT_S: Final = 30.0
STAMP_BYTES_MAX: Final = 64 * 1024
_GRANTED: Final = 0


class TimestampError(AuditError):
    """There is no stamp, or not one of this checkpoint."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """A stamp, and when it says that the checkpoint was there."""

    stamp: bytes
    time: datetime


def ask(url: str, checkpoint: bytes) -> Stamped:
    """Return the stamp that the authority at *url* gives for *checkpoint*.

    Raises:
        TimestampError: It gives none, or one of something else.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise TimestampError("an authority's address begins with https:// or http://")
    client = _client()
    request = (
        client.TimestampRequestBuilder()
        .data(checkpoint)
        .hash_algorithm(client.HashAlgorithm.SHA256)
        .build()
    )
    stamp = _post(url, request.as_bytes())
    response = _parsed(stamp)
    if response.tst_info.nonce != request.nonce:
        raise TimestampError("the authority answered another request")
    return Stamped(stamp, _time_of(response, checkpoint))


def check(stamp: bytes, checkpoint: bytes, roots: Path) -> Stamped:
    """Return *stamp* once it is seen to be of *checkpoint*, by an authority of *roots* (PEM).

    Raises:
        TimestampError: It isn't.
    """
    from cryptography import x509  # noqa: PLC0415 - only here

    client = _client()
    builder = client.VerifierBuilder()
    try:
        for root in x509.load_pem_x509_certificates(roots.read_bytes()):
            builder = builder.add_root_certificate(root)
        response = _parsed(stamp)
        builder.build().verify(response, sha256(checkpoint).digest())
    except (client.VerificationError, ValueError) as error:
        raise TimestampError(f"the time stamp doesn't hold: {error}") from error
    return Stamped(stamp, _time_of(response, checkpoint))


def _client() -> ModuleType:
    try:
        import rfc3161_client  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise TimestampError(
            "time stamps need the extra: pip install 'nono-mcp[timestamp]' (openssl ts does "
            "without: see FORMAT.md)"
        ) from error
    return rfc3161_client


def _post(url: str, query: bytes) -> bytes:
    headers = {"Content-Type": "application/timestamp-query"}
    request = urllib.request.Request(url, query, headers)  # noqa: S310 - the scheme was judged
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - likewise
            stamp: bytes = answer.read(STAMP_BYTES_MAX + 1)
    except (urllib.error.URLError, OSError) as error:
        raise TimestampError(f"the authority can't be asked: {error}") from error
    if len(stamp) > STAMP_BYTES_MAX:
        raise TimestampError(f"the authority's answer is over {STAMP_BYTES_MAX} bytes")
    return stamp


def _parsed(stamp: bytes) -> "TimeStampResponse":
    try:
        response: TimeStampResponse = _client().decode_timestamp_response(stamp)
        if response.status != _GRANTED:
            raise TimestampError(f"the authority refused: {response.status_string}")
    except ValueError as error:
        raise TimestampError(f"no time stamp: {error}") from error
    return response


def _time_of(response: "TimeStampResponse", checkpoint: bytes) -> datetime:
    info = response.tst_info
    if info.message_imprint.message != sha256(checkpoint).digest():
        raise TimestampError("the time stamp is of something else")
    return info.gen_time
