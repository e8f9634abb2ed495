"""Which lines of a repository's Git configuration could make Git run or trust something.

Settings known to be harmless are listed; every other one counts, and so does every line that this
reads otherwise than in one plain way. Specified by git-config(1).

Architecture invariant: pure. It may call harmless what is, and never what isn't.
"""

from __future__ import annotations

import re

CONFIG_BYTES_MAX = 256 * 1024

_HEADER = re.compile(r'\[([A-Za-z0-9-]+)(?: +"((?:[^"\\]|\\["\\])*)")?\]')
_SETTING = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*(?:=[ \t]*(.*))?", re.DOTALL)
_FLAG = re.compile(r"|true|false|yes|no|on|off|[01]", re.IGNORECASE)
# Not a helper's ("ext::sh -c ..."), nor what a program would take for an option.
# What begins as a path is one, and may hold spaces.
_URL = re.compile(r'"?(?!-)(?![A-Za-z0-9+.-]+::)[^\s"\\]+"?|"?\.{0,2}/[^\t\n"\\#;]+"?')
_NAME = r"\.?[A-Za-z0-9_@+-][A-Za-z0-9_@+. -]*"
_BENEATH = re.compile(rf"((?:\.\./)+)(?:{_NAME}/)*{_NAME}")

_FREE = (
    # Sections of which every plain setting is harmless.
    "user author committer advice color column init push fetch pull rebase tag status stash "
    "rerere gc maintenance pack index feature branch i18n versionsort blame log"
)
_KEYS = {
    "core": (
        "repositoryformatversion filemode bare logallrefupdates ignorecase precomposeunicode "
        "symlinks autocrlf eol safecrlf sparsecheckout sparsecheckoutcone untrackedcache abbrev "
        "quotepath compression bigfilethreshold longpaths protecthfs protectntfs trustctime "
        "checkstat sharedrepository whitespace commentchar multipackindex commitgraph preloadindex"
    ),
    "extensions": (
        "worktreeconfig objectformat refstorage partialclone noop compatobjectformat "
        "relativeworktrees preciousobjects"
    ),
    "remote": (
        "fetch push tagopt mirror prune prunetags skipdefaultupdate skipfetchall promisor "
        "partialclonefilter followremotehead"
    ),
    "submodule": "active branch ignore fetchrecursesubmodules recurse shallow",
    "merge": "ff conflictstyle log renames renamelimit stat autostash verbosity branchdesc",
    "commit": "gpgsign verbose status cleanup",
    "diff": (
        "algorithm renames renamelimit mnemonicprefix noprefix colormoved colormovedws context "
        "submodule interhunkcontext statgraphwidth ignoresubmodules indentheuristic"
    ),
    "lfs": "repositoryformatversion",
}
_VALUES = {
    ("core", "fsmonitor"): _FLAG,
    ("remote", "url"): _URL,
    ("remote", "pushurl"): _URL,
    ("submodule", "url"): _URL,
    ("branch", "remote"): _URL,
    ("branch", "pushremote"): _URL,
    ("submodule", "update"): re.compile(r"checkout|rebase|merge|none"),
}
_HARMFUL = {
    # Of the free sections, those that name a program, a file or a place.
    ("gc", "recentobjectshook"),
    ("init", "templatedir"),
    ("blame", "ignorerevsfile"),
    ("fetch", "bundleuri"),
    ("pull", "octopus"),
    ("pull", "twohead"),
}
_LFS = {
    "clean": "git-lfs clean -- %f",
    "smudge": "git-lfs smudge -- %f",
    "process": "git-lfs filter-process",
    "required": "true",
}
"""What `git lfs install --local` writes."""


def dangers(data: bytes, depth: int) -> frozenset[str]:
    """Return what of the configuration *data* isn't known to be harmless, a text a setting.

    *depth* is how many directories above the one that holds it are guarded too: a working tree
    may be named within those.
    """
    if len(data) > CONFIG_BYTES_MAX or b"\0" in data:
        return frozenset({"it is no configuration"})
    found = set()
    section, subsection = "", ""
    for number, line in enumerate(data.decode("latin-1").split("\n")):
        text = line.strip(" \t\r")
        if not text or text[0] in "#;":
            continue
        header = _HEADER.fullmatch(text)
        if header is not None:
            section, subsection = header[1].lower(), header[2] or ""
            continue
        setting = _SETTING.fullmatch(text)
        # A line that goes on in the next one might hold anything there.
        if setting is None or not section or text.endswith("\\"):
            found.add(f"line {number + 1}: {text}")
            continue
        key, value = setting[1].lower(), setting[2] or ""
        if not _harmless(section, subsection, key, value, depth):
            name = f"{section}.{subsection}.{key}" if subsection else f"{section}.{key}"
            found.add(f"{name}={value}")
    return frozenset(found)


def _harmless(section: str, subsection: str, key: str, value: str, depth: int) -> bool:
    if section == "filter" and subsection == "lfs":
        return _LFS.get(key) == value
    if (section, key) == ("core", "worktree"):
        beneath = _BENEATH.fullmatch(value)
        return beneath is not None and beneath[1].count("../") <= depth
    if subsection and section not in ("branch", "remote", "submodule", "color", "advice"):
        return False
    pattern = _VALUES.get((section, key))
    if pattern is not None:
        return pattern.fullmatch(value) is not None
    if section in _FREE.split():
        return (section, key) not in _HARMFUL
    return key in _KEYS.get(section, "").split()
