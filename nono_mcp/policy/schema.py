"""The JSON Schema of a policy, for editors; `nono policy schema` prints it.

It says what `parse` accepts, as far as a schema can: whether two networks contradict each other
it does say, whether a path leads anywhere it doesn't. 1.0 is a whole number to JSON Schema and
none to TOML.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy import bounds, environment, paths, toolsets
from nono_mcp.policy.document import SECTIONS
from nono_mcp.policy.keys import (
    ASK_MODES,
    FIELDS,
    GUARANTEES,
    NETWORK_MODES,
    PORT_KEYS,
    PROXY_KEYS,
    ROLLBACK_MODES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

# `$` alone would let a line break follow in some dialects.
_END = r"(?![\s\S])"
_NO_NUL = r"^[^\u0000]*" + _END
_LED = "|".join(rf"\${name}" for name in paths.VARIABLES)
_PATH = rf"^(?![\s\S]*\u0000)(/|(~|{_LED})(/|{_END}))"
_COMMAND = rf"^(?!\.{{1,2}}{_END})[A-Za-z0-9._+@-]+{_END}"
_PATH_OF = rf"^(?![\s\S]*\u0000)(/|(~|{_LED})/)"
_NAME = rf"^[A-Za-z_][A-Za-z0-9_]*{_END}"
_PROFILE = rf"^[a-z0-9][a-z0-9._-]*{_END}"
_PART = rf"(?!\.{{1,2}}(/|{_END}))[^/]+"
_PATTERN = rf"^(?![\s\S]*\u0000)/?{_PART}(/{_PART})*/?{_END}"
_SIZE = rf"^([1-9][0-9]{{0,5}}[KMGT]|[1-9][0-9]{{0,17}}){_END}"


def schema() -> dict[str, Json]:
    """Return the schema, in the dialect of 2020-12."""
    extends: Json = {"type": "string", "pattern": _PROFILE, "maxLength": 64}
    properties: dict[str, Json] = {
        "description": {"type": "string", "maxLength": bounds.DESCRIPTION_CHARACTERS_MAX},
        "extends": {
            "description": 'Profiles that this one adds to; left out, it\'s "default".',
            "anyOf": [extends, _list(extends)],
        },
    }
    properties.update({section: _section(section) for section in SECTIONS})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy of nono",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _section(section: str) -> Json:
    table: dict[str, Json] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            field.key: {"description": field.about, **_KINDS[field.kind]}
            for field in FIELDS
            if field.section == section
        },
    }
    if section == "network":
        neither: Json = {"not": {"allOf": [_some(PORT_KEYS), _some(PROXY_KEYS)]}}
        told: Json = {"if": {"required": ["mode"]}, "else": neither}
        table["allOf"] = [
            _only(PORT_KEYS, "ports", NETWORK_MODES),
            _only(PROXY_KEYS, "proxy", NETWORK_MODES),
            told,
        ]
    if section == "ask":
        table["allOf"] = [_only(("read", "write", "hosts"), "listed", ASK_MODES)]
    return table


def _only(keys: tuple[str, ...], mode: str, modes: tuple[str, ...]) -> Json:
    """Say that *keys* say nothing where another of the *modes* is written."""
    others: Json = [one for one in modes if one != mode]
    empty: Json = {
        key: {"maxItems": 0, "maxProperties": 0, "type": ["array", "object"]} for key in keys
    }
    return {
        "if": {"properties": {"mode": {"enum": others}}, "required": ["mode"]},
        "then": {"properties": empty},
    }


def _some(keys: tuple[str, ...]) -> Json:
    """Say that one of *keys* says something."""
    full: Json = {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "minItems": 1},
            {"type": "object", "minProperties": 1},
        ]
    }
    return {"anyOf": [{"required": [key], "properties": {key: full}} for key in keys]}


def _list(items: Json) -> dict[str, Json]:
    return {"type": "array", "items": items, "maxItems": bounds.ITEMS_MAX}


def _whole(most: int) -> dict[str, Json]:
    return {"type": "integer", "minimum": 1, "maximum": most}


_VARIABLE_NAME: Json = {
    "type": "string",
    "pattern": _NAME,
    "maxLength": environment.NAME_CHARACTERS_MAX,
}
_VALUE: Json = {
    "type": "string",
    "pattern": _NO_NUL,
    "maxLength": environment.VALUE_CHARACTERS_MAX,
}


def _texts(pattern: str) -> dict[str, Json]:
    return _list({"type": "string", "pattern": rf"^{pattern}{_END}"})


# What a URL parser would take for an address in disguise ends in a number.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DISGUISE = rf"(?!(?:[^:]*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?(?:\*|:|{_END}))"
_NUMBER = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_V4 = rf"{_NUMBER}(?:\.{_NUMBER}){{3}}"
_V6 = r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*"
_PORT = r"(?::[1-9][0-9]{0,4})?"
_HOST = rf"(?:(?:\*\.)?{_DISGUISE}(?:{_LABEL}\.)*{_LABEL}\.?|{_V4}|\[{_V6}\]){_PORT}"
_SETS = "|".join((toolsets.FULL, *toolsets.SETS))
_CREDENTIAL = rf"^[a-z0-9][a-z0-9-]{{0,63}}{_END}"
_KINDS: dict[str, dict[str, Json]] = {
    "hosts": _texts(_HOST),
    "addresses": _texts(rf"(?:{_V4}|{_V6})(?:/[0-9]{{1,3}})?"),
    "credentials": _list({"type": "string", "pattern": _CREDENTIAL}),
    "endpoints": _texts(r"[a-z0-9][a-z0-9-]{0,63}:(?:\*|[A-Z]{1,20}):/[!-~]*"),
    "url": {"type": "string", "pattern": "^https?://"},
    "file": {
        "type": "string",
        "pattern": r"^/(?![\s\S]*\u0000)",
        "maxLength": paths.PATH_CHARACTERS_MAX,
    },
    "source": {"type": "string", "pattern": "^[a-z0-9]+://"},
    "sources": {
        "type": "object",
        "propertyNames": {"pattern": _CREDENTIAL},
        "additionalProperties": {"type": "string", "pattern": "^[a-z0-9]+://"},
    },
    "routes": {
        "type": "object",
        "propertyNames": {"pattern": _CREDENTIAL},
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "upstreams": _texts(_HOST),
                "placements": _texts(r"[a-z0-9-]+(?::[!-9;-~]*)?"),
                "key_variables": _list(_VARIABLE_NAME),
                "base_urls": _texts(r"[A-Za-z_][A-Za-z0-9_]*(?:/[!-~]*)?"),
                "phantom_prefix": {"type": "string"},
                "tls": {"type": "boolean"},
            },
        },
    },
    "paths": _list({"type": "string", "pattern": _PATH, "maxLength": paths.PATH_CHARACTERS_MAX}),
    "flag": {"type": "boolean"},
    "mode": {"enum": list(NETWORK_MODES)},
    "ports": _list(_whole(bounds.PORT_MAX)),
    "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": bounds.SECONDS_MAX},
    "size": {"anyOf": [_whole(bounds.BYTES_MAX), {"type": "string", "pattern": _SIZE}]},
    "count": _whole(bounds.COUNT_MAX),
    "names": _list(_VARIABLE_NAME),
    "variables": {
        "type": "object",
        "propertyNames": _VARIABLE_NAME,
        "additionalProperties": _VALUE,
    },
    "guarantees": _list({"enum": list(GUARANTEES)}),
    "patterns": _list(
        {"type": "string", "pattern": _PATTERN, "maxLength": bounds.PATTERN_CHARACTERS_MAX}
    ),
    "commands": _list(
        {
            "anyOf": [
                {"type": "string", "pattern": _COMMAND, "maxLength": paths.COMMAND_CHARACTERS_MAX},
                {"type": "string", "pattern": _PATH_OF, "maxLength": paths.PATH_CHARACTERS_MAX},
            ]
        }
    ),
    "rollback": {"enum": list(ROLLBACK_MODES)},
    "ask": {"enum": list(ASK_MODES)},
    "toolset": {"type": "string", "pattern": rf"^(?:{_SETS})(?:,(?:{_SETS}))*{_END}"},
}
