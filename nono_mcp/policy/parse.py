"""From the tables of a TOML text to a `Document`: strict, and telling where a mistake stands.

Architecture invariant: this module does no I/O. Only a policy in a file is parsed; shipped
profiles are values already.
"""

from __future__ import annotations

import tomllib

from nono_mcp.policy import bounds
from nono_mcp.policy.document import SECTIONS, Document
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.keys import FIELDS, PORT_KEYS, PROXY_KEYS
from nono_mcp.policy.parse_values import Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn


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
    return _Parser(Values(file, text)).document(data)


class _Parser:
    """One text's parsing: its tables and keys, and which of them contradict each other."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def document(self, data: Mapping[str, object]) -> Document:
        known = ("description", "extends", *SECTIONS)
        self._values.check_keys(data, known, ())
        sections = {name: self._section(name, data[name]) for name in SECTIONS if name in data}
        return Document().replace(
            description=self._description(data.get("description", "")),
            extends=self._extends(data["extends"]) if "extends" in data else None,
            **sections,
        )

    def _section(self, name: str, data: object) -> object:
        if not isinstance(data, dict):
            self._values.fail((name,), f"{name} must be a table", hint=f"write [{name}]")
        fields = {field.key: field for field in FIELDS if field.section == name}
        self._values.check_keys(data, tuple(fields), (name,))
        values = {
            fields[key].name(): self._values.read(fields[key].kind, value, (name, key))
            for key, value in data.items()
        }
        if name == "network":
            self._check_network(values)
        if name == "ask":
            self._check_ask(values)
        return SECTIONS[name](**values)

    def _check_network(self, values: Mapping[str, object]) -> None:
        mode = values.get("mode")
        ports = [key for key in PORT_KEYS if values.get(key)]
        hosts = [key for key in PROXY_KEYS if values.get(key)]
        if mode is None and ports and hosts:
            self._values.fail(
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
                self._values.fail(("ask", key), message, hint=hint)

    def _silent(self, key: str, mode: str, needed: str) -> NoReturn:
        self._values.fail(
            ("network", key),
            f'{key} says nothing where mode is "{mode}"',
            hint=f'use mode = "{needed}", or leave it out',
        )

    def _description(self, value: object) -> str:
        most = bounds.DESCRIPTION_CHARACTERS_MAX
        if not isinstance(value, str) or len(value) > most:
            self._values.fail(
                ("description",), f"description must be a string of at most {most} characters"
            )
        return value

    def _extends(self, value: object) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list):
            self._values.fail(("extends",), "extends must be a profile's name or a list of them")
        return tuple(self._values.strings(names, ("extends",), bounds.check_profile_name))


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
