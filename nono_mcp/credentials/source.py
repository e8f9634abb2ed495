"""What a credential's source is called, and what it is then.

    keyring://SERVICE/ACCOUNT      the keychain; `nono credential set NAME` writes keyring://nono/NAME
    env://NAME                     a variable of the supervisor's, taken out of its environment
    file:///PATH                   a file of the person's, 0600
    cmd:///PATH ARGUMENT...        a program's output; split as a shell would, no shell
    op://VAULT/ITEM/FIELD          1Password's `op read`
    bw://ITEM, bw://ITEM/FIELD     Bitwarden's `bw get password|username|notes|totp`
    oauth2://CLIENT@HOST/PATH?secret=SOURCE&scope=SCOPE
                                   OAuth 2.0 client credentials (RFC 6749 section 4.4), by https

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from nono_mcp.credentials.secret import CredentialError

SERVICE: Final = "nono"
SOURCE_CHARACTERS_MAX: Final = 2048
ARGUMENTS_MAX: Final = 64

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_ENTRY: Final = re.compile(r"([A-Za-z0-9._@+-]{1,128})/([A-Za-z0-9._@+:-]{1,128})")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_VAULT: Final = re.compile(r"[A-Za-z0-9._ @+-]{1,128}(/[A-Za-z0-9._ @+-]{1,128}){2,3}")
_ITEM: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._ @+-]{0,127})(?:/(password|username|notes|totp))?"
)
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252})(:[0-9]{1,5})?")
_LOOPBACK: Final = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Keyring:
    """An entry of the keychain."""

    service: str
    account: str

    def __str__(self) -> str:
        return f"keyring://{self.service}/{self.account}"


@dataclass(frozen=True, slots=True)
class Environ:
    """A variable of the supervisor's environment as it was at its start."""

    name: str

    def __str__(self) -> str:
        return f"env://{self.name}"


@dataclass(frozen=True, slots=True)
class File:
    """A file."""

    path: str

    def __str__(self) -> str:
        return f"file://{self.path}"


@dataclass(frozen=True, slots=True)
class Command:
    """A program to ask. Its arguments aren't shown: people put secrets there."""

    argv: tuple[str, ...]
    shown: str

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True, slots=True)
class OAuth2:
    """A client of an authorisation server, whose tokens are the credential."""

    url: str
    client: str
    secret: Source
    scope: str

    def __str__(self) -> str:
        return f"oauth2://{urlsplit(self.url).netloc}"


Source = Keyring | Environ | File | Command | OAuth2


def check_name(name: str) -> None:
    """Raise CredentialError unless *name* can name a credential."""
    if _NAME.fullmatch(name) is None:
        raise CredentialError(f"{name[:64]!r} isn't a credential's name: lower case, digits and -")


def usual(name: str) -> Keyring:
    """Return where the credential *name* is kept if nothing else is said."""
    check_name(name)
    return Keyring(SERVICE, name)


def parse(text: str) -> Source:
    """Return the source that *text* names.

    Raises:
        CredentialError: It names none; the message doesn't repeat what stands behind the scheme.
    """
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in _PARSERS:
        raise CredentialError(
            f"not a source; known are {', '.join(f'{one}://' for one in _PARSERS)}"
        )
    if len(text) > SOURCE_CHARACTERS_MAX or not text.isprintable():
        raise CredentialError(
            f"{scheme}://: over {SOURCE_CHARACTERS_MAX} characters, or unprintable"
        )
    return _PARSERS[scheme](rest)


def _keyring(rest: str) -> Source:
    found = _ENTRY.fullmatch(rest)
    if found is None:
        raise CredentialError("keyring://: write keyring://SERVICE/ACCOUNT")
    return Keyring(found[1], found[2])


def _environ(rest: str) -> Source:
    if _VARIABLE.fullmatch(rest) is None:
        raise CredentialError("env://: write env://NAME, the name of a variable")
    return Environ(rest)


def _file(rest: str) -> Source:
    parts = rest.split("/")[1:]
    if not rest.startswith("/") or not parts[-1] or not {".", "..", ""}.isdisjoint(parts):
        raise CredentialError("file://: write file:///PATH, absolute and without . or ..")
    return File(rest)


def _command(rest: str) -> Source:
    try:
        argv = shlex.split(rest)
    except ValueError as error:
        raise CredentialError("cmd://: a quotation mark isn't closed") from error
    # By name, what an agent can write might come first on PATH.
    if not argv or not argv[0].startswith("/") or len(argv) > ARGUMENTS_MAX:
        raise CredentialError("cmd://: write cmd:///PATH/OF/PROGRAM ARGUMENT...")
    return Command(tuple(argv), f"cmd://{argv[0]}")


def _one_password(rest: str) -> Source:
    if _VAULT.fullmatch(rest) is None:
        raise CredentialError("op://: write op://VAULT/ITEM/FIELD")
    return Command(("op", "read", "--no-newline", f"op://{rest}"), f"op://{rest}")


def _bitwarden(rest: str) -> Source:
    found = _ITEM.fullmatch(rest)
    if found is None:
        raise CredentialError("bw://: write bw://ITEM or bw://ITEM/FIELD")
    return Command(("bw", "get", found[2] or "password", found[1], "--raw"), f"bw://{rest}")


def _oauth2(rest: str) -> Source:
    usage = "oauth2://: write oauth2://CLIENT@HOST/PATH?secret=SOURCE"
    place, _, query = rest.partition("?")
    client, at, place = place.rpartition("@")
    host, slash, path = place.partition("/")
    try:
        asked = dict(parse_qsl(query, strict_parsing=True, max_num_fields=2))
    except ValueError as error:
        raise CredentialError(usage) from error
    if not at or not client or not slash or _HOST.fullmatch(host) is None:
        raise CredentialError(usage)
    if "secret" not in asked or not {"secret", "scope"}.issuperset(asked):
        raise CredentialError(usage)
    kept = parse(asked["secret"])
    if isinstance(kept, OAuth2):
        raise CredentialError("oauth2://: its secret can't come from another oauth2://")
    # Plain http only to this machine itself.
    scheme = "http" if _LOOPBACK.fullmatch(host) else "https"
    url = f"{scheme}://{host}/{quote(unquote(path), safe='/')}"
    return OAuth2(url, unquote(client), kept, asked.get("scope", ""))


_PARSERS: Final = {
    "keyring": _keyring,
    "env": _environ,
    "file": _file,
    "cmd": _command,
    "op": _one_password,
    "bw": _bitwarden,
    "oauth2": _oauth2,
}
