"""What goes into a record: secrets taken out, sizes bounded, odd strings made representable.

Everything here happens before a record is hashed, so a secret that is recognised is nowhere in
the log. What isn't recognised is: this is a net, not a proof. FORMAT.md section 4 has the shapes.

Architecture invariant: this module does no I/O and reads no clock.
"""

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from nono_mcp.audit.canonical import INTEGER_MAX, encode, text
from nono_mcp.audit.plain import (
    DEPTH_MAX,
    HEAD_CHARS_MAX,
    ITEMS_MAX,
    Commitment,
    Plain,
    member_name,
)

TEXT_BYTES_MAX: Final = 131_072
"""The most that Linux takes as one argument (MAX_ARG_STRLEN): no command is cut."""
SECRET_CHARS_MIN: Final = 6

# A name, and as many characters of a secret as it takes to be sure. Bounded repetition only, so
# that no text makes matching slow.
_NAME_WORDS: Final = (
    r"(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key"
    r"|private[_-]?key|auth[_-]?token|client[_-]?secret|credentials?)"
)
_ASSIGNED: Final = (
    rf"(?i:(?<![A-Za-z0-9])[A-Za-z0-9_.-]{{0,60}}{_NAME_WORDS}[\"']?[=:]\s{{0,4}})"
    r"(?P<value>[\"']?[^\s\"'&;,|<>)]{4,4000})"
)
_PRIVATE_KEY: Final = r"[A-Z ]{0,30}PRIVATE KEY-----"
_NAMED: Final = (
    (
        "private-key",
        rf"-----BEGIN {_PRIVATE_KEY}(?:[^-]{{0,20000}}-----END {_PRIVATE_KEY}|[^-]{{0,20000}})",
    ),
    ("jwt", r"\beyJ[\w-]{10,4000}\.[\w-]{4,8000}\.[\w-]{0,2000}"),
    ("github", r"\b(?:gh[oprsu]_\w{20,255}|github_pat_\w{20,255})"),
    ("gitlab", r"\bgl(?:pat|rt|ptt|dt)-[\w-]{16,100}"),
    ("anthropic", r"\bsk-ant-[\w-]{10,300}"),
    ("api-key", r"\b[spr]k[-_](?:live_|test_|proj-|svcacct-|or-v1-)?[A-Za-z0-9_-]{16,300}"),
    ("aws", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    ("google", r"\b(?:AIza[\w-]{30,45}|ya29\.[\w-]{20,2000})"),
    ("slack", r"\b(?:xox[abeoprs]-[\w-]{10,300}|xapp-[\w-]{10,300})"),
    ("registry", r"\b(?:npm_\w{20,100}|pypi-[\w-]{40,400}|hf_\w{20,100}|dop_v1_\w{20,100})"),
    ("bearer", r"(?i:\b(?:bearer|basic))\s{1,4}[\w.~+/=-]{8,8000}"),
    ("userinfo", r"(?<=://)[^\s/@:]{0,200}:[^\s/@]{1,400}(?=@)"),
    ("assigned", _ASSIGNED),
)
_patterns: Final = re.compile("|".join(f"(?P<k{n}>{text})" for n, (_, text) in enumerate(_NAMED)))
# Nearly all records hold nothing of the kind, and this is the cheaper question: each pattern
# needs one of these, lower case, in the encoded record.
_HINTS: Final = (
    *("-----begin", "eyj", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat"),
    *("glpat-", "glrt-", "glptt-", "gldt-", "sk-", "sk_", "pk-", "pk_", "rk-", "rk_"),
    *("akia", "asia", "abia", "acca", "aiza", "ya29", "xox", "xapp", "npm_", "pypi-"),
    *("hf_", "dop_v1", "bearer", "basic", "://", "passw", "passphrase", "secret"),
    *("token", "api", "access", "private", "auth", "credential", "cookie"),
)
_secret_name: Final = re.compile(
    rf"(?i)-{{0,2}}(?:[a-z0-9_.-]{{0,60}}[_.-])?(?:{_NAME_WORDS}|authorization|(?:set-)?cookie)"
)


@dataclass(slots=True)
class Redactor:
    """Prepares values for the records of one session; *salt* stays outside the log."""

    salt: bytes
    _exact: re.Pattern[str] | None = None
    _hidden: set[str] = field(default_factory=set)
    _hidden_encoded: tuple[str, ...] = ()
    _count: int = 0
    _plain: Plain = field(default_factory=Plain)

    def hide(self, secrets: Iterable[str]) -> None:
        """Take these very values out wherever they occur from now on."""
        for secret in secrets:
            if len(secret) >= SECRET_CHARS_MIN:
                raw = base64.b64encode(secret.encode(errors="surrogateescape")).decode()
                self._hidden |= {secret, quote(secret, safe=""), raw, raw.rstrip("=")}
        longest_first = sorted(self._hidden, key=len, reverse=True)
        if longest_first:
            self._exact = re.compile("|".join(map(re.escape, longest_first)))
        self._hidden_encoded = tuple(
            text(secret)[1:-1] for secret in longest_first if _is_unicode(secret)
        )

    def encode(self, fields: dict[str, object]) -> bytes:
        """Return *fields* as canonical JSON that holds no secret that is recognised.

        Raises:
            TypeError: They hold something that has no place in a record.
        """
        fresh = self._plain.fresh(fields)
        data = text(self.clean(fields, look=False) if fresh is None else fields)
        # A str is searched twice as fast as bytes are.
        folded = (data if fresh is None else "\0".join(fresh)).lower()
        for hint in _HINTS:
            if hint in folded:
                return encode(self.clean(fields))
        for secret in self._hidden_encoded:
            if secret in data:
                return encode(self.clean(fields))
        if fresh:
            self._plain.remember(fresh)
        return data.encode()

    def text(self, value: str) -> str:
        """Return *value* without what looks like a secret."""
        if self._exact is not None:
            value = self._exact.sub(lambda found: self._mark("known", found[0]), value)
        return _patterns.sub(self._replace, value)

    def _replace(self, found: re.Match[str]) -> str:
        # The group that closes last is the outer one, which tells the pattern.
        kind = _NAMED[int((found.lastgroup or "k0")[1:])][0]
        value = found["value"]
        if value is None:
            return self._mark(kind, found[0])
        return found[0][: found.start("value") - found.start()] + self._mark(kind, value)

    def _mark(self, kind: str, secret: str) -> str:
        digest = hmac.digest(self.salt, b"redact" + secret.encode(errors="surrogatepass"), "sha256")
        return f"[redacted:{kind}:{digest.hex()[:8]}]"

    def commit(self, value: bytes, head: str | None = None) -> Commitment:
        """Return a commitment to *value*: it can be shown later, and not guessed from the log."""
        self._count += 1
        commitment: dict[str, object] = {
            "hmac": hmac.digest(salt_of(self.salt, self._count), value, sha256).hex(),
            "n": self._count,
            "size_bytes": len(value),
        }
        if head is not None:
            commitment["head"] = head
        return Commitment({"$commit": commitment})

    def clean(self, value: object, depth: int = 0, *, look: bool = True) -> object:
        """Return *value* as a record may hold it; with *look*, without secrets.

        Raises:
            TypeError: It holds something that has no place in a record.
        """
        if isinstance(value, str):
            # Short and plain is what nearly all are.
            if not look and len(value) <= HEAD_CHARS_MAX and value.isascii():
                return value
            return self._clean_text(value, look=look)
        if isinstance(value, bytes):
            return self._clean_text(value.decode(errors="surrogateescape"), look=look)
        if isinstance(value, dict | list | tuple):
            return self._clean_container(value, depth, look=look)
        return _scalar(value)

    def _clean_container(
        self,
        value: dict[object, object] | list[object] | tuple[object, ...],
        depth: int,
        *,
        look: bool,
    ) -> object:
        if isinstance(value, Commitment):
            return value
        if depth >= DEPTH_MAX:
            return self.commit(repr(value).encode(errors="surrogatepass"))
        if isinstance(value, dict):
            return self._clean_object(value, depth, look=look)
        return self._clean_list(list(value), depth, look=look)

    def _clean_text(self, value: str, *, look: bool) -> object:
        if len(value.encode(errors="surrogatepass")) > TEXT_BYTES_MAX:
            return self._long_text(value)
        if _is_unicode(value):
            return self.text(value) if look else value
        value = self.text(value)
        raw = value.encode(errors="surrogatepass")
        if all("\udc80" <= char <= "\udcff" for char in value if "\ud800" <= char <= "\udfff"):
            # As os.fsdecode spells bytes that aren't UTF-8.
            raw = value.encode(errors="surrogateescape")
        return {"$base64": base64.b64encode(raw).decode()}

    def _long_text(self, value: str) -> dict[str, object]:
        # A secret that begins before the cut is recognised by what follows it.
        head = self.text(value[: HEAD_CHARS_MAX * 32])[:HEAD_CHARS_MAX]
        head = head.encode(errors="backslashreplace").decode()
        return self.commit(value.encode(errors="surrogatepass"), head)

    def _clean_object(
        self, value: dict[object, object], depth: int, *, look: bool
    ) -> dict[str, object]:
        cleaned: dict[str, object] = {}
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError("a member's name is a string")
            key = member_name(self.text(name) if look else name)
            if look and isinstance(item, str) and item and _secret_name.fullmatch(name):
                cleaned[key] = self._mark("member", item)
            else:
                cleaned[key] = self.clean(item, depth + 1, look=look)
        return cleaned

    def _clean_list(self, value: list[object], depth: int, *, look: bool) -> list[object]:
        cleaned: list[object] = []
        secret_next = False
        for item in value[:ITEMS_MAX]:
            if secret_next and isinstance(item, str) and item:
                cleaned.append(self._mark("option", item))
            else:
                cleaned.append(self.clean(item, depth + 1, look=look))
            # `--password hunter2` in an argv; `--token=x` is one string and found there.
            secret_next = (
                look
                and isinstance(item, str)
                and item.startswith("-")
                and _secret_name.fullmatch(item) is not None
            )
        if len(value) > ITEMS_MAX:
            rest = repr(value[ITEMS_MAX:]).encode(errors="surrogatepass")
            cleaned.append(self.commit(rest))
        return cleaned


def _is_unicode(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= INTEGER_MAX else str(value)
    if isinstance(value, float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} has no place in a record")


def salt_of(salt: bytes, n: int) -> bytes:
    """Return the salt of a session's commitment number *n*."""
    return hmac.digest(salt, str(n).encode(), sha256)


def opens(commitment: dict[str, object], salt: bytes, value: bytes) -> bool:
    """Tell whether *commitment* (what `$commit` holds) is to *value*."""
    n = commitment.get("n")
    if type(n) is not int:
        return False
    expected = hmac.digest(salt_of(salt, n), value, sha256).hex()
    return hmac.compare_digest(expected, str(commitment.get("hmac")))


def opened_by(data: object, salt: bytes, value: bytes, path: str = "") -> list[str]:
    """Return where in *data* a commitment to *value* stands."""
    if isinstance(data, list):
        items = [(str(number), item) for number, item in enumerate(data)]
    elif isinstance(data, dict):
        commitment = data.get("$commit")
        if isinstance(commitment, dict) and opens(commitment, salt, value):
            return [path or "/"]
        items = list(data.items())
    else:
        return []
    return [
        found for name, item in items for found in opened_by(item, salt, value, f"{path}/{name}")
    ]
