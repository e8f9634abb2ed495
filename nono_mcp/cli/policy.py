"""`nono policy`: show, validate, list and start policies."""

from __future__ import annotations

import os

from nono_mcp import places
from nono_mcp.cli import options, policy_flags, say
from nono_mcp.cli.options import FailedError, UsageError, nearest, shown
from nono_mcp.policy import bounds, files, layers, profiles
from nono_mcp.policy.document import Document, merge
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.keys import FIELDS
from nono_sandbox import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed

OPTIONS = (*policy_flags.OPTIONS, options.JSON, options.HELP)
USAGE = f"""\
usage: nono policy show [NAME] [OPTION]...   the policy that NAME or the options make, as TOML
       nono policy validate FILE...          whether each is a policy, and why not
       nono policy list                      the profiles there are
       nono policy schema                    the JSON Schema of a policy, for editors
       nono policy init [NAME|FILE]          start a profile of yours, or a policy file; without
                                             either, a nono.toml here, which counts once trusted

  nono policy show python > team.toml
  nono policy validate team.toml

{policy_flags.ABOUT}\
  --json                   answer in JSON

Exit status: 0 done (validate: all are policies), 1 not, 2 this usage, 126 the policy is refused.
"""
NOT_VALID = 1
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
STARTER = """\
# A policy: what programs may reach. What isn't named here or by what it extends is refused.
# Check it by `nono policy validate`; every key there is: `nono policy schema`.
description = ""
extends = "default"

[filesystem]
# Directories to read, beyond the workspace and the system's.
read = []
# Paths to close inside what is granted.
deny = []

[network]
# closed, ports (of this machine's loopback: connect_ports, bind_ports) or open.
mode = "closed"

[limits]
timeout_s = 600
"""


def main(argv: list[str]) -> int:
    """Do what *argv* says and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    acts = {
        "show": _show,
        "validate": _validate,
        "list": _list,
        "schema": _schema,
        "init": _init,
    }
    if not parsed.rest:
        raise UsageError("what about policies?", f"one of {', '.join(acts)}")
    name, *operands = parsed.rest
    if name not in acts:
        raise UsageError(f"unknown: policy {shown(name)}", nearest(name, acts))
    return acts[name](parsed, operands)


def _at_most(operands: list[str], count: int) -> None:
    if len(operands) > count:
        raise UsageError(f"unexpected {shown(operands[count])}")


def _show(parsed: Parsed, operands: list[str]) -> int:
    """Print the layers of a policy, merged."""
    _at_most(operands, 1)
    request = policy_flags.request(parsed)
    if operands:
        request = request.replace(profile=operands[0])
    found, notices = layers.layers_of(request, os.path.realpath(request.workspace))
    document = Document()
    for layer in found:
        document = merge(document, layer.document)
    names = [layer.name for layer in found]
    if parsed.flag(options.JSON):
        told = {"layers": names, "notices": notices, "policy": _tables(document)}
        say.document({"id": "policy.show", "ok": True, "error": None, **told})
        return 0
    from nono_mcp.policy.toml import emit

    for notice in notices:
        say.note(notice)
    say.out(f"# made of: {', '.join(names)}\n{emit(document)}")
    return 0


def _tables(document: Document) -> dict[str, object]:
    """Return *document* as the tables of its TOML."""
    tables: dict[str, dict[str, object]] = {}
    for field in FIELDS:
        value = getattr(getattr(document, field.section), field.name())
        if value is None or value == ():
            continue
        plain = dict(value) if field.kind == "variables" else value
        tables.setdefault(field.section, {})[field.key] = plain
    return {"description": document.description, "extends": document.extends, **tables}


def _validate(parsed: Parsed, operands: list[str]) -> int:
    """Say of each file whether it is a policy."""
    if not operands:
        raise UsageError("no FILE to validate")
    results = [_result(path) for path in operands]
    ok = not any(result["error"] for result in results)
    if parsed.flag(options.JSON):
        say.document({"id": "policy.validate", "ok": ok, "error": None, "files": results})
    else:
        for result in results:
            say.out(f"{result['error'] or quoted(str(result['path'])) + ': a policy'}\n")
    return 0 if ok else NOT_VALID


def _result(path: str) -> dict[str, object]:
    """Return what is wrong with the policy in the file *path*, or with what it extends."""
    from nono_mcp.policy.parse import parse_text

    try:
        document = parse_text(_text(path), path)
        chain = policy_flags.request(options.Parsed({}, ()))
        for name in document.extends or ():
            layers.layers_of(chain.replace(profile=name), os.path.realpath(chain.workspace))
    except PolicyError as error:
        told = error if error.file else PolicyError(error.message, file=path, hint=error.hint)
        return {"path": path, "error": str(told), "line": error.line}
    return {"path": path, "error": None, "line": None}


def _text(path: str) -> str:
    """Read a policy, whoever can write it: whether it may count isn't asked here."""
    if "\0" in path or not path:
        raise PolicyError(f"{quoted(path)} isn't a path")
    try:
        with open(os.open(path, _LOOK), "rb") as file:
            data = file.read(bounds.TEXT_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        reason = (error.strerror or "can't be read").lower()
        raise PolicyError(reason, file=path) from None
    except UnicodeDecodeError:
        raise PolicyError("not UTF-8", file=path) from None
    if len(data) > bounds.TEXT_BYTES_MAX:
        raise PolicyError(f"a policy must be at most {bounds.TEXT_BYTES_MAX} bytes", file=path)
    return text


def _list(parsed: Parsed, operands: list[str]) -> int:
    """List the profiles there are, ours and the person's."""
    _at_most(operands, 0)
    config = places.config_dir(os.environ)
    own = [name for name in files.profile_names(config) if name not in profiles.SHIPPED]
    rows = [(name, "shipped", one.description) for name, one in profiles.SHIPPED.items()]
    rows += [(name, "yours", _description(name, config)) for name in own]
    if parsed.flag(options.JSON):
        told = [{"name": row[0], "from": row[1], "description": row[2]} for row in rows]
        say.document({"id": "policy.list", "ok": True, "error": None, "profiles": told})
        return 0
    width = max(len(name) for name, _, _ in rows)
    for name, origin, about in rows:
        mark = "" if origin == "shipped" else f" ({origin})"
        say.out(f"{name:<{width}}  {about}{mark}\n")
    return 0


def _description(name: str, config: str) -> str:
    try:
        return layers.profile(name, config).document.description
    except PolicyError as error:
        return f"not a policy: {error}"


def _schema(_parsed: Parsed, operands: list[str]) -> int:
    """Print the JSON Schema of a policy."""
    _at_most(operands, 0)
    from nono_mcp.policy.schema import schema

    say.document(schema())
    return 0


def _init(parsed: Parsed, operands: list[str]) -> int:
    """Start a policy, where there is none yet."""
    _at_most(operands, 1)
    path = _new_path(operands[0] if operands else f"./{layers.WORKSPACE_POLICY}")
    try:
        descriptor = private.open_file(path, private.NEW)
    except FileExistsError:
        raise FailedError(
            f"{quoted(path)} is there already: name another file, or remove that one"
        ) from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(STARTER)
    if parsed.flag(options.JSON):
        say.document({"id": "policy.init", "ok": True, "error": None, "path": path})
    else:
        say.out(f"made: {quoted(path)}\n")
    return 0


def _new_path(text: str) -> str:
    """Return the path of a policy file, or of the person's profile *text*."""
    if "\0" in text or not text:
        raise UsageError(f"{shown(text)} isn't a name or path")
    if "/" in text or text.endswith(".toml"):
        return os.path.abspath(text)
    try:
        bounds.check_profile_name(text)
    except PolicyError as error:
        raise UsageError(error.message, f"{error.hint}; or a path") from None
    if text in profiles.SHIPPED:
        raise FailedError(f"{quoted(text)} is a shipped profile; choose another name")
    path = files.profile_path(places.config_dir(os.environ), text)
    private.ensure_directories(os.path.dirname(path))
    return path
