"""Examples in the prompt: drawn by seed and balanced, shown as turns, as many as the context has room for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rivals_kit import TEST, TRAINING, prepared, row

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.evaluate.prompts import INSTRUCTION
from tunewright.evaluate.rivals.few_shot import FewShot, balanced, shot_prompt
from tunewright.evaluate.rivals.options import FewShotOptions
from tunewright.evaluate.rivals.rival import Entrant, Ground
from tunewright.evaluate.systems import open as systems
from tunewright.evaluate.systems.cache import NO_CACHE
from tunewright.evaluate.systems.local import LocalModel
from tunewright.models.config import ModelConfig
from tunewright.models.tokens import ChatTokenizer

INTENTS = TRAINING[:24]


def entered(tiny: Path, *, examples: int, training: tuple[Conversation, ...] = tuple(TRAINING)) -> Entrant:
    import torch

    def open_base(name: str) -> LocalModel:
        return systems.base(tiny, ModelConfig(path=str(tiny)), dtype=torch.float32, name=name)

    ground = Ground(prepared(), training, open_base, NO_CACHE, tiny, "evaluate.rivals.0")
    return FewShot(FewShotOptions(examples=examples)).enter(ground)


def test_every_label_is_shown_as_often_as_the_others() -> None:
    lopsided = [*INTENTS, *(row(300 + 3 * index, label="fee") for index in range(30))]
    for most in (3, 6, 9):
        counts = Counter(one.metadata["intent"] for one in balanced(prepared(), lopsided, most))
        assert set(counts.values()) == {most // 3} and len(counts) == 3
    assert len(balanced(prepared(), INTENTS, 100)) == 24, "no more than there are"
    assert {one.metadata["intent"] for one in balanced(prepared(), INTENTS, 2)} < {"card_lost", "fee", "pin_reset"}


def test_the_seed_decides_which() -> None:
    first, again = (balanced(prepared(), INTENTS, 6) for _ in range(2))
    other = balanced(replace(prepared(), seed=8), INTENTS, 6)
    assert first == again and first != other
    backwards = balanced(prepared(), INTENTS[::-1], 6)
    assert {one.metadata["intent"] for one in backwards} == {one.metadata["intent"] for one in first}


def test_examples_are_turns_before_the_question_with_the_labels_in_front(tiny: Path) -> None:
    found = entered(tiny, examples=3)
    tokenizer = ChatTokenizer.load(tiny)
    for prompt, test_row in zip(found.prompts, TEST, strict=True):
        roles = [message.role for message in prompt.messages]
        texts = [message.content for message in prompt.messages]
        is_intent = test_row.metadata["task"] == "intent"
        assert roles == (["system"] if is_intent else []) + ["user", "assistant"] * 3 + ["user"]
        assert texts[-1] == test_row.prompt[-1].content
        answers = {text for text, role in zip(texts, roles, strict=True) if role == "assistant"}
        assert answers == ({"card_lost", "fee", "pin_reset"} if is_intent else {"There is no fee."})
        if is_intent:
            assert texts[0] == INSTRUCTION.format(labels="card_lost, fee, pin_reset") and prompt.shows_labels
        assert prompt.ids == tokenizer.prompt_ids(prompt.messages) and prompt.cut_tokens == 0
    asked = {one.prompt[-1].content for one in TEST}
    shown = {message.content for prompt in found.prompts for message in prompt.messages[:-1]}
    assert not asked & shown, "examples are of the training split"
    assert found.notes["fewest_examples_shown"] == 3 and found.notes["mean_examples_shown"] == 3.0
    assert found.signature == "|examples in prompt:3|shown:3.0|seed:7"


def test_a_question_gets_as_many_as_its_context_has_room_for(tiny: Path) -> None:
    """The tiny model reads 512 tokens, a byte each: eight examples do not fit behind the list of labels."""
    found = entered(tiny, examples=30)
    assert all(len(prompt.ids) <= 512 - 8 for prompt in found.prompts)
    assert 0 < found.notes["fewest_examples_shown"] < found.notes["mean_examples_shown"] < 24
    tokenizer = ChatTokenizer.load(tiny)
    shots = [(Message(role="user", content="q" * 40), Message(role="assistant", content="fee"))] * 5
    prompt, count = shot_prompt(prepared(), TEST[0], shots, tokenizer, room=300)
    more = (*prompt.messages[:1], *shots[0], *prompt.messages[1:])
    assert 0 < count < 5 and len(prompt.ids) <= 300 < len(tokenizer.prompt_ids(more))
    short, none = shot_prompt(prepared(), TEST[0], shots, tokenizer, room=60)
    assert none == 0 and short.cut_tokens > 0 and len(short.ids) == 60


def test_rows_with_tools_are_no_examples(tiny: Path) -> None:
    tool = {"type": "function", "function": {"name": "balance", "parameters": {}}}
    with_tools = tuple(one.model_copy(update={"metadata": {**one.metadata, "tools": [tool]}}) for one in TRAINING)
    with pytest.raises(ConfigError, match="no training row can be shown as an example") as caught:
        entered(tiny, examples=3, training=with_tools)
    assert caught.value.where == "evaluate.rivals.0"
