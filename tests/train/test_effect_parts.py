"""The parts of the effect: the served rendering, the random change, the standard error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from effect_kit import HELD_OUT, examples, train
from safetensors.torch import load_file, save_file
from train_kit import conversations

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.train.effect import paired
from tunewright.train.effect_random import randomize, write_random_adapter
from tunewright.train.effect_rendering import prove_rendering, served_ids


@pytest.fixture(scope="module")
def good(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that learned something."""
    return train(tiny, tmp_path_factory.mktemp("good") / "adapter", examples(tiny, conversations(6)), rate=2e-2)


def test_a_doubled_begin_token_in_training_is_named(tiny: Path) -> None:
    found = examples(tiny, HELD_OUT)
    first = found[0]
    doubled = Example((first.input_ids[0], *first.input_ids), (first.labels[0], *first.labels), first.row_id)
    with pytest.raises(ArtifactError, match=r"made:100: .*the first difference is token 2: trained '<\|im_start\|>'"):
        prove_rendering(HELD_OUT, [doubled, *found[1:]], ChatTokenizer.load(tiny))


def test_a_missing_end_token_and_a_wrong_mask_are_named(tiny: Path) -> None:
    first, *rest = examples(tiny, HELD_OUT)
    endless = Example(first.input_ids[:-1], first.labels[:-1], first.row_id)
    with pytest.raises(ArtifactError, match=r"trained nothing, served '<\|im_end\|>' \(258\)"):
        prove_rendering(HELD_OUT, [endless, *rest], ChatTokenizer.load(tiny))
    start = next(place for place, label in enumerate(first.labels) if label >= 0)
    headed = Example(first.input_ids, (*first.labels[: start - 1], *first.input_ids[start - 1 :]), first.row_id)
    with pytest.raises(ArtifactError, match=f"the answer is trained from token {start}, the server sends {start} tok"):
        prove_rendering(HELD_OUT, [headed, *rest], ChatTokenizer.load(tiny))
    with pytest.raises(ArtifactError, match="0 answers are trained, the conversation has 1"):
        prove_rendering(HELD_OUT, rest, ChatTokenizer.load(tiny))


def test_conversations_of_several_turns_and_cut_prompts(tiny: Path) -> None:
    turns = tuple(message for row in conversations(3) for message in row.messages)
    talk = Conversation(id="talk", messages=turns)
    long = Conversation(id="long", messages=(Message(role="user", content="u" * 600), turns[1]))
    tokenizer = ChatTokenizer.load(tiny)
    found = [example for row in (talk, long) for example in tokenizer.examples(row, max_length=200)]
    assert found[-1].cut_prompt_tokens
    assert list(prove_rendering([talk, long], found, tokenizer)) == ["talk"]
    prompt, answer = served_ids(tokenizer, talk, 3)
    assert tokenizer.decode(answer) == "card" and answer[-1] == 258
    assert prompt == tokenizer.prompt_ids(turns[:3])


def test_the_random_adapter_has_the_trained_ones_shapes_and_norms(tiny: Path, good: Path, tmp_path: Path) -> None:
    write_random_adapter(good, tmp_path / "chance", seed=7)
    write_random_adapter(good, tmp_path / "again", seed=7)
    write_random_adapter(good, tmp_path / "other", seed=8)
    trained, chance, again, other = (
        load_file(str(folder / "adapter_model.safetensors"))
        for folder in (good, *(tmp_path / name for name in ("chance", "again", "other")))
    )
    assert trained.keys() == chance.keys() and len(trained) == 28  # 7 linear layers, 2 blocks, A and B
    for name, tensor in trained.items():
        assert chance[name].shape == tensor.shape and chance[name].dtype == tensor.dtype
        assert float(chance[name].norm()) == pytest.approx(float(tensor.norm()), rel=1e-5)
        assert torch.equal(chance[name], again[name]) and not torch.equal(chance[name], other[name])
        alike = torch.nn.functional.cosine_similarity(chance[name].flatten(), tensor.flatten(), dim=0)
        assert abs(float(alike)) < 0.5
    assert (tmp_path / "chance" / "adapter_config.json").read_bytes() == (good / "adapter_config.json").read_bytes()


def test_parts_that_cancel_each_other_do_not_make_a_wreck(good: Path, tmp_path: Path) -> None:
    """PiSSA's adapter is a difference of two large ones: noise of the same norms would be a much larger change."""
    folder = shutil.copytree(good, tmp_path / "pissa")
    tensors = load_file(str(good / "adapter_model.safetensors"))
    a = next(name for name in tensors if name.endswith("q_proj.lora_A.weight"))
    b = a.replace("lora_A", "lora_B")
    start_b, start_a = torch.randn(64, 4), torch.randn(4, 64)
    tensors |= {b: torch.cat([start_b + tensors[b], -start_b], 1), a: torch.cat([start_a, start_a])}
    change = tensors[b] @ tensors[a]
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    write_random_adapter(folder, tmp_path / "chance", seed=7)
    made = load_file(str(tmp_path / "chance" / "adapter_model.safetensors"))
    assert float((made[b] @ made[a]).norm()) == pytest.approx(float(change.norm()), rel=1e-3)
    assert float(made[b].norm()) < 0.5 * float(tensors[b].norm())
    assert float(made[a].norm()) == pytest.approx(float(tensors[a].norm()), rel=1e-5)


def test_random_ia3_vectors_differ_from_one_as_much_as_the_trained_ones(tiny: Path, tmp_path: Path) -> None:
    folder = train(tiny, tmp_path / "saved", examples(tiny, conversations(6)), rate=1e-2, kind="ia3")
    write_random_adapter(folder, tmp_path / "chance", seed=7)
    trained, chance = (load_file(str(f / "adapter_model.safetensors")) for f in (folder, tmp_path / "chance"))
    for name, tensor in trained.items():
        assert float((chance[name] - 1).norm()) == pytest.approx(float((tensor - 1).norm()), rel=1e-4)
        assert not torch.equal(chance[name], tensor)


def test_a_random_change_of_whole_weights_has_the_trained_norm_and_leaves_the_rest(tiny: Path) -> None:
    base, tuned, before = (load_model(tiny, dtype=torch.float32) for _ in range(3))
    changed = "model.layers.1.mlp.up_proj.weight"
    with torch.no_grad():
        tuned.get_parameter(changed).add_(torch.randn(128, 64, generator=torch.Generator().manual_seed(2)) * 0.01)
    randomize(base, tuned, seed=7)
    for name, weight in ((name, weight.detach()) for name, weight in base.named_parameters()):
        change = weight - before.get_parameter(name).detach()
        wanted = tuned.get_parameter(name).detach() - before.get_parameter(name).detach()
        assert float(change.norm()) == pytest.approx(float(wanted.norm()), rel=1e-4), name
        assert bool(change.any()) is (name == changed)
    assert not torch.equal(base.get_parameter(changed), tuned.get_parameter(changed))


def test_the_standard_error_is_that_of_a_ratio_over_rows() -> None:
    """Against the spread of 4,000 resamples of the rows, the way core/scoring makes intervals."""
    from tunewright.core.scoring import bootstrap

    generator = np.random.default_rng(3)
    tokens = generator.integers(2, 60, 300)
    change = tokens * generator.normal(-0.3, 0.5, 300)
    statistics = np.stack([change, tokens], axis=1).astype(float)
    spread = bootstrap(statistics, lambda s: s[..., 0].sum(1) / s[..., 1].sum(1), seed=5, resamples=4000)
    found = paired(list(change), [0.0] * 300, [int(count) for count in tokens])
    assert found.difference == pytest.approx(change.sum() / tokens.sum())
    assert found.standard_error == pytest.approx(float(spread.std()), rel=0.05)
    assert found.z < -4


def test_rows_not_tokens_are_counted() -> None:
    """One row's tokens move together: four rows of 1,000 tokens are four observations."""
    few = paired([-1000.0, 900.0, -1100.0, 1000.0], [0.0] * 4, [1000] * 4)
    assert abs(few.z) < 1
