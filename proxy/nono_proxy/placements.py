"""Where a token may stand in a request, and the credential put in its place.

Architecture invariant: no I/O. A token is replaced where its route's row says, and nowhere else;
bodies are `nono_proxy.bodies`' business.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from nono_proxy.config import Header, InBody, Path, Placement, Query, Route, SigV4
from nono_proxy.errors import Refusal
from nono_proxy.grammar import Field, value_of

_AWS = b"AWS4-HMAC-SHA256 "
_SCHEMES = {"bearer": b"bearer ", "token": b"token ", "basic-password": b"basic "}


class Live(Protocol):
    """Tells whether a token lives; what `find` asks when one value can be read in two ways."""

    def __call__(self, token: bytes, /) -> bool:
        """Return whether *token* lives."""


class Found(NamedTuple):
    """A token where it may stand: in the field, query parameter or segment at that place."""

    placement: Placement
    at: int
    token: bytes
    before: bytes = b""
    after: bytes = b""
    visible: bool = True


class Where(NamedTuple):
    """A route's placements, by what they are looked for in."""

    fields: dict[bytes, list[Header | SigV4]]
    queries: list[Query]
    paths: list[Path]
    bodies: list[InBody]


def where(route: Route) -> Where:
    """Sort a route's placements."""
    found = Where({}, [], [], [])
    for placement in route.placements:
        match placement:
            case Header():
                name = placement.name.lower().encode("ascii")
                found.fields.setdefault(name, []).append(placement)
            case SigV4():
                found.fields.setdefault(b"authorization", []).append(placement)
            case Query():
                found.queries.append(placement)
            case Path():
                found.paths.append(placement)
            case InBody():
                found.bodies.append(placement)
    return found


class Parts(NamedTuple):
    """The parts of a request that a token can stand in."""

    fields: list[Field]
    path: bytes
    query: bytes | None


def decode_basic(value: bytes) -> tuple[bytes, bytes] | None:
    """Return user and password of a Basic value, or None if it isn't one."""
    if value[:6].lower() != b"basic ":
        return None
    try:
        user, colon, password = b64decode(value[6:].strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None


def _in_value(header: Header, index: int, value: bytes) -> Found | None:
    """Read one value under one scheme."""
    scheme = header.scheme
    if scheme == "raw":
        return Found(header, index, value)
    if scheme in ("bearer", "token"):
        word = _SCHEMES[scheme]
        if value[: len(word)].lower() != word:
            return None
        return Found(header, index, value[len(word) :].strip(b" "), value[: len(word)])
    pair = decode_basic(value)
    if pair is None:
        return None
    user, password = pair
    if scheme == "basic-user":
        return Found(header, index, user, b"", password, visible=False)
    return Found(header, index, password, user, visible=False)


def _in_aws(index: int, value: bytes) -> Found | None:
    if not value.startswith(_AWS):
        return None
    _, mark, rest = value.partition(b"Credential=")
    token, slash, scope = rest.partition(b"/")
    return Found(SigV4(), index, token, b"", scope) if mark and slash else None


def _in_field(
    placements: Sequence[Header | SigV4], index: int, value: bytes, live: Live
) -> Found | None:
    """Return the first reading of a field whose token lives, or else the first reading."""
    first: Found | None = None
    for placement in placements:
        found = (
            _in_aws(index, value)
            if isinstance(placement, SigV4)
            else _in_value(placement, index, value)
        )
        if found is not None and live(found.token):
            return found
        first = first or found
    return first


def _query(names: Iterable[Query], query: bytes | None) -> list[Found]:
    wanted = {name.name.encode("ascii"): name for name in names}
    if not wanted or query is None:
        return []
    found: list[Found] = []
    for index, pair in enumerate(query.split(b"&")):
        name, equals, value = pair.partition(b"=")
        placement = wanted.get(name)
        if placement is not None and equals:
            found.append(Found(placement, index, value, name + b"="))
    if len(found) > 1:
        raise Refusal("bad-request", "a second token in the query")
    return found


def _path(prefixes: Iterable[Path], path: bytes, live: Live) -> list[Found]:
    for placement in prefixes:
        prefix = placement.prefix.encode("ascii")
        for index, segment in enumerate(path.split(b"/")):
            token = segment[len(prefix) :]
            if segment.startswith(prefix) and live(token):
                return [Found(placement, index, token, prefix)]
    return []


def find(places: Where, parts: Parts, live: Live) -> list[Found]:
    """Return every token that stands where the route's row says.

    Raises:
        Refusal: A field or parameter for tokens stands twice, or holds something else.
    """
    by_name, queries, prefixes, _ = places
    seen: set[bytes] = set()
    found: list[Found] = []
    for index, (name, line) in enumerate(parts.fields):
        placements = by_name.get(name)
        if placements is None:
            continue
        if name in seen:
            raise Refusal("bad-request", f"a second {name.decode('ascii')}")
        seen.add(name)
        token = _in_field(placements, index, value_of(line), live)
        if token is None:
            raise Refusal("token-unknown", f"{name.decode('ascii')} holds no token")
        found.append(token)
    if queries:
        found += _query(queries, parts.query)
    if prefixes:
        found += _path(prefixes, parts.path, live)
    return found


def _header(header: Header, found: Found, credential: bytes) -> bytes:
    name = header.name.encode("ascii") + b": "
    match header.scheme:
        case "raw":
            return name + credential
        case "bearer" | "token":
            return name + found.before + credential
        case "basic-user":
            return name + b"Basic " + b64encode(credential + b":" + found.after)
        case "basic-password":
            user = header.user.encode("ascii") or found.before
            return name + b"Basic " + b64encode(user + b":" + credential)


def swap(parts: Parts, found: Sequence[Found], credential: bytes) -> Parts:
    """Return the parts with *credential* where the tokens stood; SigV4 is `sigv4.resign`'s."""
    fields, path, query = list(parts.fields), parts.path, parts.query
    for each in found:
        match each.placement:
            case Header() as header:
                fields[each.at] = (fields[each.at][0], _header(header, each, credential))
            case Query():
                pairs = (query or b"").split(b"&")
                pairs[each.at] = each.before + quoted(credential)
                query = b"&".join(pairs)
            case Path():
                segments = path.split(b"/")
                segments[each.at] = each.before + quoted(credential)
                path = b"/".join(segments)
            case SigV4() | InBody():
                # The head is `sigv4`'s to sign, a body `bodies`' to change.
                pass
    return Parts(fields, path, query)


def quoted(text: bytes) -> bytes:
    """Return *text* as it may stand in a query or a segment; a colon stays as it is."""
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:"
    return b"".join(bytes([octet]) if octet in safe else b"%%%02X" % octet for octet in text)
