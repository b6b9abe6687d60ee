"""The report of a data artifact, as JSON and as a page with samples as they will be trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from tunewright.core import files
from tunewright.data.page.page import page
from tunewright.data.show import View, sample_views
from tunewright.models.tokens import ChatTokenizer

REPORT = "report.json"
PAGE = "report.html"
_SAMPLES = 6


def publish(folder: Path, report: dict[str, Any], *, tokenizer: ChatTokenizer, seed: int) -> None:
    """Writes report.json and report.html into the artifact's folder, whose splits are written already."""
    files.write_json(folder / REPORT, report)
    views = _views(folder / "train.jsonl", tokenizer, max_length=report["tokens"]["max_length"], seed=seed)
    files.write_text(folder / PAGE, page(report, views, title="Data"))


def _views(path: Path, tokenizer: ChatTokenizer, *, max_length: int, seed: int) -> list[View]:
    if not path.stat().st_size:
        return []  # the stage fails, but its report stands
    return sample_views(_rows(path), tokenizer, split="train", count=_SAMPLES, max_length=max_length, seed=seed)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as handle:
        yield from map(orjson.loads, handle)
