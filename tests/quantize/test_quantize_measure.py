"""What the table says: changes, refusals, agreement, which rows are asked, which tokens the perplexity counts."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from quantize_kit import conversation, even_length, examples, yes_no

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.core.scoring import Measured, mean_of_rows
from tunewright.models.speed import summarize
from tunewright.models.tokens import IGNORED, ChatTokenizer
from tunewright.quantize.engines import Answer
from tunewright.quantize.measure import (
    Exam,
    Result,
    Task,
    all_token_examples,
    choose_rows,
    perplexity,
    samples,
)
from tunewright.quantize.memory import INTERVAL_S, PeakMemory
from tunewright.quantize.rows import agreement, speed_note, table_row
from tunewright.quantize.table import table


def _answers(texts: list[str]) -> list[Answer]:
    return [Answer(text, len(text), 0.1, "stop") for text in texts]


def _text(losses: list[float]) -> Measured:
    """Perplexity over conversations of ten tokens with these mean losses."""
    statistics = np.array([[10 * loss, 10] for loss in losses])
    return Measured(
        "perplexity", 1, statistics, lambda s: np.exp(s.sum(1)[:, 0] / s.sum(1)[:, 1]), higher_is_better=False
    )


def _result(measured: Measured, *, size: int = 1000, texts: list[str] | None = None, speed: float = 10.0) -> Result:
    """speed: tokens a second."""
    latency = summarize([(20 / speed, 1 / speed)], new_tokens=20)
    return Result(
        engine="transformers",
        bytes=size,
        latency=latency,
        answers=_answers(texts or ["a", "b"]),
        measured=measured,
        perplexity=_text([math.log(7.5)] * 3),
        perplexity_engine="transformers",
        batch_tokens_per_second=4 * speed,
        peak_bytes=2 * size,
        build="transformers 5",
        seconds={},
    )


REFERENCE = _result(yes_no([1] * 18 + [0] * 2))


def _row(hits: list[int], *, max_loss: float) -> dict[str, object]:
    return table_row("int8", _result(yes_no(hits), size=400), REFERENCE, max_loss=max_loss, seed=7, note="slow")


def test_a_loss_within_the_limit_is_accepted() -> None:
    row = _row([1] * 17 + [0] * 3, max_loss=0.05)
    assert row["accepted"] is True and row["note"] == "slow"
    assert row["task_change"] == pytest.approx(-0.05) and row["ratio"] == 0.4
    assert row["task_score"] == 0.85 and row["task_p"] == 1.0  # one row of difference: McNemar says nothing


def test_a_loss_over_the_limit_is_refused_with_the_numbers() -> None:
    row = _row([1] * 12 + [0] * 8, max_loss=0.05)
    assert row["accepted"] is False
    assert row["note"] == "refused: loses 0.300 of intent.accuracy, the limit is 0.050; slow"
    assert row["task_p"] == pytest.approx(2 / 2**6)  # six rows lost, none gained


def test_a_gain_is_never_refused() -> None:
    assert _row([1] * 20, max_loss=0.0)["accepted"] is True


def test_points_count_as_hundredths_and_a_lower_error_is_a_gain() -> None:
    bleu = Measured("bleu", 1, np.full((4, 1), 50.0), mean_of_rows, unit="points")
    worse = replace(bleu, statistics=np.full((4, 1), 47.0))
    row = table_row("awq", _result(worse), _result(bleu), max_loss=0.02, seed=7, note="")
    assert row["accepted"] is False and "loses 0.030 of bleu, the limit is 0.020" in str(row["note"])
    assert table_row("awq", _result(worse), _result(bleu), max_loss=0.04, seed=7, note="")["accepted"] is True
    errors = replace(worse, higher_is_better=False)
    lower = table_row(
        "awq", _result(errors), _result(replace(bleu, higher_is_better=False)), max_loss=0, seed=7, note=""
    )
    assert lower["accepted"] is True


def test_the_reference_row_is_the_reference() -> None:
    row = table_row("bf16", REFERENCE, REFERENCE, max_loss=0.0, seed=7, note="")
    assert (row["ratio"], row["task_change"], row["agreement"], row["accepted"]) == (1.0, 0.0, 1.0, True)


def test_agreement_is_to_the_letter() -> None:
    assert agreement(_answers(["yes", "no", "No", ""]), _answers(["yes", "no", "no", ""])) == 0.75


def test_the_note_says_where_an_engine_gains_nothing() -> None:
    slow = _result(yes_no([1]), speed=9.0)
    assert speed_note(slow, REFERENCE, no_speed="it unpacks") == (
        "transformers gains no speed from this format, 0.90 times 16 bits: it unpacks"
    )
    assert speed_note(_result(yes_no([1]), speed=15.0), REFERENCE, no_speed="it unpacks") == (
        "1.50 times the 16-bit speed"
    )
    llama = replace(_result(yes_no([1]), speed=30.0), engine="llama.cpp")
    note = speed_note(llama, REFERENCE, no_speed="")
    assert note.startswith("3.00 times the 16-bit speed of transformers; llama.cpp also rounds activations")
    slower = replace(llama, latency=slow.latency)
    assert speed_note(slower, REFERENCE, no_speed="").startswith("llama.cpp gains no speed from this format here; 0.90")
    assert speed_note(REFERENCE, REFERENCE, no_speed="") == ""


def test_the_perplexity_has_an_interval_and_a_paired_test() -> None:
    """Each row's loss is 0.1 higher, so the paired test sees it through rows that differ far more among themselves."""
    losses = [1.0, 1.5, 2.0, 2.5, 3.0] * 3
    base = replace(REFERENCE, perplexity=_text(losses))
    worse = replace(REFERENCE, perplexity=_text([loss + 0.1 for loss in losses]))
    row = table_row("int8", worse, base, max_loss=0.1, seed=7, note="")
    assert row["perplexity"] == pytest.approx(math.exp(2.1))
    assert row["perplexity_change"] == pytest.approx(math.exp(2.1) - math.exp(2.0))
    assert row["perplexity_low"] < math.exp(2.0) < row["perplexity_high"] and row["perplexity_p"] < 0.05
    same = table_row("int8", base, base, max_loss=0.1, seed=7, note="")
    assert same["perplexity_change"] == 0 and same["perplexity_p"] == 1


def test_the_perplexity_is_exp_of_the_mean_loss(tiny: Path) -> None:
    from tunewright.models.load import load_model
    from tunewright.models.loss import mean_loss

    model, rows = load_model(tiny, dtype=torch.float32), examples()
    loss, _ = mean_loss(model, rows)
    assert perplexity(model, rows).value == pytest.approx(math.exp(loss), rel=1e-5)


def test_rows_are_those_the_metric_scores_drawn_by_seed() -> None:
    rows = [conversation(index, split="test") for index in range(30)]

    def scored(row: Conversation) -> bool:
        return bool(row.metadata["task"] == "a")

    drawn = choose_rows(rows, scored, limit=8, seed=3)
    numbers = [int(row.id.split(":")[1]) for row in drawn]
    assert len(set(numbers)) == 8 and numbers == sorted(numbers) and all(number % 2 for number in numbers)
    assert drawn == choose_rows(rows, scored, limit=8, seed=3) != choose_rows(rows, scored, limit=8, seed=4)
    with pytest.raises(ArtifactError, match="scores no row of the test split"):
        choose_rows(rows, lambda row: False, limit=8, seed=3)


def test_the_perplexity_counts_every_token_but_the_first(tiny: Path) -> None:
    tokenizer = ChatTokenizer.load(tiny)
    rows = [conversation(index, split="test") for index in range(9)]
    whole = tokenizer.messages_ids(rows[0].messages)
    found = all_token_examples(rows, tokenizer, tokens=2 * len(whole), max_length=512)
    assert found[0].input_ids == tuple(whole) and found[0].labels == (IGNORED, *whole[1:])
    assert sum(example.trained for example in found) == 2 * len(whole)
    assert len(found) == 3  # two whole rows lack two first tokens
    assert max(len(e.input_ids) for e in all_token_examples(rows, tokenizer, tokens=200, max_length=20)) == 20


def test_samples_carry_what_the_scorer_needs() -> None:
    rows = (conversation(0, split="test"), conversation(1, split="test"))
    task = Task(rows, ([1], [2, 3]), (), Exam(even_length, lambda row: True, 4, 4), 9, 1, 3, 7)
    found = samples(task, _answers(["ab", "c"]))
    assert [(s.id, s.prompt, s.reference, s.prediction) for s in found] == [
        ("test:0", "test 0?", "yes", "ab"),
        ("test:1", "test 1?", "yes", "c"),
    ]
    assert found[1].metadata == {"task": "a"} and even_length(found).value == 0.5
    assert task.context == 2 + 9 + 8
    assert task.batch == [[1], [2, 3]] * 4


def test_the_text_table_shows_every_number_once() -> None:
    rows = [
        table_row("bf16", REFERENCE, REFERENCE, max_loss=0.05, seed=7, note=""),
        _row([1] * 12 + [0] * 8, max_loss=0.05),
    ]
    text = table(rows)
    lines = text.splitlines()
    assert "intent.accuracy" in lines[0] and lines[1].split()[:3] == ["scheme", "size", "predicted"]
    assert lines[2].split()[0] == "bf16" and lines[2].endswith("accepted")
    assert "-0.300" in lines[3] and "7.50" in lines[3] and "400 B" in lines[3] and lines[3].endswith("REFUSED")
    assert "[0.699, 0.972]" in lines[2] and "40.0" in lines[2] and "2.0 kB" in lines[2]
    assert lines[4] == "  transformers: transformers 5"
    assert lines[5].startswith("  int8: refused: loses 0.300")
    assert math.isclose(REFERENCE.latency.tokens_per_second, 10.0)


def test_the_peak_is_what_the_block_took_beyond_what_was_there() -> None:
    """64 MB before do not count, 128 MB inside do although they are freed again."""
    before = torch.ones(16, 1 << 20)
    with PeakMemory() as peak:
        inside = torch.ones(32, 1 << 20)
        time.sleep(3 * INTERVAL_S)
        del inside
    assert 0.9 < peak.bytes / (1 << 27) < 1.4 and before.numel() == 1 << 24
