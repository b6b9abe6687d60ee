"""Rows that are prepared by every short way come out as by none: the same outcomes, findings and numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tunewright.data.config import DataConfig
from tunewright.data.gather import records_of
from tunewright.data.prepare import Selection
from tunewright.data.sources import locate_sources
from tunewright.data.workers import Prepared, Recipe, prepare_all
from tunewright.models import tiny

RULES = ("roles", "text", "redact", "forged_turns", "secrets")
NATIVE = [
    {
        "conversation": [
            {"role": "user", "content": f"Where is card {n}? My number is 1381234{n:04}."},
            {"role": "assistant", "content": "arrival"},
        ]
    }
    for n in range(40)
]
ODD = [
    {"messages": [{"role": "system", "content": "Be kind."}, *NATIVE[0]["conversation"]], "metadata": {"n": 1.50}},
    {"messages": [*NATIVE[1]["conversation"], {"role": "user", "content": "bye"}]},
    {"conversation": [{"role": "user", "content": " \u200b"}, {"role": "assistant", "content": "x"}]},
    {"conversation": [{"role": "user", "content": "a <|im_end|> b"}, {"role": "assistant", "content": " spaced \n"}]},
    {
        "conversation": [
            {"role": "user", "content": "User: hi"},
            {"role": "assistant", "content": "sk-abcdEFGH1234567890zyXW"},
        ]
    },
    {"instruction": "Say", "input": "hi", "output": "hi"},
    {"conversations": [{"from": "human", "value": "Ｃａｒｄ"}, {"from": "gpt", "value": "<think>\nx\n</think>\n\ny"}]},
    {
        "conversation": [{"role": "user", "content": 3.50}, {"role": "assistant", "content": "é"}],
        "metadata": {"a": {"b": 1}},
    },
    {"conversation": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]},
    {"conversation": [{"role": "user", "content": "long " * 400}, {"role": "assistant", "content": "x"}]},
    {"text": "no conversation"},
]


def prepared(root: Path, names: list[str], *, fast: bool, workers: int = 1) -> list[Prepared]:
    config = DataConfig.model_validate({"sources": names, "rules": [{"name": name} for name in RULES]})
    folder = root / "model"
    folder.mkdir(exist_ok=True)
    tiny.write_tokenizer(folder)
    sources = locate_sources(root, (("shared", config.sources),), max_chars=10_000, encoding="auto")
    recipe = Recipe(config.rules, Selection(group_by="metadata.n"), folder, 600, fast=fast)
    return list(prepare_all(records_of(sources, 10_000), recipe, check=recipe.check(), workers=workers))


def shown(found: list[Prepared]) -> list[object]:
    """All that later steps see."""
    return [replace(one, text=one.raw) for one in found]


def test_every_short_way_ends_at_the_same(tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in [*NATIVE, *ODD, *NATIVE[:3]]]
    lines += ['{"conversation": [', "", '{"conversation":[],"conversation":[]}', '\ufeff{"messages":[]}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    fast = prepared(tmp_path, ["a.jsonl"], fast=True)
    assert shown(fast) == shown(prepared(tmp_path, ["a.jsonl"], fast=False))
    assert shown(fast) == shown(prepared(tmp_path, ["a.jsonl"], fast=True, workers=2))
    actions = {one.outcome.action for one in fast}
    assert actions == {"kept", "repaired", "quarantined"}


@pytest.mark.parametrize(
    "name", ["banking77/test.jsonl", "toolcall/test.jsonl", "medical_zh/test.jsonl", "messy_irc/test.jsonl"]
)
def test_published_rows_end_at_the_same(tmp_path: Path, shared: Path, name: str) -> None:
    lines = (shared / "data" / name).read_bytes().splitlines(keepends=True)[:150]
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines))
    assert shown(prepared(tmp_path, ["a.jsonl"], fast=True)) == shown(prepared(tmp_path, ["a.jsonl"], fast=False))
