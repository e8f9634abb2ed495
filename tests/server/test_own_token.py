"""A token in a file of the person's: whose it has to be, and that it stays."""

import functools
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nono_mcp.server import own_token
from nono_mcp.server.errors import ServeError

TOKEN = "t" * own_token.CHARACTERS_MIN
LONGEST = "t" * own_token.CHARACTERS_MAX


def with_token(path: Path) -> Path:
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mask", [0o022, 0o277])
def test_one_is_made_for_its_owner_alone_and_stays(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "token"
    usual = os.umask(mask)
    try:
        made = own_token.read_or_make(str(path))
    finally:
        os.umask(usual)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"{made}\n"
    assert own_token.read_or_make(str(path)) == made
    assert own_token.read_or_make(str(with_token(tmp_path / "mine"))) == TOKEN
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "token"]


def hard_link(path: Path) -> None:
    path.hardlink_to(with_token(path.with_name("other")))


def soft_link(path: Path) -> None:
    path.symlink_to(with_token(path.with_name("other")))


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("none"))


def open_to_others(path: Path, mode: int) -> None:
    with_token(path).chmod(mode)


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a hard link": (hard_link, "another name"),
    "a symlink": (soft_link, "Too many levels"),
    "a symlink to nothing": (dangling_link, "Too many levels"),
    "a directory": (Path.mkdir, "no regular file"),
    "a fifo": (os.mkfifo, "no regular file"),
    **{
        f"mode {mode:o}": (functools.partial(open_to_others, mode=mode), "others may read or write")
        for mode in (0o640, 0o620, 0o604, 0o602, 0o601, 0o777)
    },
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_isnt_the_persons_alone_is_refused(tmp_path: Path, planted: str) -> None:
    act, told = PLANTED[planted]
    act(tmp_path / "token")
    before = sorted(one.name for one in tmp_path.iterdir())
    with pytest.raises(ServeError, match=told):
        own_token.read_or_make(str(tmp_path / "token"))
    assert sorted(one.name for one in tmp_path.iterdir()) == before


def test_anothers_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_token(tmp_path / "token")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(ServeError, match="somebody else"):
        own_token.read_or_make(str(path))


@pytest.mark.parametrize(
    "text",
    ["", "\n", "short\n", TOKEN[1:], f"{TOKEN} x\n", f"{TOKEN}\n\n", f"{TOKEN}\nx", f" {TOKEN}",
     f"{TOKEN}\u00e9", "t" * (own_token.CHARACTERS_MAX + 1), f"{LONGEST}\nx"],
)  # fmt: skip
def test_what_holds_no_token_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = with_token(tmp_path / "token")
    path.write_text(text)
    with pytest.raises(ServeError, match="holds no token") as caught:
        own_token.read_or_make(str(path))
    assert not text.strip() or text.strip() not in str(caught.value)
    assert path.read_text() == text


@pytest.mark.parametrize("text", [TOKEN, f"{LONGEST}\n"])
def test_where_one_is_none_needs_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Its directory may be one that nothing can be made in."""
    path = with_token(tmp_path / "token")
    path.write_text(text)
    monkeypatch.setattr(own_token, "_make", lambda _: pytest.fail("one is there"))
    assert own_token.read_or_make(str(path)) == text.rstrip()


def test_where_none_can_be_made_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="No such file"):
        own_token.read_or_make(str(tmp_path / "none" / "token"))


def test_those_who_make_one_at_once_have_the_same(tmp_path: Path) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append(own_token.read_or_make(str(tmp_path / "token")))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["token"]
