"""A checkpoint is whole or it does not count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.train.checkpoint import drop_since, is_whole, keep, last_whole, mark_whole


def make(folder: Path, step: int, *, mark: bool = True, best: int | None = None) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"w" * step)
    (checkpoint / "state.json").write_text("{}")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
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


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.rsplit("-")[-1]) for path in folder.iterdir())


def test_the_newest_stay_and_the_best_that_each_of_them_knows(tmp_path: Path) -> None:
    """A resume from 40 must still find 10, its best one, although 50 has a better one by now."""
    for step, best in ((10, 10), (20, 10), (30, 10), (40, 10), (50, 50)):
        make(tmp_path, step, best=best)
    keep(tmp_path, newest=2)
    assert steps(tmp_path) == [10, 40, 50]
    keep(tmp_path, newest=1)
    assert steps(tmp_path) == [50]


def test_no_checkpoint_goes_for_one_that_is_not_whole_yet(tmp_path: Path) -> None:
    make(tmp_path, 10)
    make(tmp_path, 20, mark=False)
    keep(tmp_path, newest=1)
    assert steps(tmp_path) == [10, 20]


def test_bad_weights_go(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        make(tmp_path, step)
    drop_since(tmp_path, 20)
    assert steps(tmp_path) == [10]
