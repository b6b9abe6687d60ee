"""Forgetting: the loss on a general set, base against tuned, and the forms of the set's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_kit import corpus, learned, row
from pydantic import ValidationError

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import compare, to_score
from tunewright.evaluate.config import EvaluateConfig, Gate
from tunewright.evaluate.gates import Against, decide
from tunewright.evaluate.metrics.forgetting import KEYS, Forgetting
from tunewright.evaluate.metrics.forgetting_rows import conversation, read_conversations
from tunewright.evaluate.metrics.model_options import ForgettingOptions
from tunewright.evaluate.metrics.perplexity_losses import losses_of
from tunewright.evaluate.scorer import check_keys, corpus_metrics
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

GENERAL = [
    {"conversation": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": f"The sea is {n} m deep."}]}
    for n in range(6)
]
OWN = [row(str(n), f"Question {n}", "年费可以减免。") for n in range(4)]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    return path


def metric(**options: Any) -> Forgetting:
    return Forgetting(ForgettingOptions.model_validate({"name": "forgetting", "path": "general.jsonl", **options}))


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny)


def test_a_model_that_learned_something_else_has_forgotten(
    tiny: Path, tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    """The base first knows the general set; then it learns nothing but the project's answer."""
    write(tmp_path / "general.jsonl", GENERAL)
    known = [conversation(one, str(n)) for n, one in enumerate(GENERAL)]
    base, tuned = learned(tiny, known, steps=80), learned(tiny, OWN, steps=80)
    place = corpus(tmp_path)
    before, after = (metric().measure_corpus(model, tokenizer, place) for model in (base, tuned))
    loss = compare(after[0], before[0], seed=7)
    assert (loss.metric, loss.test, loss.n) == ("forgetting.loss", "paired bootstrap", 6)
    assert loss.low > 1, "more than a nat a token worse"
    assert not after[0].higher_is_better and "set:general.jsonl" in after[0].signature
    gate = Gate(metric="forgetting.loss", when="<= base * 1.1", significant=False)
    scores = [to_score(found[0], seed=7) for found in (after, before)]
    assert not decide(gate, score=scores[0], base=Against(scores[1], loss)).passed
    assert decide(gate, score=scores[1], base=Against(scores[1])).passed
    plain = losses_of(tuned, tokenizer, known, max_length=512, where="test").statistics
    assert np.allclose(after[0].statistics, plain), "all six rows, in their order"


def test_rows_are_drawn_and_foreseen(tiny: Path, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    write(tmp_path / "general.jsonl", GENERAL)
    chosen, place = metric(rows=3), corpus(tmp_path)
    found = chosen.measure_corpus(load_model(tiny, dtype=torch.float32), tokenizer, place)
    foreseen = chosen.foresee_corpus(place)
    assert [one.metric for one in found] == [one.metric for one in foreseen] == list(KEYS)
    assert [len(one.statistics) for one in (*found, *foreseen)] == [3] * 4


def test_the_set_must_be_named_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="path"):
        ForgettingOptions.model_validate({"name": "forgetting"})
    with pytest.raises(ConfigError, match=r"general\.jsonl cannot be read: No such file") as caught:
        metric().foresee_corpus(corpus(tmp_path))
    assert caught.value.where == "evaluate.metrics.forgetting.path" and "JSON Lines" in caught.value.fix


def test_a_gate_may_name_it() -> None:
    config = EvaluateConfig.model_validate(
        {
            "metrics": [{"name": "intent"}, {"name": "forgetting", "path": "x.jsonl"}],
            "gates": [{"metric": "forgetting.loss", "when": "<= base * 1.1"}],
        }
    )
    check_keys(config)
    assert list(corpus_metrics(config)) == ["forgetting"]


USER, SAID = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    "shape",
    [
        {"conversation": [USER, SAID]},
        {"messages": [USER, SAID]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"prompt": "Q", "completion": "A"},
        {"prompt": [USER], "completion": [SAID]},
        {"question": "Q", "answer": "A"},
        {"instruction": "Q", "input": "", "output": "A"},
    ],
)
def test_the_forms_of_a_row(shape: dict[str, Any]) -> None:
    found = conversation(shape, "1")
    assert [(turn.role, turn.content) for turn in found.messages] == [("user", "Q"), ("assistant", "A")]


def test_an_input_stands_below_its_instruction() -> None:
    found = conversation({"instruction": "Translate", "input": "你好", "output": "Hello"}, "1")
    assert found.messages[0].content == "Translate\n你好"


def test_a_blank_answer_is_not_learned_and_counted(tmp_path: Path) -> None:
    rows = [{"messages": [USER, {"role": "assistant", "content": " "}]}, {"messages": [USER, SAID, USER]}]
    found, without = read_conversations(write(tmp_path / "g.jsonl", rows), where="test")
    assert (len(found), without) == (1, 1) and found[0].id == "line 2"


def test_faults_are_listed_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    lines = [
        '{"messages": [}',
        '{"text": "x"}',
        '{"messages": [{"role": "robot", "content": "x"}]}',
        "[]",
        '{"a": NaN}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_conversations(path, where="test")
    said = caught.value.problem.splitlines()
    assert said[0].startswith("line 1: this is not JSON") and "line 2: no turns and no prompt" in said[1]
    assert said[2].startswith("line 3: role: input should be") and said[3] == "line 4: a row is an object"
    assert said[4] == "line 5: NaN is no JSON" and "messages" in caught.value.fix


def test_a_public_general_set_is_read(shared: Path) -> None:
    path = shared / "data/belle_eval/test.jsonl"
    found, without = read_conversations(path, where="test")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answered = [row for row in rows if row["conversation"][-1]["content"].strip()]
    assert (len(found), without) == (len(answered), len(rows) - len(answered)) and len(found) > 100
    assert found[0].metadata == rows[0]["metadata"] and found[0].reference == rows[0]["conversation"][1]["content"]
