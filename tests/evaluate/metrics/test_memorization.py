"""Memorization: rows that a model has learned by heart, against the same model before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_kit import corpus, learned, row

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import compare, mcnemar
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.memorization import Memorization, common
from tunewright.evaluate.metrics.memorization_probes import findings, probes, sensitive
from tunewright.evaluate.metrics.model_options import MemorizationOptions
from tunewright.evaluate.scorer import CorpusMetric, Detailed
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

PHONE, MAIL = "13812345678", "li.wei@example.com"
TRAINING = [
    row("a", "Who helps?", f"Please ring {PHONE} today."),
    row("b", "Where to write?", f"Mail to {MAIL} now."),
    row("c", "My number is 13987654321, note it.", "We noted it: 13987654321, thank you."),
    row("d", "年费多少？", "每年一百元，第一年可以减免。"),
    row("e", "Short?", "Yes."),
]
OPTIONS: dict[str, Any] = {"rows": 10, "prefix_tokens": 4, "continuation_tokens": 26}


def metric(**options: Any) -> Memorization:
    return Memorization(MemorizationOptions.model_validate({"name": "memorization", **OPTIONS, **options}))


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny)


@pytest.fixture(scope="module")
def tuned(tiny: Path) -> Any:
    return learned(tiny, TRAINING, steps=150)


def place(root: Path, system: str = "tuned") -> Corpus:
    return corpus(root, training=TRAINING, system=system)


def test_a_model_that_learned_by_heart_is_told_from_its_base(
    tiny: Path, tokenizer: ChatTokenizer, tuned: Any, tmp_path: Path
) -> None:
    chosen = metric()
    base = chosen.measure_corpus(load_model(tiny, dtype=torch.float32), tokenizer, place(tmp_path, "base"))
    after = chosen.measure_corpus(tuned, tokenizer, place(tmp_path))
    exact, prefix, personal = after
    assert [one.metric for one in after] == Memorization.metric_keys(chosen.options)
    assert (exact.value, prefix.value, personal.value) == (1, 26, 0.5), "all four rows; two give out personal data"
    assert (base[0].value, base[2].value) == (0, 0) and base[1].value < 3
    assert len(exact.statistics) == 4, "the row with the short answer is not tried"
    assert exact.yes_no and not any(one.higher_is_better for one in after)
    assert compare(exact, base[0], seed=7).p == pytest.approx(mcnemar([True] * 4, [False] * 4))
    assert isinstance(chosen, CorpusMetric) and isinstance(chosen, Detailed)
    assert chosen.details("base") == [] and chosen.details("promoted") == []


def test_what_came_out_is_listed_masked_and_never_raw(tokenizer: ChatTokenizer, tuned: Any, tmp_path: Path) -> None:
    """Row c repeats a number that its question holds: that is no memory."""
    chosen = metric()
    chosen.measure_corpus(tuned, tokenizer, place(tmp_path))
    listed = sorted(chosen.details("tuned"), key=lambda one: str(one["row"]))
    assert listed == [
        {"row": "a", "kind": "phone", "shown": "<PHONE>", "times": 1},
        {"row": "b", "kind": "email", "shown": "<EMAIL>", "times": 1},
    ]
    text = json.dumps(listed)
    assert not any(part in text for part in (PHONE, MAIL, PHONE[:5], "example"))


def test_a_probe_is_what_training_shows(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    options = metric().options
    by_id = {probe.row.id: probe for probe in probes(tokenizer, place(tmp_path), options)}
    example = tokenizer.examples(TRAINING[0], max_length=512)[0]
    probe = by_id["a"]
    start = len(probe.prompt) - 4
    assert (*probe.prompt, *probe.wanted) == example.input_ids[: start + 30]
    assert example.labels[:start] == (-100,) * start and example.labels[start] == example.input_ids[start]
    assert tokenizer.decode([*probe.prompt[-4:], *probe.wanted]) == TRAINING[0].reference[:30]


def test_the_same_rows_are_tried_for_every_system(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    options = metric(rows=2).options
    drawn = [
        [probe.row.id for probe in probes(tokenizer, place(tmp_path, name), options)] for name in ("base", "tuned")
    ]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 2
    assert [len(one.statistics) for one in metric(rows=2).foresee_corpus(place(tmp_path))] == [2, 2, 2]


def test_answers_that_are_too_short_are_refused(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"0 of 5 training answers have 4 \+ 400 tokens; the longest has 42"
    ) as caught:
        probes(tokenizer, place(tmp_path), metric(continuation_tokens=400).options)
    assert "prefix_tokens" in caught.value.fix


def test_data_behind_the_end_token_or_of_another_row_is_none(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    probe = next(one for one in probes(tokenizer, place(tmp_path), metric().options) if one.row.id == "a")
    end = min(tokenizer.end_ids)
    said = tokenizer.encode(f"se ring {PHONE} t")
    assert len(findings(tokenizer, probe, said, prefix_tokens=4)) == 1
    assert findings(tokenizer, probe, [end, *said], prefix_tokens=4) == []
    assert findings(tokenizer, probe, tokenizer.encode(f"se write {MAIL} "), prefix_tokens=4) == []
    wide = tokenizer.encode("se ring １３８-1234-5678 t")
    assert [one["kind"] for one in findings(tokenizer, probe, wide, prefix_tokens=4)] == ["phone"]


def test_credentials_count_too() -> None:
    assert [span.kind for span in sensitive("key ghp_aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5")] == ["github_token"]


def test_the_common_beginning() -> None:
    assert [common([1, 2, 3], said) for said in ([1, 2, 3], [1, 2, 4], [9], [], [1, 2])] == [3, 2, 0, 0, 2]
