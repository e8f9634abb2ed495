"""`nono completion`: what a shell needs to complete our command lines, made from their tables."""

from __future__ import annotations

import re

from nono_mcp.cli import (
    COMMANDS,
    audit_options,
    confined,
    credential,
    install,
    options,
    policy,
    proxy,
    rollback,
    say,
    serve,
    snapshot,
    trust,
    undoing,
    why,
)
from nono_mcp.cli import doctor as doctor_command
from nono_mcp.cli.options import Option, UsageError, nearest, shown
from nono_mcp.install.hosts import HOSTS, PROJECT, USER
from nono_mcp.policy.decide import OPERATIONS
from nono_mcp.policy.profiles import SHIPPED
from nono_sandbox.system import BACKEND

OPTIONS = (options.HELP,)
SHELLS = ("bash", "zsh", "fish")
USAGE = """\
usage: nono completion bash|zsh|fish

Print the completion of nono for a shell.

  nono completion bash > ~/.local/share/bash-completion/completions/nono
  nono completion zsh > ~/.zfunc/_nono     (with ~/.zfunc in fpath, before compinit)
  nono completion fish > ~/.config/fish/completions/nono.fish

Exit status: 0 printed, 2 this usage.
"""


_OF_COMMANDS: dict[str, tuple[Option, ...]] = {
    "run": confined.OPTIONS,
    "shell": confined.OPTIONS,
    "why": why.OPTIONS,
    "doctor": doctor_command.OPTIONS,
    "policy": policy.OPTIONS,
    "install": install.OPTIONS,
    "trust": trust.OPTIONS,
    "serve": serve.OPTIONS,
    "proxy": proxy.OPTIONS,
    "credential": credential.OPTIONS,
    "snapshot": snapshot.OPTIONS,
    "rollback": rollback.OPTIONS,
}
WORDS = {
    "policy": ("show", "validate", "list", "schema", "init"),
    "credential": credential.COMMANDS,
    "snapshot": snapshot.COMMANDS,
    "install": tuple(HOSTS),
    "completion": SHELLS,
    "help": tuple(COMMANDS),
}
"""What a command's first operand is one of."""
VALUES = {
    "--tier": BACKEND.tiers,
    "--op": tuple(OPERATIONS),
    "--profile": tuple(SHIPPED),
    "--rollback": undoing.ANSWERS,
}
"""What an option's operand is one of."""
VALUES_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "install": {"--scope": (PROJECT, USER)},
    "rollback": {"--scope": rollback.SCOPES},
}
"""The same, where it depends on the command."""
PATHS = ("DIR", "FILE", "PATH")


def main(argv: list[str]) -> int:
    """Print the completion for the shell that *argv* names."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    makers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if len(parsed.rest) != 1:
        raise UsageError("it takes one shell", f"one of {', '.join(makers)}")
    (name,) = parsed.rest
    if name not in makers:
        raise UsageError(f"no completion for {shown(name)}", nearest(name, makers))
    say.out(makers[name]())
    return 0


def of_commands() -> dict[str, tuple[Option, ...]]:
    """Return the options that each command takes."""
    audits: dict[str, Option] = {}
    for each in audit_options.parsers()[1].values():
        # As its help has them: argparse doesn't tell otherwise.
        for name, operand in re.findall(
            r"^  (?:-\w(?: [A-Z]+)?, )?(--[a-z-]+)(?: ([A-Z_]+|\{))?",
            each.format_help(),
            re.MULTILINE,
        ):
            audits[name] = Option(name, operand.replace("{", "WORD"))
    return {**_OF_COMMANDS, "audit": tuple(audits.values())}


def _words() -> dict[str, tuple[str, ...]]:
    return {**WORDS, "audit": tuple(audit_options.parsers()[1])}


def _names(given: tuple[Option, ...]) -> str:
    return " ".join(option.name for option in given)


def _every_option() -> dict[str, Option]:
    return {option.name: option for given in of_commands().values() for option in given}


_BASH = """\
_nono() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  local command=${COMP_WORDS[1]} options="" words="" i
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W "%(names)s" -- "$cur"))
    return
  fi
  if [[ $command == run ]]; then
    for ((i = 2; i < COMP_CWORD; i++)); do
      case ${COMP_WORDS[i]} in
        %(with_operand)s) ((i++)) ;;
        --)
          ((i + 1 == COMP_CWORD)) && COMPREPLY=($(compgen -c -f -- "$cur")) ||
            COMPREPLY=($(compgen -f -- "$cur"))
          return ;;
        -*) ;;
        *) COMPREPLY=($(compgen -f -- "$cur")); return ;;
      esac
    done
  fi
  case $command:$prev in
%(values)s  esac
  case $prev in
    %(directories)s) COMPREPLY=($(compgen -d -- "$cur")); return ;;
    %(files)s) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    %(with_operand)s) return ;;
  esac
  case $command in
%(options)s  esac
  case $command in
%(words)s  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif [[ $words && $COMP_CWORD -eq 2 ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  elif [[ $command == run ]]; then
    COMPREPLY=($(compgen -c -f -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -o filenames -F _nono nono
"""


def _bash() -> str:
    every = _every_option().values()
    by_kind = {
        kind: "|".join(option.name for option in every if option.operand == kind) for kind in PATHS
    }
    named = [("*", name, words) for name, words in VALUES.items()]
    named += [(at, name, some) for at, of in VALUES_OF.items() for name, some in of.items()]
    values = "".join(
        f'    {at}:{name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur")); return ;;\n'
        for at, name, words in named
        if not _every_option()[name].optional
    )
    separate = [option.name for option in every if option.operand and not option.optional]
    commands = "".join(
        f'    {name}) options="{_names(given)}" ;;\n' for name, given in of_commands().items()
    )
    words = "".join(f'    {name}) words="{" ".join(some)}" ;;\n' for name, some in _words().items())
    return _BASH % {
        "names": " ".join(COMMANDS),
        "directories": by_kind["DIR"],
        "files": f"{by_kind['FILE']}|{by_kind['PATH']}",
        "with_operand": "|".join(separate),
        "values": values,
        "options": commands,
        "words": words,
    }


def _zsh() -> str:
    cases = []
    given, some = of_commands(), _words()
    for command in COMMANDS:
        specs = [_zsh_spec(option, command) for option in given.get(command, ())]
        if command == "run":
            specs += ["'(-)1:command:_command_names -e'", "'*::argument:_normal'"]
        elif command in some:
            specs += [f"'1:word:({' '.join(some[command])})'", "'*:file:_files'"]
        else:
            specs.append("'*:file:_files'")
        cases.append(f"    {command}) _arguments -s -S {' '.join(specs)} ;;\n")
    described = " ".join(f"'{name}:{about}'" for name, about in _plain_about().items())
    return f"""\
#compdef nono
_nono() {{
  local -a commands
  commands=({described})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{"".join(cases)}  esac
}}
_nono "$@"
"""


def _plain_about() -> dict[str, str]:
    return {name: about.replace("'", "") for name, about in COMMANDS.items()}


def _values(option: Option, command: str) -> tuple[str, ...]:
    """Return what the operand is one of, or nothing if that isn't known."""
    own = VALUES_OF.get(command, {}).get(option.name)
    return own or VALUES.get(option.name, ())


def _zsh_spec(option: Option, command: str) -> str:
    many = "*" if option.many else ""
    if not option.operand:
        return f"'{many}{option.name}'"
    action = "_files -/" if option.operand == "DIR" else "_files"
    values = _values(option, command)
    if values:
        action = f"({' '.join(values)})"
    elif option.operand not in PATHS:
        action = ""
    what = option.operand.lower().partition("[")[0] or "value"
    sign = "=-:" if option.optional else "="
    return f"'{many}{option.name}{sign}:{what}:{action}'"


def _fish() -> str:
    lines = ["complete -c nono -f"]
    lines += [
        f"complete -c nono -n __fish_use_subcommand -a {name} -d '{about}'"
        for name, about in _plain_about().items()
    ]
    for command, given in of_commands().items():
        within = f"complete -c nono -n '__fish_seen_subcommand_from {command}'"
        lines += [
            f"{within} -l {option.name[2:]}{_fish_operand(option, command)}" for option in given
        ]
    for command in COMMANDS:
        within = f"complete -c nono -n '__fish_seen_subcommand_from {command}'"
        words = _words().get(command)
        lines.append(f"{within} -a '{' '.join(words)}'" if words else f"{within} -F")
    return "\n".join(lines) + "\n"


def _fish_operand(option: Option, command: str) -> str:
    # Of an operand that may be left out, fish would ask for one.
    if not option.operand or option.optional:
        return ""
    values = _values(option, command)
    if values:
        return f" -x -a '{' '.join(values)}'"
    if option.operand == "DIR":
        return " -x -a '(__fish_complete_directories)'"
    return " -r -F" if option.operand in PATHS else " -x"
