"""Directories of ours, made while others make the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_sandbox import private

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_another_makes_at_the_same_time_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below, make = tmp_path / "above" / "below", private.make_directory

    def make_with_another(path: str, parent: int | None = None, mode: int = 0o700) -> None:
        try:
            make(path, parent, mode)
        except FileNotFoundError:
            below.parent.mkdir()
            raise

    monkeypatch.setattr(private, "make_directory", make_with_another)
    private.ensure_directories(str(below))
    assert below.is_dir()
