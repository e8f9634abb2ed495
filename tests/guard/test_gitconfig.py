"""Which settings of Git are harmless, and that nothing is read more kindly than Git reads it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nono_mcp.guard.gitconfig import CONFIG_BYTES_MAX, dangers

if TYPE_CHECKING:
    from pathlib import Path

DANGEROUS = [
    '[core]\n\tfsmonitor = "touch /tmp/x"',
    "[core] fsmonitor = evil",
    "[CORE]\nFsMonitor=evil",
    "[core]\n\thooksPath = ../evil",
    "[core]\n\tsshCommand = evil",
    "[core]\n\tpager = evil",
    "[core]\n\teditor = evil",
    "[core]\n\tgitProxy = evil",
    "[core]\n\taskPass = evil",
    "[core]\n\tattributesFile = evil",
    "[core]\n\texcludesFile = evil",
    "[core]\n\talternateRefsCommand = evil",
    "[core]\n\tworktree = /etc",
    "[core]\n\tworktree = ../../../../etc",
    "[core]\n\tworktree = ../sub/../../../etc",
    "[core]\n\tworktree = ../" + "a" * 100_000 + "!",
    '[filter "x"]\n\tclean = evil',
    '[filter "lfs"]\n\tclean = evil',
    '[diff "x"]\n\tcommand = evil',
    '[diff "x"]\n\ttextconv = evil',
    "[diff]\n\texternal = evil",
    '[merge "x"]\n\tdriver = evil',
    "[alias]\n\tst = !evil",
    "[alias]\n\tst = -c core.pager=evil log",
    "[credential]\n\thelper = evil",
    '[credential "https://example.com"]\n\thelper = !evil',
    "[include]\n\tpath = ../evil",
    '[includeIf "gitdir:/"]\n\tpath = ../evil',
    "[gpg]\n\tprogram = evil",
    '[gpg "ssh"]\n\tdefaultKeyCommand = evil',
    "[pager]\n\tlog = evil",
    "[sequence]\n\teditor = evil",
    '[url "ext::evil"]\n\tinsteadOf = https://example.com',
    '[remote "origin"]\n\turl = ext::sh -c evil',
    '[remote "origin"]\n\turl = "ext::sh -c evil"',
    '[remote "origin"]\n\turl = --upload-pack=evil',
    '[remote "origin"]\n\turl = ext:: /x evil',
    '[remote "origin"]\n\turl = x ext::/sh',
    '[remote "origin"]\n\tuploadpack = evil',
    '[remote "origin"]\n\tvcs = evil',
    '[remote "origin"]\n\tproxy = evil',
    '[submodule "x"]\n\tupdate = !evil',
    "[uploadpack]\n\tpackObjectsHook = evil",
    "[gc]\n\trecentObjectsHook = evil",
    "[init]\n\ttemplateDir = evil",
    "[interactive]\n\tdiffFilter = evil",
    '[difftool "x"]\n\tcmd = evil',
    '[mergetool "x"]\n\tcmd = evil',
    "[sendemail]\n\tsmtpServer = /evil",
    "[http]\n\tsslVerify = false",
    "[http]\n\tproxy = evil",
    "[protocol]\n\tallow = always",
    "[safe]\n\tdirectory = *",
    '[tar "x"]\n\tcommand = evil',
    '[trailer "x"]\n\tcommand = evil',
    "[user]\n\tname = a\\\n[core]\n\tfsmonitor = evil",
    "[user]\n\tname = a \\\n",
    "[core.x]\nfsmonitor = evil",
    "fsmonitor = evil",
    "[core]\rfsmonitor = evil",
    "[user]\n\tname = \0",
    "x" * (CONFIG_BYTES_MAX + 1),
]
HARMLESS = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
\tworktree = ../../../lib/sub
\tfsmonitor = true
[user]
\tname = Ann O'Nymous
\temail = "ann@example.com"
[remote "origin"]
\turl = https://example.com/x.git
\tfetch = +refs/heads/*:refs/remotes/origin/*
\tpushurl = git@example.com:ann/x.git
[remote "local"]
\turl = ../x
[branch "main"]
\tremote = origin
\tmerge = refs/heads/main
\trebase = true
[submodule "lib/sub"]
\tactive = true
\turl = /srv/sub
[extensions]
\tworktreeConfig = true
[filter "lfs"]
\tclean = git-lfs clean -- %f
\tsmudge = git-lfs smudge -- %f
\tprocess = git-lfs filter-process
\trequired = true
# a comment
; another
[pull]
\trebase
"""


@pytest.mark.parametrize("text", DANGEROUS)
def test_a_setting_that_runs_or_trusts_something_is_told(text: str) -> None:
    assert dangers(text.encode("latin-1"), 1)


def test_what_everyday_commands_write_is_harmless() -> None:
    assert dangers(HARMLESS.encode(), 3) == frozenset()
    assert dangers(b"", 1) == frozenset()
    assert dangers(HARMLESS.replace("\n", "\r\n").encode(), 3) == frozenset()


def read_by_git(path: Path) -> dict[str, str]:
    """Return the settings as Git itself reads them; none of what it takes for broken."""
    command = ["git", "config", "--file", str(path), "--null", "--list"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        return {}
    pairs = (entry.partition(b"\n") for entry in done.stdout.split(b"\0") if entry)
    return {key.decode("latin-1"): value.decode("latin-1") for key, _, value in pairs}


PIECES = [
    "[core]", "[user]", "[alias]", '[filter "x"]', "[core", "]", "fsmonitor", "name", "pager",
    "clean", " = ", "=", "evil", '"', "\\", "\\\n", "\n", "\r", "\r\n", "\t", " ", "#", ";", "!",
    "\ufeff", "\x0b", "\x0c", "true", "x.y", "[core.x]", '[core "', "\\n", "é",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@example(text="[user]\nname = a\\\r\n[core]\nfsmonitor = evil\n")
@example(text='[core "]\n[user]\n"]fsmonitor=evil\n')
@given(text=st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_git_finds_nothing_dangerous_in_what_is_called_harmless(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    data = text.encode()
    if dangers(data, 1):
        return
    path = tmp_path_factory.getbasetemp() / f"config-{os.getpid()}"
    path.write_bytes(data)
    for key, value in read_by_git(path).items():
        section = key.partition(".")[0]
        assert section not in ("alias", "filter", "diff"), (key, value)
        assert key not in ("core.pager", "core.editor"), (key, value)
        if key == "core.fsmonitor":
            assert value in ("", "true")
