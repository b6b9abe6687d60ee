"""A checkpoint is whole or it does not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.train.checkpoint import is_whole, last_whole, mark_whole


def make(folder: Path, step: int, *, mark: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"w" * step)
    (checkpoint / "state.json").write_text("{}")
    if mark:
        mark_whole(checkpoint)
    return checkpoint


def test_the_newest_whole_one_is_found_and_broken_ones_go(tmp_path: Path) -> None:
    good, half = make(tmp_path, 9), make(tmp_path, 100, mark=False)
    assert last_whole(tmp_path) == good
    assert not half.exists()
    assert last_whole(tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "mark"])
def test_damage_shows(tmp_path: Path, damage: str) -> None:
    checkpoint = make(tmp_path, 5)
    assert is_whole(checkpoint)
    match damage:
        case "cut":
            (checkpoint / "weights").write_bytes(b"ww")
        case "changed":
            (checkpoint / "weights").write_bytes(b"vwwww")
        case "missing":
            (checkpoint / "state.json").unlink()
        case "mark":
            (checkpoint / "whole.json").write_text('{"weights":')
    assert not is_whole(checkpoint)
    assert last_whole(tmp_path) is None
