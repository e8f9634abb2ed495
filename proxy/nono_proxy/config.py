"""What a proxy is told: frozen values, checked as they are made.

Architecture invariant: no I/O and no policy: who writes these values has decided already.
"""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, Self

from nono_proxy import paths
from nono_proxy.authority import Authority, literal
from nono_proxy.errors import AuthorityError, ConfigError, GrammarError, RuleError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FIELD = re.compile(r"[A-Za-z0-9-]{1,64}")
_METHOD = re.compile(r"\*|[A-Z]{1,20}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,32}")
_WORD = re.compile(r"[\x21-\x39\x3b-\x7e]*")

Scheme = Literal["bearer", "token", "raw", "basic-password", "basic-user"]


@dataclass(frozen=True, slots=True)
class HostRule:
    """Hosts: one name or literal, or ``*.zone`` for every name below a zone, at one port."""

    pattern: str
    port: int = 443
    raw: bool = False

    @classmethod
    def parse(cls, text: str, *, raw: bool = False) -> Self:
        """Read ``host``, ``*.zone``, ``host:port`` or ``*.zone:port``.

        Raises:
            RuleError: It is none of these.
        """
        below = text.startswith("*.")
        try:
            authority = Authority.parse(text[2:] if below else text)
        except AuthorityError as error:
            raise RuleError(f"not a host rule: {text!r}: {error}") from error
        if below and literal(authority.host) is not None:
            raise RuleError(f"nothing lies below an address: {text!r}")
        return cls(("*." if below else "") + authority.host, authority.port, raw)

    def matches(self, target: Authority) -> bool:
        """Tell whether *target* is covered: by labels, the port included."""
        if self.port != target.port:
            return False
        if self.pattern.startswith("*."):
            # A pattern's dot makes this a comparison of whole labels.
            return target.host.endswith(self.pattern[1:]) and literal(target.host) is None
        return self.pattern == target.host

    def covers(self, other: "HostRule") -> bool:
        """Tell whether every target that *other* matches is matched by this rule too."""
        if other.pattern.startswith("*."):
            below = self.pattern.startswith("*.") and other.pattern[1:].endswith(self.pattern[1:])
            return below and self.port == other.port
        return self.matches(Authority(other.pattern, other.port))

    def __str__(self) -> str:
        return self.pattern if self.port == 443 else f"{self.pattern}:{self.port}"  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class EndpointRule:
    """A method and a path of raw segments; ``*`` is one of them, ``**`` any number."""

    method: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``METHOD:/path``.

        Raises:
            RuleError: It isn't that, or the path could be read in two ways.
        """
        method, colon, path = text.partition(":")
        if not colon or _METHOD.fullmatch(method) is None:
            raise RuleError(f"not METHOD:/path: {text!r}")
        try:
            paths.verify_path(path.encode("ascii"))
        except (GrammarError, UnicodeEncodeError) as error:
            raise RuleError(f"not METHOD:/path: {text!r}: {error}") from error
        return cls(method, path)

    def matches(self, method: bytes, path: bytes) -> bool:
        """Tell whether a request is covered; *path* has no query."""
        if self.method not in ("*", method.decode("ascii")):
            return False
        return paths.matches(self.path.encode("ascii").split(b"/"), path.split(b"/"))

    def __str__(self) -> str:
        return f"{self.method}:{self.path}"


@dataclass(frozen=True, slots=True)
class Header:
    """The token stands in a header field, under a scheme."""

    name: str
    scheme: Scheme = "raw"
    user: str = ""

    def __post_init__(self) -> None:
        if _FIELD.fullmatch(self.name) is None or _WORD.fullmatch(self.user) is None:
            raise ConfigError(f"not a header field to put a token in: {self.name!r}")


@dataclass(frozen=True, slots=True)
class Query:
    """The token is the value of a query parameter."""

    name: str

    def __post_init__(self) -> None:
        if re.fullmatch(r"[A-Za-z0-9._~-]{1,64}", self.name) is None:
            raise ConfigError(f"not a query parameter to put a token in: {self.name!r}")


@dataclass(frozen=True, slots=True)
class Path:
    """The token is a path segment, after *prefix*."""

    prefix: str = ""

    def __post_init__(self) -> None:
        if _PREFIX.fullmatch(self.prefix) is None:
            raise ConfigError(f"not the start of a path segment: {self.prefix!r}")


@dataclass(frozen=True, slots=True)
class SigV4:
    """The token is the access key id of an AWS signature, which is made anew."""


@dataclass(frozen=True, slots=True)
class InBody:
    """The token is a string in a JSON body, at a pointer (RFC 6901), or a form's field.

    What is looked into is bounded by `Limits.token_body_bytes_max`.
    """

    pointer: str

    def __post_init__(self) -> None:
        if re.fullmatch(r"(?:/[A-Za-z0-9._-]{1,64}){1,8}", self.pointer) is None:
            raise ConfigError(f"not a place in a body to put a token in: {self.pointer!r}")


Placement = Header | Query | Path | SigV4 | InBody


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """An environment variable that gets the route's base URL with *suffix* behind it."""

    variable: str
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Hosts whose requests are read: judged by endpoint, and lent a credential."""

    name: str
    upstreams: tuple[str, ...]
    credential: str | None = None
    placements: tuple[Placement, ...] = ()
    key_variables: tuple[str, ...] = ()
    base_urls: tuple[BaseUrl, ...] = ()
    endpoints: tuple[EndpointRule, ...] = ()
    phantom_prefix: str = ""
    phantom_length: int = 64
    tls: bool = True
    git_user: str = ""
    requests_per_minute_max: int | None = None
    rules: tuple[HostRule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(f"not the name of a route: {self.name!r}")
        if not self.upstreams:
            raise ConfigError(f"route {self.name}: no upstream")
        if _PREFIX.fullmatch(self.phantom_prefix) is None:
            raise ConfigError(
                f"route {self.name}: not the start of a token: {self.phantom_prefix!r}"
            )
        if (self.credential is None) != (not self.placements):
            raise ConfigError(f"route {self.name}: a credential and its placements go together")
        object.__setattr__(self, "rules", tuple(self._rule(text) for text in self.upstreams))
        if self.base_urls and self.upstreams[0].startswith("*."):
            raise ConfigError(f"route {self.name}: a base URL leads to one host")

    def _rule(self, text: str) -> HostRule:
        """Read an upstream: without TLS, the port that isn't written is 80."""
        port = text.rpartition(":")[2] if not text.endswith("]") else ""
        return HostRule.parse(text if port.isdigit() or self.tls else f"{text}:80")

    @property
    def origin(self) -> Authority:
        """Return where the base URL leads."""
        return Authority(self.rules[0].pattern, self.rules[0].port)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, each with its unit last; None is no bound of the proxy's.

    Bodies are held until they can be signed: all of them, and those of one call, are bounded.
    """

    connections_max: int = 256
    head_bytes_max: int = 65536
    line_bytes_max: int = 8192
    head_s: float = 10.0
    connect_s: float = 10.0
    response_s: float = 600.0
    tunnel_idle_s: float = 600.0
    keep_alive_s: float = 75.0
    upstream_idle_s: float = 30.0
    call_bytes_max: int | None = None
    token_s: float = 86400.0
    auth_failures_max: int = 16
    signed_body_bytes_max: int = 8 << 20
    token_body_bytes_max: int = 65536
    held_bytes_max: int = 64 << 20
    held_call_bytes_max: int = 32 << 20
    credential_hold_s: float = 60.0


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """A proxy beyond this one, which resolves names; its credential is ``user:password``."""

    host: str
    port: int
    tls: bool = False
    credential: str | None = None

    @classmethod
    def parse(cls, url: str, *, credential: str | None = None) -> Self:
        """Read ``http://host:port`` or ``https://host:port``.

        Raises:
            RuleError: It is neither; a password in it counts as neither.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in ("http", "https"):
            raise RuleError(f"not http://host:port: {url[:80]!r}")
        try:
            authority = Authority.parse(rest.removesuffix("/"), None)
        except AuthorityError as error:
            raise RuleError("not http://host:port (without a password)") from error
        return cls(authority.host, authority.port, scheme == "https", credential)


@dataclass(frozen=True, slots=True)
class Narrow:
    """What a call gives up: a request must be covered by this as well as by the session."""

    hosts: tuple[HostRule, ...] | None = None
    routes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a proxy decides by. With nothing in it, nothing leaves."""

    allow: tuple[HostRule, ...] = ()
    deny: tuple[HostRule, ...] = ()
    routes: tuple[Route, ...] = ()
    address_grants: tuple[IPv4Network | IPv6Network, ...] = ()
    limits: Limits = Limits()
    upstream_proxy: UpstreamProxy | None = None
    authenticate: bool = True
    upstream_roots_pem: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        names = [route.name for route in self.routes]
        if len(set(names)) != len(names):
            raise ConfigError("two routes have one name")
