"""From the tables of a TOML text to a `Document`: strict, and telling where a mistake stands.

Architecture invariant: this module does no I/O. Only a policy in a file is parsed; shipped
profiles are values already.
"""

from __future__ import annotations

import tomllib

from nono_mcp.policy import bounds, egress, environment, offering, paths
from nono_mcp.policy.document import (
    ASK_MODES,
    FIELDS,
    GUARANTEES,
    NETWORK_MODES,
    PORT_KEYS,
    PROXY_KEYS,
    ROLLBACK_MODES,
    SECTIONS,
    Document,
    RouteSection,
)
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.lines import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from nono_mcp.policy.document import Field
    from nono_mcp.policy.lines import Path


def parse_text(text: str, file: str) -> Document:
    """Return the policy that the TOML *text* of *file* states.

    Raises:
        PolicyError: It isn't TOML, or not a policy; the error says where.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(str(error), text, file) from None
    return parse(data, file=file, text=text)


def parse(data: Mapping[str, object], *, file: str = "policy", text: str = "") -> Document:
    """Return the policy that the tables *data* state; *text* is what they were read from.

    Raises:
        PolicyError: A key is unknown, a value has the wrong type or is out of range, or two
            contradict each other.
    """
    return _Parser(file, text).document(data)


class _Parser:
    """One text's parsing: what every mistake is told with."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._kinds: dict[str, Callable[[object, Path], object]] = {
            "paths": self._paths,
            "flag": self._flag,
            "mode": self._one_of(NETWORK_MODES),
            "ports": self._ports,
            "seconds": self._seconds,
            "size": self._size,
            "count": self._count,
            "names": self._names,
            "variables": self._variables,
            "guarantees": self._guarantees,
            "patterns": self._patterns,
            "commands": self._words("commands", paths.check_command),
            "rollback": self._one_of(ROLLBACK_MODES),
            "ask": self._one_of(ASK_MODES),
            "toolset": self._toolset,
            "hosts": self._words("hosts", egress.check_host),
            "addresses": self._words("address ranges", egress.check_address),
            "credentials": self._words("credentials", egress.check_name),
            "endpoints": self._words("endpoints", egress.check_endpoint),
            "sources": self._sources,
            "url": self._word(egress.check_proxy),
            "source": self._word(egress.check_source),
            "file": self._word(egress.check_file),
            "routes": self._routes,
        }

    def document(self, data: Mapping[str, object]) -> Document:
        known = ("description", "extends", *SECTIONS)
        self._check_keys(data, known, ())
        sections = {name: self._section(name, data[name]) for name in SECTIONS if name in data}
        return Document().replace(
            description=self._description(data.get("description", "")),
            extends=self._extends(data["extends"]) if "extends" in data else None,
            **sections,
        )

    def _section(self, name: str, data: object) -> object:
        if not isinstance(data, dict):
            self._fail((name,), f"{name} must be a table", hint=f"write [{name}]")
        fields = {field.key: field for field in FIELDS if field.section == name}
        self._check_keys(data, tuple(fields), (name,))
        values = {
            fields[key].name(): self._field(fields[key], value) for key, value in data.items()
        }
        if name == "network":
            self._check_network(values)
        if name == "ask":
            self._check_ask(values)
        return SECTIONS[name](**values)

    def _field(self, field: Field, value: object) -> object:
        path: Path = (field.section, field.key)
        return self._kinds[field.kind](value, path)

    def _check_keys(self, data: Mapping[str, object], known: tuple[str, ...], at: Path) -> None:
        for key in data:
            if key not in known:
                # Only a mistake pays for the import.
                from difflib import get_close_matches

                inside = f" in [{at[0]}]" if at else ""
                near = get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                self._fail((*at, key), f"unknown key {quoted(key)}{inside}", hint=hint)

    def _check_network(self, values: Mapping[str, object]) -> None:
        mode = values.get("mode")
        ports = [key for key in PORT_KEYS if values.get(key)]
        hosts = [key for key in PROXY_KEYS if values.get(key)]
        if mode is None and ports and hosts:
            self._fail(
                ("network", hosts[0]),
                f"{hosts[0]} and {ports[0]} contradict each other",
                hint="with hosts, ports of the sandbox's own network need no rule",
            )
        for key in ports if mode not in (None, "ports") else ():
            self._silent(key, str(mode), "ports")
        for key in hosts if mode not in (None, "proxy") else ():
            self._silent(key, str(mode), "proxy")

    def _check_ask(self, values: Mapping[str, object]) -> None:
        mode = values.get("mode")
        for key in ("read", "write", "hosts") if mode in ("any", "never") else ():
            if values.get(key):
                message = f'{key} says nothing where mode is "{mode}"'
                hint = 'use mode = "listed", or leave it out'
                self._fail(("ask", key), message, hint=hint)

    def _silent(self, key: str, mode: str, needed: str) -> NoReturn:
        self._fail(
            ("network", key),
            f'{key} says nothing where mode is "{mode}"',
            hint=f'use mode = "{needed}", or leave it out',
        )

    def _description(self, value: object) -> str:
        most = bounds.DESCRIPTION_CHARACTERS_MAX
        if not isinstance(value, str) or len(value) > most:
            self._fail(
                ("description",), f"description must be a string of at most {most} characters"
            )
        return value

    def _extends(self, value: object) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list):
            self._fail(("extends",), "extends must be a profile's name or a list of them")
        return tuple(self._each(names, ("extends",), bounds.check_profile_name))

    def _each(self, values: list[object], path: Path, check: Callable[[str], None]) -> list[str]:
        checked: list[str] = []
        if len(values) > bounds.ITEMS_MAX:
            self._fail(path, f"{path[-1]} has over {bounds.ITEMS_MAX} elements")
        for index, value in enumerate(values):
            at = (*path, index)
            if not isinstance(value, str):
                self._fail(at, f"{path[-1]} must hold strings, not {_type(value)}")
            try:
                check(value)
            except PolicyError as error:
                self._fail(at, f"{path[-1]}: {error.message}", hint=error.hint)
            checked.append(value)
        return checked

    def _list(self, value: object, path: Path, of: str) -> list[object]:
        if not isinstance(value, list):
            self._fail(path, f"{path[-1]} must be a list of {of}, not {_type(value)}")
        return value

    def _paths(self, value: object, path: Path) -> tuple[str, ...]:
        return tuple(self._each(self._list(value, path, "paths"), path, paths.check))

    def _names(self, value: object, path: Path) -> tuple[str, ...]:
        return tuple(self._each(self._list(value, path, "names"), path, environment.check_name))

    def _patterns(self, value: object, path: Path) -> tuple[str, ...]:
        return tuple(self._each(self._list(value, path, "patterns"), path, bounds.check_pattern))

    def _one_of(self, words: tuple[str, ...]) -> Callable[[object, Path], str]:
        def check(value: object, path: Path) -> str:
            if not isinstance(value, str) or value not in words:
                self._fail(path, f"{path[-1]} must be one of {', '.join(words)}")
            return value

        return check

    def _toolset(self, value: object, path: Path) -> str:
        return self._each([value], path, offering.check)[0]

    def _words(
        self, what: str, check: Callable[[str], None]
    ) -> Callable[[object, Path], tuple[str, ...]]:
        return lambda value, path: tuple(self._each(self._list(value, path, what), path, check))

    def _sources(self, value: object, path: Path) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            self._fail(path, f"{path[-1]} must be a table of credentials and sources")
        for name, text in value.items():
            self._each([name], (*path, name), egress.check_name)
            self._each([text], (*path, name), egress.check_source)
        return tuple(value.items())

    def _word(self, check: Callable[[str], None]) -> Callable[[object, Path], str]:
        return lambda value, path: self._each([value], path, check)[0]

    def _routes(self, value: object, path: Path) -> tuple[tuple[str, RouteSection], ...]:
        if not isinstance(value, dict):
            self._fail(path, f"{path[-1]} must hold a table a route")
        return tuple((name, self._route(row, (*path, name))) for name, row in value.items())

    def _route(self, row: object, path: Path) -> RouteSection:
        self._each([path[-1]], path, egress.check_name)
        if not isinstance(row, dict):
            self._fail(path, "a route must be a table")
        known = tuple(vars(RouteSection()))
        self._check_keys(row, known, path)
        fields: dict[str, Any] = {}
        for key, value in row.items():
            at = (*path, key)
            if key == "tls":
                fields[key] = self._flag(value, at)
            elif key == "phantom_prefix":
                fields[key] = self._each([value], at, egress.check_prefix)[0]
            else:
                check = egress.ROUTE_CHECKS[key]
                fields[key] = tuple(self._each(self._list(value, at, "texts"), at, check))
        return RouteSection(**fields)

    def _guarantees(self, value: object, path: Path) -> tuple[str, ...]:
        def check(name: str) -> None:
            if name not in GUARANTEES:
                raise PolicyError(
                    f"unknown guarantee {quoted(name)}", hint=f"known are {', '.join(GUARANTEES)}"
                )

        return tuple(self._each(self._list(value, path, "guarantees"), path, check))

    def _ports(self, value: object, path: Path) -> tuple[int, ...]:
        return tuple(
            self._whole(port, (*path, index), 1, bounds.PORT_MAX)
            for index, port in enumerate(self._list(value, path, "ports"))
        )

    def _variables(self, value: object, path: Path) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            self._fail(path, f"{path[-1]} must be a table of names and values")
        for name, text in value.items():
            at = (*path, name)
            if not isinstance(text, str):
                self._fail(at, f"the value of {quoted(name)} must be a string")
            try:
                environment.check_name(name)
                environment.check_value(name, text)
            except PolicyError as error:
                self._fail(at, error.message, hint=error.hint)
        return tuple(value.items())

    def _flag(self, value: object, path: Path) -> bool:
        if not isinstance(value, bool):
            self._fail(path, f"{path[-1]} must be true or false, not {_type(value)}")
        return value

    def _seconds(self, value: object, path: Path) -> float:
        # NaN is no more than anything, and so isn't let through.
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0
        if not 0 < number <= bounds.SECONDS_MAX:
            self._fail(path, f"{path[-1]} must be a number over 0 and at most {bounds.SECONDS_MAX}")
        return float(number)

    def _size(self, value: object, path: Path) -> int:
        if isinstance(value, str):
            try:
                return bounds.size(value)
            except PolicyError as error:
                self._fail(path, f"{path[-1]}: {error.message}", hint=error.hint)
        return self._whole(value, path, 1, bounds.BYTES_MAX)

    def _count(self, value: object, path: Path) -> int:
        return self._whole(value, path, 1, bounds.COUNT_MAX)

    def _whole(self, value: object, path: Path, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self._fail(path, f"{_key(path)} must be a whole number from {least} to {most}")
        return value

    def _fail(self, path: Path, message: str, *, hint: str = "") -> NoReturn:
        line = locate(self._text, path)
        raise PolicyError(message, file=self._file, line=line, hint=hint)


def _key(path: Path) -> str:
    return f"an element of {path[-2]}" if isinstance(path[-1], int) else str(path[-1])


def _type(value: object) -> str:
    names = {str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "a list" if isinstance(value, list) else "a table or date")


def _not_toml(message: str, text: str, file: str) -> PolicyError:
    """Return tomllib's complaint, its position told as ours are."""
    reason, _, position = message.partition(" (at ")
    line: int | None = None
    words = position.rstrip(")").replace(",", "").split()
    if len(words) > 1 and words[0] == "line":
        line = int(words[1])
    elif position.startswith("end of document"):
        line = text.count("\n") + 1
    return PolicyError(f"not TOML: {reason.lower()}", file=file, line=line)
