"""The environment of a worker: an allow-list, and what the person names.

What isn't on the list isn't passed: keys and tokens, variables that make a loader, interpreter,
Git or shell run other code, addresses of agents, buses and displays, proxies.

Architecture invariant: this module does no I/O; the environment is an argument.
"""

from __future__ import annotations

from nono_mcp.policy.errors import PolicyError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HARMLESS = (
    "USER LOGNAME SHELL "
    "LANG LANGUAGE LC_ALL LC_ADDRESS LC_COLLATE LC_CTYPE LC_IDENTIFICATION LC_MEASUREMENT "
    "LC_MESSAGES LC_MONETARY LC_NAME LC_NUMERIC LC_PAPER LC_TELEPHONE LC_TIME "
    "TERM TERMINFO COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION COLUMNS LINES TZ "
    "NO_COLOR FORCE_COLOR CLICOLOR CLICOLOR_FORCE "
    "EDITOR VISUAL PAGER CI"
)
"""Passed on as they are. PATH, HOME, PWD and TMPDIR are given values of their own."""

PATH_FALLBACK = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

NAME_CHARACTERS_MAX = 255
VALUE_CHARACTERS_MAX = 32_000
"""In bytes at most MAX_ARG_STRLEN of execve(2), 128 KiB, together with the name."""

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_LATER = _FIRST | frozenset("0123456789")


def check_name(name: str) -> None:
    """Raise PolicyError unless *name* can name a variable."""
    well_formed = name[:1] in _FIRST and _LATER.issuperset(name)
    if not name or len(name) > NAME_CHARACTERS_MAX or not well_formed:
        raise PolicyError(
            f"{quoted(name[:64])} isn't the name of a variable",
            hint="letters, digits and _, no digit first",
        )


def check_value(name: str, value: str) -> None:
    """Raise PolicyError unless *value* can be the value of the variable *name*."""
    if "\0" in value:
        raise PolicyError(f"the value of {name} holds a NUL byte")
    if len(value) > VALUE_CHARACTERS_MAX:
        raise PolicyError(f"the value of {name} is over {VALUE_CHARACTERS_MAX} characters")


def allowed(
    environ: Mapping[str, str],
    passed: Iterable[str] = (),
    given: Iterable[tuple[str, str]] = (),
    own: Iterable[tuple[str, str]] = (),
) -> tuple[tuple[str, str], ...]:
    """Return the worker's variables, sorted.

    Args:
        environ: The person's.
        passed: Names passed on because the person said so, whatever they look like.
        given: Names and values of the policy's, which win over all else.
        own: Names and values of the sandbox's (HOME, TMPDIR, PWD), which win over *environ*.
    """
    values = {name: environ[name] for name in HARMLESS.split() if name in environ}
    values["PATH"] = search_path(environ.get("PATH", ""))
    values.update(own)
    for name in passed:
        check_name(name)
        if name in environ:
            values[name] = environ[name]
    for name, value in given:
        check_name(name)
        check_value(name, value)
        values[name] = value
    return tuple(sorted(values.items()))


def search_path(text: str) -> str:
    """Return a PATH without entries that mean the current directory, or none at all."""
    entries = [entry for entry in text.split(":") if entry.startswith("/")]
    return ":".join(dict.fromkeys(entries)) or PATH_FALLBACK
