"""Did it learn anything? An effect, none, harm, a wrong rendering: each is told from the others, on saved weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from effect_kit import HELD_OUT, examples, train
from safetensors.torch import load_file, save_file
from train_kit import conversations

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.load import load_model
from tunewright.models.loss import packed_loss
from tunewright.models.packing import ATTENTION
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.train.effect import RESOLUTION, Against, Effect, Saved, measure_effect
from tunewright.train.effect_options import EffectConfig


def measured(base: Path, folder: Path, *, kind: Any = "adapter", rows: Any = HELD_OUT, **more: Any) -> Effect:
    return measure_effect(
        Saved(base, folder, kind, packed=more.pop("packed", True)),
        rows,
        rendered=more.pop("rendered", None) or examples(base, rows),
        dtype=more.pop("dtype", torch.float32),
        seed=7,
        options=EffectConfig(**more),
    )


@pytest.fixture(scope="module")
def good(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that learned the task."""
    return train(tiny, tmp_path_factory.mktemp("good") / "adapter", examples(tiny, conversations(24)), rate=2e-2)


def test_a_real_effect_is_found_and_is_the_saved_weights(tiny: Path, good: Path) -> None:
    effect = measured(tiny, good)
    assert effect.verdict == "effect"
    assert effect.tuned < effect.base - 0.5
    assert effect.tuned < effect.random - 0.5
    assert effect.against_base.z < -5
    assert effect.rows == 12 and effect.tokens == sum(example.trained for example in examples(tiny, HELD_OUT))
    assert effect.text().startswith("Training has an effect: on 12 held-out rows")
    assert effect.failure(required=True) is None
    from tunewright.models.adapters import load_adapted
    from tunewright.models.loss import mean_loss

    served = load_adapted(tiny, good, dtype=torch.float32)
    assert effect.tuned == pytest.approx(mean_loss(served, examples(tiny, HELD_OUT))[0], rel=1e-5)
    assert effect.base == pytest.approx(
        mean_loss(load_model(tiny, dtype=torch.float32), examples(tiny, HELD_OUT))[0], rel=1e-5
    )


def test_the_same_numbers_every_time_and_on_the_plain_path(tiny: Path, good: Path) -> None:
    first, again, plain = measured(tiny, good), measured(tiny, good), measured(tiny, good, packed=False)
    assert first == again
    assert plain.tuned == pytest.approx(first.tuned, rel=1e-5)
    assert plain.random == pytest.approx(first.random, rel=1e-5)
    assert plain.against_base.z == pytest.approx(first.against_base.z, rel=1e-3)


@pytest.mark.parametrize("kind", ["ia3", "full"])
def test_every_kind_of_change_is_measured(tiny: Path, tmp_path: Path, kind: str) -> None:
    folder = train(tiny, tmp_path / "saved", examples(tiny, conversations(24)), rate=2e-2, kind=kind)
    effect = measured(tiny, folder, kind="full" if kind == "full" else "adapter")
    assert effect.verdict == "effect"
    assert effect.tuned < min(effect.base, effect.random)
    assert effect.random != effect.base


def test_a_prefix_is_measured_in_front_of_the_model(tiny: Path, tmp_path: Path) -> None:
    from tunewright.models import adapters_prefix

    torch.manual_seed(1)
    base = load_model(tiny, dtype=torch.float32)
    base.set_attn_implementation(ATTENTION)
    model = adapters_prefix.adapt(base, [65, 66, 67, 68])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    rows = examples(tiny, conversations(24))
    for _ in range(12):
        (packed_loss(model, rows) / sum(row.trained for row in rows)).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(str(tmp_path / "prefix"))
    effect = measured(tiny, tmp_path / "prefix")
    assert effect.verdict == "effect"
    assert effect.tuned < min(effect.base, effect.random)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_no_learning_is_no_effect_shown_and_fails(tiny: Path, tmp_path: Path, kind: str) -> None:
    folder = train(tiny, tmp_path / "saved", examples(tiny, conversations(24)), rate=0.0, kind=kind)
    effect = measured(tiny, folder, kind="full" if kind == "full" else "adapter")
    assert effect.verdict == "no effect shown"
    assert effect.tuned == effect.base
    assert effect.against_base == Against(0.0, RESOLUTION)
    assert effect.text().startswith("NO EFFECT SHOWN: on 12 held-out rows")
    assert "0.0 standard errors (2 are needed)" in effect.text()
    failure = effect.failure(required=True)
    assert failure is not None and failure.startswith("NO EFFECT SHOWN") and "train.effect.required=false" in failure
    assert effect.failure(required=False) is None


def test_a_harmful_adapter_is_harm_shown(tiny: Path, good: Path, tmp_path: Path) -> None:
    """The adapter that learned the task, turned round."""
    folder = shutil.copytree(good, tmp_path / "harmful")
    tensors = load_file(str(folder / "adapter_model.safetensors"))
    turned = {name: -tensor if "lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(turned, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    effect = measured(tiny, folder)
    assert effect.verdict == "harm shown"
    assert effect.tuned > effect.base
    failure = effect.failure(required=True)
    assert failure is not None and failure.startswith("HARM SHOWN: the tuned model is worse than the base: on 12")


def test_a_change_that_only_matches_chance_is_no_effect(tiny: Path) -> None:
    chance = Effect(12, 60, 3.0, 2.5, 2.5, Against(-0.5, 0.1), Against(-0.01, 0.1), 2.0)
    assert chance.verdict == "no effect shown"
    assert "5.0 standard errors, but only 0.1 below the random change (2 are needed)" in chance.text()


def with_template(base: Path, target: Path, before: str, after: str) -> Path:
    """The model with a changed chat template."""
    shutil.copytree(base, target)
    settings = (target / "tokenizer_config.json").read_text(encoding="utf-8")
    assert before in settings
    (target / "tokenizer_config.json").write_text(settings.replace(before, after), encoding="utf-8")
    return target


def test_a_template_that_changed_after_training_is_named(tiny: Path, good: Path, tmp_path: Path) -> None:
    """The generation prompt loses its line feed: what is served is not what was trained."""
    served = with_template(
        tiny, tmp_path / "served", "<|im_start|>assistant\\n' }}{% endif", "<|im_start|>assistant' }}{% endif"
    )
    with pytest.raises(ArtifactError) as caught:
        measured(served, good, rendered=examples(tiny, HELD_OUT))
    assert caught.value.where == "made:100"
    assert "training renders this row in another way than the server" in caught.value.problem
    assert "the answer is trained from token" in caught.value.problem

    served = with_template(tiny, tmp_path / "other", "'<|im_end|>\\n'", "'<|im_end|>\\n\\n'")
    with pytest.raises(ArtifactError) as caught:
        measured(served, good, rendered=examples(tiny, HELD_OUT))
    place = len("<user\ncard 100>\n") + 1  # one token a letter and a marker
    feed = ChatTokenizer.load(tiny).encode("\n")[0]
    expected = f"the first difference is token {place}: trained '<|im_start|>' (257), served '\\n' ({feed})"
    assert caught.value.problem.endswith(expected)


def test_weights_trained_on_a_wrong_rendering_are_not_taken_for_an_effect(tiny: Path, tmp_path: Path) -> None:
    """Training ran to its end without a complaint, on other letters and an end token at which no server stops."""
    turns = [(row.messages[0], Message(role="assistant", content="好的")) for row in conversations(24)]
    wrong = examples(tiny, [Conversation(id=str(number), messages=pair) for number, pair in enumerate(turns)])
    wrong = [Example((*row.input_ids[:-1], 256), (*row.labels[:-1], 256), row.row_id) for row in wrong]
    effect = measured(tiny, train(tiny, tmp_path / "saved", wrong, rate=2e-2))
    assert effect.verdict == "harm shown"
    assert effect.failure(required=True) is not None


def test_few_rows_are_too_few_to_tell_and_fail_nothing(tiny: Path, good: Path) -> None:
    effect = measured(tiny, good, rows=HELD_OUT[:7])
    assert effect.verdict == "too few rows to tell"
    assert effect.text().startswith("Too few rows to tell whether training has an effect (8 are needed): on 7 held-out")
    assert effect.failure(required=True) is None
    none = measured(tiny, good, rows=[], rendered=examples(tiny, HELD_OUT))
    assert (none.verdict, none.rows) == ("too few rows to tell", 0)


def test_no_more_rows_than_asked_for_are_measured(tiny: Path, good: Path) -> None:
    effect = measured(tiny, good, max_rows=8)
    assert effect.rows == 8
    assert effect.facts()["verdict"] == "effect"
