"""What a key of a policy holds, read by the kind that `keys` gives it.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy import bounds, egress_syntax, environment, paths, toolsets
from nono_mcp.policy.document import RouteSection
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.keys import ASK_MODES, GUARANTEES, NETWORK_MODES, ROLLBACK_MODES
from nono_mcp.policy.lines import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from nono_mcp.policy.lines import Path


class Values:
    """Reads the values of one text; what is wrong with one is told with its line there."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._kinds: dict[str, Callable[[object, Path], object]] = {
            "paths": self._list_of("paths", paths.check),
            "flag": self._flag,
            "mode": self._one_of(NETWORK_MODES),
            "ports": self._ports,
            "seconds": self._seconds,
            "size": self._size,
            "count": self._count,
            "names": self._list_of("names", environment.check_name),
            "variables": self._variables,
            "guarantees": self._guarantees,
            "patterns": self._list_of("patterns", bounds.check_pattern),
            "commands": self._list_of("commands", paths.check_command),
            "rollback": self._one_of(ROLLBACK_MODES),
            "ask": self._one_of(ASK_MODES),
            "toolset": self._text_of(toolsets.check),
            "hosts": self._list_of("hosts", egress_syntax.check_host),
            "addresses": self._list_of("address ranges", egress_syntax.check_address),
            "credentials": self._list_of("credentials", egress_syntax.check_name),
            "endpoints": self._list_of("endpoints", egress_syntax.check_endpoint),
            "sources": self._sources,
            "url": self._text_of(egress_syntax.check_proxy),
            "source": self._text_of(egress_syntax.check_source),
            "file": self._text_of(egress_syntax.check_file),
            "routes": self._routes,
        }

    def read(self, kind: str, value: object, path: Path) -> object:
        """Return *value*, which stands at *path*, as the *kind* of its key has it.

        Raises:
            PolicyError: It's none of that kind, or out of range.
        """
        return self._kinds[kind](value, path)

    def check_keys(self, data: Mapping[str, object], known: tuple[str, ...], at: Path) -> None:
        """Raise PolicyError unless the keys of the table *at* a path are *known* ones."""
        for key in data:
            if key not in known:
                # Only a mistake pays for the import.
                from difflib import get_close_matches

                inside = f" in [{at[0]}]" if at else ""
                near = get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                self.fail((*at, key), f"unknown key {quoted(key)}{inside}", hint=hint)

    def strings(self, values: list[object], path: Path, check: Callable[[str], None]) -> list[str]:
        """Return *values*, each a string that *check* lets pass."""
        checked: list[str] = []
        if len(values) > bounds.ITEMS_MAX:
            self.fail(path, f"{path[-1]} has over {bounds.ITEMS_MAX} elements")
        for index, value in enumerate(values):
            at = (*path, index)
            if not isinstance(value, str):
                self.fail(at, f"{path[-1]} must hold strings, not {_type(value)}")
            try:
                check(value)
            except PolicyError as error:
                self.fail(at, f"{path[-1]}: {error.message}", hint=error.hint)
            checked.append(value)
        return checked

    def _list(self, value: object, path: Path, of: str) -> list[object]:
        if not isinstance(value, list):
            self.fail(path, f"{path[-1]} must be a list of {of}, not {_type(value)}")
        return value

    def _one_of(self, words: tuple[str, ...]) -> Callable[[object, Path], str]:
        def check(value: object, path: Path) -> str:
            if not isinstance(value, str) or value not in words:
                self.fail(path, f"{path[-1]} must be one of {', '.join(words)}")
            return value

        return check

    def _list_of(
        self, what: str, check: Callable[[str], None]
    ) -> Callable[[object, Path], tuple[str, ...]]:
        return lambda value, path: tuple(self.strings(self._list(value, path, what), path, check))

    def _sources(self, value: object, path: Path) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            self.fail(path, f"{path[-1]} must be a table of credentials and sources")
        for name, text in value.items():
            self.strings([name], (*path, name), egress_syntax.check_name)
            self.strings([text], (*path, name), egress_syntax.check_source)
        return tuple(value.items())

    def _text_of(self, check: Callable[[str], None]) -> Callable[[object, Path], str]:
        return lambda value, path: self.strings([value], path, check)[0]

    def _routes(self, value: object, path: Path) -> tuple[tuple[str, RouteSection], ...]:
        if not isinstance(value, dict):
            self.fail(path, f"{path[-1]} must hold a table a route")
        return tuple((name, self._route(row, (*path, name))) for name, row in value.items())

    def _route(self, row: object, path: Path) -> RouteSection:
        self.strings([path[-1]], path, egress_syntax.check_name)
        if not isinstance(row, dict):
            self.fail(path, "a route must be a table")
        known = tuple(vars(RouteSection()))
        self.check_keys(row, known, path)
        fields: dict[str, Any] = {}
        for key, value in row.items():
            at = (*path, key)
            if key == "tls":
                fields[key] = self._flag(value, at)
            elif key == "phantom_prefix":
                fields[key] = self.strings([value], at, egress_syntax.check_prefix)[0]
            else:
                check = egress_syntax.ROUTE_CHECKS[key]
                fields[key] = tuple(self.strings(self._list(value, at, "texts"), at, check))
        return RouteSection(**fields)

    def _guarantees(self, value: object, path: Path) -> tuple[str, ...]:
        def check(name: str) -> None:
            if name not in GUARANTEES:
                raise PolicyError(
                    f"unknown guarantee {quoted(name)}", hint=f"known are {', '.join(GUARANTEES)}"
                )

        return tuple(self.strings(self._list(value, path, "guarantees"), path, check))

    def _ports(self, value: object, path: Path) -> tuple[int, ...]:
        return tuple(
            self._whole(port, (*path, index), 1, bounds.PORT_MAX)
            for index, port in enumerate(self._list(value, path, "ports"))
        )

    def _variables(self, value: object, path: Path) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            self.fail(path, f"{path[-1]} must be a table of names and values")
        for name, text in value.items():
            at = (*path, name)
            if not isinstance(text, str):
                self.fail(at, f"the value of {quoted(name)} must be a string")
            try:
                environment.check_name(name)
                environment.check_value(name, text)
            except PolicyError as error:
                self.fail(at, error.message, hint=error.hint)
        return tuple(value.items())

    def _flag(self, value: object, path: Path) -> bool:
        if not isinstance(value, bool):
            self.fail(path, f"{path[-1]} must be true or false, not {_type(value)}")
        return value

    def _seconds(self, value: object, path: Path) -> float:
        # NaN is no more than anything, and so isn't let through.
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0
        if not 0 < number <= bounds.SECONDS_MAX:
            self.fail(path, f"{path[-1]} must be a number over 0 and at most {bounds.SECONDS_MAX}")
        return float(number)

    def _size(self, value: object, path: Path) -> int:
        if isinstance(value, str):
            try:
                return bounds.size(value)
            except PolicyError as error:
                self.fail(path, f"{path[-1]}: {error.message}", hint=error.hint)
        return self._whole(value, path, 1, bounds.BYTES_MAX)

    def _count(self, value: object, path: Path) -> int:
        return self._whole(value, path, 1, bounds.COUNT_MAX)

    def _whole(self, value: object, path: Path, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.fail(path, f"{_key(path)} must be a whole number from {least} to {most}")
        return value

    def fail(self, path: Path, message: str, *, hint: str = "") -> NoReturn:
        """Raise PolicyError about what stands at *path*."""
        line = locate(self._text, path)
        raise PolicyError(message, file=self._file, line=line, hint=hint)


def _key(path: Path) -> str:
    return f"an element of {path[-2]}" if isinstance(path[-1], int) else str(path[-1])


def _type(value: object) -> str:
    names = {str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "a list" if isinstance(value, list) else "a table or date")
