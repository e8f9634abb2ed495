"""Names that are guarded wherever a grant that may be written begins, and in a workspace anywhere.

A name is here if a program of the person's that opens the directory, or is started in it, runs what
stands there, or lets others run by it, without asking about its content: an editor's tasks and
the programs its settings name, an agent's hooks, MCP servers and permissions, what a shell, a
debugger or an interpreter sources, hooks that commands like `git commit` run, and settings by which
a package manager loads programs or sends credentials elsewhere. To ask once whether a directory is
trusted doesn't count as asking: most remember the answer, whatever is planted afterwards.

What isn't here: instructions to agents (`AGENTS.md`, skills), which are the agent's to edit and run
nothing by themselves; what a person runs knowingly (`Makefile`, `package.json`, tests); and code
that belongs to the project though editors load it (ESLint's configuration, build scripts).

Many directories find a file by names that aren't written as its own is: in another case (FAT and
APFS, ext4 where somebody said so), and by letters that fold to those (APFS, ext4). `spelled` says
what may be found by a guarded name in any of them; `spelling` asks the directory.

Architecture invariant: this module is data and does no I/O.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_EDITOR = "an editor's settings, which can run commands"
_AGENT = "an agent's settings, which can run commands"
_SHELL = "what a shell runs on entering the directory"
_OTHER_VCS = "settings of a version control system, which can run commands"

TABLE: dict[str, str] = {
    _EDITOR: (
        ".vscode *.code-workspace .idea .run .zed .fleet .devcontainer .devcontainer.json .theia "
        ".nova .vim .nvim .nvimrc .exrc .vimrc .nvim.lua .lazy.lua .vimspector.json .dir-locals.el "
        ".dir-locals-2.el .helix *.sublime-project"
    ),
    _AGENT: (
        ".mcp.json .claude .codex .cursor .gemini .qwen .windsurf .continue .aider.conf.yml "
        ".cline .roo .kiro .amp .opencode opencode.json opencode.jsonc .copilot .amazonq .junie "
        ".trae .augment .factory .crush .crush.json crush.json .kilocode .qoder .rovodev .iflow "
        ".abacusai"
    ),
    _SHELL: (
        ".envrc .env.nu mise.toml .mise.toml mise.*.toml .mise.*.toml .mise .autoenv .autoenv.zsh "
        ".autoenv_leave.zsh"
    ),
    "hooks that Git runs by way of a tool": (
        ".husky .huskyrc .huskyrc.json .huskyrc.yaml .huskyrc.yml .huskyrc.js .huskyrc.cjs "
        ".githooks .pre-commit-config.yaml .pre-commit-hooks.yaml .overcommit.yml captainhook.json "
        ".simple-git-hooks.json simple-git-hooks.json .simple-git-hooks.js simple-git-hooks.js "
        ".simple-git-hooks.cjs simple-git-hooks.cjs .simple-git-hooks.mjs simple-git-hooks.mjs "
        ".lefthook .lefthook-local grumphp.yml grumphp.yml.dist"
    ),
    "hooks that Git runs by way of lefthook": (
        "lefthook.yml lefthook.yaml lefthook.toml lefthook.json lefthook.jsonc "
        ".lefthook.yml .lefthook.yaml .lefthook.toml .lefthook.json .lefthook.jsonc "
        "lefthook-local.yml lefthook-local.yaml lefthook-local.toml lefthook-local.json "
        "lefthook-local.jsonc .lefthook-local.yml .lefthook-local.yaml .lefthook-local.toml "
        ".lefthook-local.json .lefthook-local.jsonc"
    ),
    "commands that lint-staged runs in a hook of Git's": (
        ".lintstagedrc .lintstagedrc.json .lintstagedrc.yaml .lintstagedrc.yml .lintstagedrc.js "
        ".lintstagedrc.mjs .lintstagedrc.cjs .lintstagedrc.ts .lintstagedrc.mts .lintstagedrc.cts "
        "lint-staged.config.js lint-staged.config.mjs lint-staged.config.cjs lint-staged.config.ts "
        "lint-staged.config.mts lint-staged.config.cts"
    ),
    "a package manager's settings, which name registries and programs": (
        ".npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs .pnpmfile.mjs .bunfig.toml bunfig.toml pip.conf "
        ".pip .pypirc .cargo .netrc .condarc .bundle"
    ),
    "a debugger's start-up file": ".gdbinit .lldbinit .pdbrc .perldb",
    "an interpreter's start-up file": (
        ".Rprofile .Renviron .ghci .ocamlinit .irbrc .pryrc .iex.exs .erlang"
    ),
}
"""What is guarded, and its names; a `*` stands for any characters, once in a name."""

INNER: dict[str, dict[str, str]] = {
    ".github": {"hooks": "hooks that an agent runs"},
    ".config": {"mise": _SHELL, "mise.toml": _SHELL, "mise.*.toml": _SHELL},
    ".hg": {"hgrc": _OTHER_VCS, "hgrc-not-shared": _OTHER_VCS, "sharedpath": _OTHER_VCS},
    ".sl": {"config": _OTHER_VCS, "sharedpath": _OTHER_VCS},
    ".pijul": {"config": _OTHER_VCS},
}
"""Directories of which some names are guarded, and the rest isn't: nor are symlinks for them."""
AROUND = "a directory in which names are guarded"


class _Names:
    """Names, looked up fast where most are none of them."""

    def __init__(self, table: Iterable[tuple[str, str]], others: Iterable[str] = ()) -> None:
        self._whole = {name: what for name, what in table if "*" not in name}
        self._parts = [(*name.split("*"), what) for name, what in table if "*" in name]
        self._ends = tuple(end for _, end, _ in self._parts)
        self._written = {name.lower(): name for name in (*self._whole, *others)}

    def what(self, name: str) -> str:
        """Return what is guarded by the name *name*, or nothing."""
        found = self._whole.get(name)
        if found is not None:
            return found
        if not name.endswith(self._ends):
            return ""
        for start, end, what in self._parts:
            if len(name) >= len(start) + len(end) and name.startswith(start) and name.endswith(end):
                return what
        return ""

    def spelled(self, name: str) -> str:
        """Return which of these names, or of the others, may find *name*; else *name* itself."""
        low = folded(name)
        found = self._written.get(low)
        if found is not None:
            return found
        if low == name or not self.what(low) or self.what(name):
            return name
        return next(
            f"{start}{_without(name, start, end)}{end}"
            for start, end, _ in self._parts
            if low.startswith(start) and low.endswith(end)
        )


def _without(name: str, start: str, end: str) -> str:
    """Return what is left of *name* between what folds to *start* and to *end*."""
    first = next(at for at in range(len(name) + 1) if folded(name[:at]) == start)
    last = next(at for at in range(len(name), -1, -1) if folded(name[at:]) == end)
    return name[first:last]


_FOLDED = str.maketrans(
    {
        "\u017f": "s",
        "\u212a": "k",
        "\u00df": "ss",
        "\u1e9e": "ss",
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\ufb05": "st",
        "\ufb06": "st",
    }
)
"""Letters that fold to those of a guarded name (CaseFolding.txt of Unicode, C and F)."""
_IGNORED = frozenset(
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u200b\u200c\u200d\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2065\u2066\u2067\u2068\u2069\u206a\u206b"
    "\u206c\u206d\u206e\u206f\u3164\ufe00\ufe01\ufe02\ufe03\ufe04\ufe05\ufe06\ufe07\ufe08\ufe09\ufe0a\ufe0b"
    "\ufe0c\ufe0d\ufe0e\ufe0f\ufeff\uffa0\ufff0\ufff1\ufff2\ufff3\ufff4\ufff5\ufff6\ufff7\ufff8\U0001bca0"
    "\U0001bca1\U0001bca2\U0001bca3\U0001d173\U0001d174\U0001d175\U0001d176\U0001d177\U0001d178"
    "\U0001d179\U0001d17a"
)
"""What counts for nothing in a name (Default_Ignorable_Code_Point), to ext4 and to HFS+."""
_ODD = _IGNORED.union(map(chr, _FOLDED))
_IGNORED_FIRST, _IGNORED_LAST = "\U000e0000", "\U000e0fff"


def folded(name: str) -> str:
    """Return *name* in small letters, without what counts for nothing in it."""
    if name.isascii() or (_ODD.isdisjoint(name) and max(name) < _IGNORED_FIRST):
        return name.lower()
    kept = [
        char
        for char in name.translate(_FOLDED)
        if char not in _IGNORED and not _IGNORED_FIRST <= char <= _IGNORED_LAST
    ]
    return "".join(kept).lower()


_NAMES = _Names(
    [(name, what) for what, names in TABLE.items() for name in names.split()], (".git", *INNER)
)
_INNER = {around: _Names(list(names.items())) for around, names in INNER.items()}

what = _NAMES.what
spelled = _NAMES.spelled


def spelled_inside(around: str, name: str) -> str:
    """Return which guarded name may find *name* in a directory *around* it; or *name* itself."""
    return _INNER[around].spelled(name)


def is_git(name: str) -> bool:
    """Tell whether Git looks for its repository by the name *name*."""
    return name == ".git"


def is_around(name: str) -> bool:
    """Tell whether *name* is that of a directory in which some names are guarded."""
    return name in INNER


def what_inside(around: str, name: str) -> str:
    """Return what is guarded by the name *name* in a directory *around* it; or nothing."""
    inner = _INNER.get(around)
    return "" if inner is None else inner.what(name)


def what_of(directory: Sequence[str], name: str) -> str:
    """Return what is guarded by the name *name* in a *directory*, or nothing."""
    return what(name) or (what_inside(directory[-1], name) if directory else "")


def guarded(present: Iterable[str]) -> list[str]:
    """Return those of the names *present* that are guarded, or around such names."""
    return [name for name in present if what(name) or is_around(name)]


def guards(parts: Sequence[str]) -> bool:
    """Tell whether something is guarded on the way that *parts* go."""
    return any(map(what, parts)) or any(map(what_inside, parts, parts[1:]))


GIT = "settings of Git, which can run commands"
HOOK = "a hook that Git runs"
REPOSITORY = "the repository itself"
