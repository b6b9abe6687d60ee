"""The generation engine against transformers' own generate, one row at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.models.choice import choose
from tunewright.models.generate import Request, RunningBatch, Sampling, generate, shared_prefix
from tunewright.models.load import for_inference, load_model
from tunewright.models.request import next_tokens
from tunewright.models.tokens import ChatTokenizer

WORDS = [
    "hello",
    "what is the fee for a wire abroad?",
    "卡丢了怎么办",
    "x",
    "a longer question than the others, by far",
    "ok?",
]


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny)


@pytest.fixture(scope="module")
def prompts(tokenizer: ChatTokenizer) -> list[list[int]]:
    return [tokenizer.encode(f"the same first words: {word}") for word in WORDS]


def reference(model: Any, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by full recomputation: no cache, no padding, no batch."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_batched_equals_one_by_one(
    model: Any, tokenizer: ChatTokenizer, prompts: list[list[int]], batch_size: int
) -> None:
    """Rows of different length, refilled as others finish, with a shared prefix."""
    found = generate(model, tokenizer, prompts, Sampling(max_new_tokens=12, ignore_end=True), batch_size=batch_size)
    assert [request.output_ids for request in found] == [reference(model, prompt, 12) for prompt in prompts]
    assert all(request.finish == "length" for request in found)
    assert all(0 < request.first_token_s <= request.seconds for request in found)


def test_rows_that_join_later_do_not_change_the_running_ones(
    model: Any, tokenizer: ChatTokenizer, prompts: list[list[int]]
) -> None:
    batch = RunningBatch(model, tokenizer)
    requests = [
        Request(prompt, Sampling(max_new_tokens=4 + 3 * i, ignore_end=True)) for i, prompt in enumerate(prompts)
    ]
    for request in requests:
        batch.add([request])
        batch.step()
    while batch.rows:
        batch.step()
    for request in requests:
        assert request.output_ids == reference(model, request.prompt_ids, request.sampling.max_new_tokens)


def test_cancelled_rows_leave_within_one_step(model: Any, tokenizer: ChatTokenizer, prompts: list[list[int]]) -> None:
    batch = RunningBatch(model, tokenizer)
    one, two = (Request(prompt, Sampling(max_new_tokens=50, ignore_end=True)) for prompt in prompts[:2])
    batch.add([one, two])
    one.cancelled = True
    batch.step()
    assert batch.rows == [two]
    assert one.finish == "cancelled"
    assert len(one.output_ids) == 1


def test_end_token_ends_and_is_not_in_the_text(
    tokenizer: ChatTokenizer, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter([*tokenizer.encode("hi"), 258, *tokenizer.encode("never")])
    monkeypatch.setattr(RunningBatch, "_choose", lambda self, rows, logits: _play(self, rows, script))
    (request,) = generate(model, tokenizer, [tokenizer.encode("q")], Sampling(max_new_tokens=9))
    assert (request.text, request.finish, len(request.output_ids)) == ("hi", "stop", 2)


def test_stop_strings_are_held_back_and_cut(
    tokenizer: ChatTokenizer, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop string that spans tokens never shows, a start of one that does not continue does; half characters wait."""
    script = iter(tokenizer.encode("a##b银行##END tail"))
    monkeypatch.setattr(RunningBatch, "_choose", lambda self, rows, logits: _play(self, rows, script))
    pieces: list[str] = []
    request = Request(tokenizer.encode("q"), Sampling(max_new_tokens=99, stop=("##END",)), on_text=pieces.append)
    batch = RunningBatch(model, tokenizer)
    batch.add([request])
    while batch.rows:
        batch.step()
    assert "".join(pieces) == request.text == "a##b银行"
    assert request.finish == "stop"
    assert "\ufffd" not in "".join(pieces)


def _play(batch: RunningBatch, rows: list[Request], script: Any) -> torch.Tensor:
    tokens = [next(script) for _ in rows]
    for row, token in zip(rows, tokens, strict=True):
        batch._record(row, token)
    return torch.tensor(tokens)


def test_seeded_sampling_repeats_and_differs_from_greedy(
    model: Any, tokenizer: ChatTokenizer, prompts: list[list[int]]
) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=1.5, top_p=0.95, seed=3, ignore_end=True)
    one, two = (generate(model, tokenizer, prompts[:3], sampling) for _ in range(2))
    assert [r.output_ids for r in one] == [r.output_ids for r in two]
    assert one[0].output_ids != reference(model, prompts[0], 12)


def test_top_p_keeps_only_the_nucleus() -> None:
    """Probabilities .5 .3 .15 .05 with top_p .7: only the first two can be drawn."""
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    sampled = [Request([1], Sampling(temperature=1.0, top_p=0.7, seed=seed)) for seed in range(200)]
    drawn = set(next_tokens(sampled, logits.repeat(200, 1)).tolist())
    assert drawn == {0, 1}


def test_shared_prefix_is_exact() -> None:
    start = list(range(10))
    assert shared_prefix([[*start, 7], [*start, 8, 9]]) == start
    assert shared_prefix([start, [*start, 8]]) == start[:-1]
    assert shared_prefix([start]) == []
    assert shared_prefix([[1, 2, 3], [1, 2, 4]]) == []


def test_packed_linear_equals_the_plain_layer(
    tiny: Path, model: Any, tokenizer: ChatTokenizer, prompts: list[list[int]]
) -> None:
    from tunewright.models.packed_linear import PackedLinear, can_pack

    if not can_pack(torch.float32):
        pytest.skip("this torch has no oneDNN linear")
    packed = for_inference(load_model(tiny, dtype=torch.float32))
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    plain = for_inference(load_model(tiny, dtype=torch.float32), pack=False)
    assert not any(isinstance(module, PackedLinear) for module in plain.modules())
    ids = torch.tensor([prompts[1]])
    with torch.inference_mode():
        difference = (packed(input_ids=ids).logits - plain(input_ids=ids).logits).abs().max()
    assert 0 <= float(difference) < 1e-5
    sampling = Sampling(max_new_tokens=12, ignore_end=True)
    assert generate(packed, tokenizer, prompts, sampling)[2].output_ids == reference(model, prompts[2], 12)


def test_choice_equals_scoring_every_answer(model: Any, tokenizer: ChatTokenizer, prompts: list[list[int]]) -> None:
    labels = ["card_lost", "card_stolen", "card", "fee", "feet", "loan_rate", "银行"]
    answers = [(*tokenizer.encode(label), 258) for label in labels]

    def score(prompt: list[int], answer: tuple[int, ...]) -> float:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        return sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))

    expected = [max(range(len(answers)), key=lambda i, p=prompt: score(p, answers[i])) for prompt in prompts]
    assert choose(model, tokenizer, prompts, answers, batch_size=4) == expected


@pytest.mark.parametrize("whole_tree", [0, 256], ids=["rounds only", "whole tree"])
def test_choice_is_the_same_by_rounds_and_by_the_whole_tree(
    model: Any, tokenizer: ChatTokenizer, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch, whole_tree: int
) -> None:
    """Answers that a random model finds about equally probable need many rounds."""
    from tunewright.models import choice

    answers = [
        (*tokenizer.encode(f"{first}{second}{third}"), 258) for first in "abc" for second in "xyz" for third in "12"
    ]
    monkeypatch.setattr(choice, "WHOLE_TREE", whole_tree)
    found = choose(model, tokenizer, prompts, answers)
    for prompt, index in zip(prompts, found, strict=True):
        scores = []
        for answer in answers:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
            scores.append(sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)))
        assert scores[index] == pytest.approx(max(scores), abs=1e-5)
