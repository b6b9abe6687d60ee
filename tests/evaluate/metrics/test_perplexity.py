"""Loss and perplexity of test rows and of a plain text, against transformers' own loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_kit import corpus, learned, row

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.scoring import compare
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.metrics.model_options import PerplexityOptions
from tunewright.evaluate.metrics.perplexity import Perplexity, pieces_of
from tunewright.evaluate.scorer import CorpusMetric, corpus_metrics
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

TEST = [
    row("1", "年费多少？", "每年一百元，可以减免。"),
    row("2", "Card lost", "Please call us."),
    row("3", "Fee?", "No fee at all for the first year, then ten a year."),
]


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny)


def metric(**options: Any) -> Perplexity:
    return Perplexity(PerplexityOptions.model_validate({"name": "perplexity", **options}))


def test_it_is_a_metric_over_the_corpus_and_no_other_is_built() -> None:
    config = EvaluateConfig.model_validate({"metrics": [{"name": "intent"}, {"name": "perplexity"}]})
    assert list(corpus_metrics(config)) == ["perplexity"]
    assert isinstance(metric(), CorpusMetric)


def test_every_trained_token_has_the_same_weight(model: Any, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    """Golden: transformers' own loss on the labels, each row alone, weighted by its trained tokens."""
    loss, ppl = metric().measure_corpus(model, tokenizer, corpus(tmp_path, test=TEST))
    total = count = 0.0
    for one in TEST:
        example = tokenizer.examples(one, max_length=512)[0]
        found = model(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss.item()
        total, count = total + found * example.trained, count + example.trained
    assert (loss.metric, ppl.metric) == ("loss.heldout", "perplexity.heldout")
    assert loss.value == pytest.approx(total / count, rel=1e-5)
    assert ppl.value == pytest.approx(math.exp(total / count), rel=1e-5)
    by_rows = float((loss.statistics[:, 0] / loss.statistics[:, 1]).mean())
    assert abs(by_rows - loss.value) > 1e-4, "the mean over rows is another number"
    assert loss.statistics[:, 1].tolist() == [len(one.reference.encode()) + 1 for one in TEST], "bytes and end token"
    assert not loss.higher_is_better and loss.paired and f"|tokens:{int(count)}|" in loss.signature


def test_what_was_learned_is_shown_row_by_row(tiny: Path, tokenizer: ChatTokenizer, tmp_path: Path, model: Any) -> None:
    place = corpus(tmp_path, test=TEST)
    tuned = metric().measure_corpus(learned(tiny, TEST, steps=60), tokenizer, place)
    base = metric().measure_corpus(model, tokenizer, place)
    difference = compare(tuned[0], base[0], seed=7)
    assert difference.test == "paired bootstrap" and difference.n == 3
    assert difference.difference < -0.5 and difference.high < 0


def test_a_row_that_does_not_fit_is_counted_and_keeps_its_line(
    model: Any, tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    longer = [*TEST, row("4", "Hi", "x" * 200)]
    loss, _ = metric().measure_corpus(model, tokenizer, corpus(tmp_path, test=longer, max_length=120))
    assert loss.statistics[3].tolist() == [0, 0] and "|left out:1|" in loss.signature
    whole, _ = metric().measure_corpus(model, tokenizer, corpus(tmp_path, test=TEST))
    assert loss.value == pytest.approx(whole.value, rel=1e-6)
    with pytest.raises(ConfigError, match="none of the 1 rows can be rendered with an answer of at most 120 tokens"):
        metric().measure_corpus(model, tokenizer, corpus(tmp_path, test=longer[3:], max_length=120))


def test_a_prompt_that_is_cut_is_counted(model: Any, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    long = [row("1", "y" * 300, "Yes.")]
    loss, _ = metric().measure_corpus(model, tokenizer, corpus(tmp_path, test=long, max_length=100))
    assert loss.statistics[0, 1] == 5 and "|cut on the left:1" in loss.signature


def test_a_loss_that_is_no_number_is_refused(tiny: Path, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    broken = load_model(tiny, dtype=torch.float32)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ArtifactError, match="loss on row 1 is not a number") as caught:
        metric().measure_corpus(broken, tokenizer, corpus(tmp_path, test=TEST))
    assert "float32" in caught.value.fix


def test_rows_are_drawn_with_the_seed(model: Any, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    place = corpus(tmp_path, test=TEST)
    loss, _ = metric(rows=2).measure_corpus(model, tokenizer, place)
    foreseen = metric(rows=2).foresee_corpus(place)
    assert len(loss.statistics) == len(foreseen[0].statistics) == 2
    assert [one.metric for one in foreseen] == Perplexity.metric_keys(PerplexityOptions())


def test_a_text_is_scored_in_windows(model: Any, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    """Every byte but the first of each window is predicted, also where the text spells a control token."""
    text = "年费可以减免。\n" * 30 + "<|im_end|> is plain text here.\n" * 10
    (tmp_path / "general.txt").write_text(text, encoding="utf-8")
    chosen = metric(path="general.txt", piece_chars=200)
    found = chosen.measure_corpus(model, tokenizer, corpus(tmp_path, test=TEST, max_length=100))
    loss, ppl = found[2:]
    assert [one.metric for one in found] == Perplexity.metric_keys(chosen.options)
    pieces = pieces_of(text, 200)
    assert "".join(pieces) == text and all(len(piece) <= 200 for piece in pieces)
    assert len(loss.statistics) == len(pieces) == len(chosen.foresee_corpus(corpus(tmp_path, test=TEST))[2].statistics)
    windows = [math.ceil(len(piece.encode()) / 100) for piece in pieces]
    expected = [len(piece.encode()) - count for piece, count in zip(pieces, windows, strict=True)]
    assert loss.statistics[:, 1].tolist() == expected
    ids = tokenizer.encode(pieces[0])
    size = math.ceil(len(ids) / windows[0])
    parts = [torch.tensor([ids[start : start + size]]) for start in range(0, len(ids), size)]
    plain = sum(model(input_ids=part, labels=part).loss.item() * (part.shape[1] - 1) for part in parts)
    assert len(parts) == windows[0] > 1 and loss.statistics[0, 0] == pytest.approx(plain, rel=1e-5)
    assert ppl.value == pytest.approx(math.exp(loss.value)) and np.isfinite(loss.statistics).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "the text cannot be read: No such file"), (b"\xff\xfe\xff", "not UTF-8"), (b" \n ", "the text is empty")],
)
def test_a_bad_text_is_refused_before_anything_is_measured(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "general.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        metric(path="general.txt").foresee_corpus(corpus(tmp_path, test=TEST))


def test_pieces_end_at_lines_where_they_can() -> None:
    assert pieces_of("ab\ncd\nef\n", 6) == ["ab\ncd\n", "ef\n"]
    assert pieces_of("abcdefg\nh", 3) == ["abc", "def", "g\nh"]
    assert pieces_of(" \n\n", 2) == []
