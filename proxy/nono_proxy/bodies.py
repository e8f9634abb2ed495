"""A token in a request's body, and the credential in its place: JSON and forms.

A body is looked into where its route's row says so, as a whole, and bounded. It isn't written anew:
the token's octets are replaced, and it's read once more to see that they stood in the right place.

Architecture invariant: no I/O.
"""

import json
from collections.abc import Sequence

from nono_proxy import tokens
from nono_proxy.config import InBody
from nono_proxy.errors import Refusal
from nono_proxy.grammar import Field, value_of
from nono_proxy.placements import Found, quoted

_JSON, _FORM = b"application/json", b"application/x-www-form-urlencoded"


def find(places: Sequence[InBody], fields: Sequence[Field], body: bytes) -> Found | None:
    """Return the token that stands in *body* where one of *places* says, if one does.

    Raises:
        Refusal: Another stands elsewhere, or the same twice.
    """
    kind = _kind(fields)
    for place in places:
        value = _read(kind, place, body)
        if value is not None and tokens.count_shapes(value):
            # Once, and as it is: what is escaped is read in another way than it's replaced.
            if tokens.count_shapes(body) != 1 or body.count(value) != 1:
                raise Refusal("token-misplaced", "more than one in the body, or it's escaped")
            found = Found(place, 0, value, kind, visible=False)
            # A value of the same length stands for the credential, to see where it would go.
            swap(body, found, b"0" * len(value))
            return found
    if tokens.count_shapes(body):
        raise Refusal("token-misplaced", "elsewhere in the body")
    return None


def swap(body: bytes, found: Found, credential: bytes) -> bytes:
    """Return *body* with *credential* where the token stood.

    Raises:
        Refusal: It would come to stand elsewhere.
    """
    if not isinstance(found.placement, InBody):
        raise TypeError("not a token of a body")
    escaped = quoted(credential)
    if found.before == _JSON:
        escaped = json.dumps(credential.decode("latin-1"))[1:-1].encode()
    swapped = body.replace(found.token, escaped)
    there = _read(found.before, found.placement, swapped)
    if there != (credential if found.before == _JSON else escaped):
        raise Refusal("token-misplaced", "elsewhere in the body")
    return swapped


def _kind(fields: Sequence[Field]) -> bytes:
    """Return what a body is; nothing if it can't be looked into."""
    found: list[bytes] = []
    for name, line in fields:
        if name == b"content-encoding":
            return b""
        if name == b"content-type":
            found.append(value_of(line).partition(b";")[0].strip(b" \t").lower())
    return found[0] if len(found) == 1 and found[0] in (_JSON, _FORM) else b""


def _read(kind: bytes, place: InBody, body: bytes) -> bytes | None:
    """Return the text that stands in a body where *place* says."""
    if kind == _FORM:
        name = place.pointer[1:].encode("ascii")
        found = [value for key, _, value in (p.partition(b"=") for p in body.split(b"&"))
                 if key == name]  # fmt: skip
        return found[0] if len(found) == 1 else None
    if kind != _JSON:
        return None
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    for step in place.pointer[1:].split("/"):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Take an object whose names are all different: of two readers each may take another."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
