"""Canonical JSON: RFC 8785 for what an audit record may hold.

With integers only and ASCII member names, sorting by code point is sorting by UTF-16 unit, and
what the standard library writes is what RFC 8785 asks for.

Architecture invariant: this module does no I/O and reads no clock.
"""

import json
from typing import Final, NoReturn

INTEGER_MAX: Final = 2**53 - 1

_DIGITS_MAX: Final = 17


class NotCanonicalError(ValueError):
    """These bytes aren't the canonical encoding of what they hold."""


_encoder = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False
)


def encode(value: object) -> bytes:
    """Return *value* as canonical JSON.

    It holds objects with ASCII names, lists, strings, integers, booleans and None: anything else
    is the caller's mistake, and only what the encoder itself refuses is found here.

    Raises:
        UnicodeEncodeError: A string holds a lone surrogate.
    """
    return text(value).encode()


def text(value: object) -> str:
    """Return *value* as canonical JSON, not encoded yet."""
    return _encoder.encode(value)


def _no_fraction(text: str) -> NoReturn:
    raise NotCanonicalError(f"not an integer: {text[:_DIGITS_MAX]}")


def _integer(text: str) -> int:
    if len(text) > _DIGITS_MAX or abs(value := int(text)) > INTEGER_MAX:
        raise NotCanonicalError("integer out of range")
    return value


_decoder = json.JSONDecoder(
    parse_float=_no_fraction, parse_int=_integer, parse_constant=_no_fraction
)


def decode(body: bytes) -> dict[str, object]:
    """Return the object that *body* is the canonical encoding of.

    Decoding and encoding again must give the same bytes: a duplicate member, another order, a
    space, an escape that needn't be one are all lost on the way, and so are found.

    Raises:
        NotCanonicalError: It isn't one, or isn't an object.
    """
    try:
        text_of_body = body.decode()
        # Not `decode`, which looks for white space that mustn't be there.
        value, end = _decoder.raw_decode(text_of_body)
        again = encode(value)
    except (ValueError, RecursionError) as error:
        raise NotCanonicalError(f"not canonical JSON: {error}") from error
    if again != body or end != len(text_of_body):
        raise NotCanonicalError("not the canonical encoding of what it holds")
    if not isinstance(value, dict):
        raise NotCanonicalError("not an object")
    if not body.isascii() or b"\x7f" in body:
        _require_ascii_names(value)
    return value


def _require_ascii_names(value: object) -> None:
    # Iterative: what is decoded may be as deep as the decoder's own limit.
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            if not all(name.isascii() and name.isprintable() for name in item):
                raise NotCanonicalError("a member name isn't printable ASCII")
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
