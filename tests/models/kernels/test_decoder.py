"""Our forward pass against transformers': logits, batches of ragged prompts, pieces, rows that join and leave."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tunewright.models.forward import FastPass, TransformersPass, make_fast, pass_of
from tunewright.models.generate import Request, RunningBatch, Sampling, generate
from tunewright.models.kernels.decoder import FAMILIES, FastDecoder, fast_decoder
from tunewright.models.kernels.slots import SPARE, Slots
from tunewright.models.load import for_inference, load_model
from tunewright.models.tokens import ChatTokenizer

SHAPE = {
    "vocab_size": 259,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
CHANGES: dict[str, dict[str, Any]] = {
    **{family: {} for family in FAMILIES},
    "llama biased": {"attention_bias": True, "mlp_bias": True},
    "llama without groups": {"num_key_value_heads": 6},
    "llama scaled positions": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
}


def made(name: str, dtype: torch.dtype = torch.float64, **change: Any) -> Any:
    torch.manual_seed(3)
    family = name.split()[0]
    options = {**SHAPE, **CHANGES.get(name, {}), **change}
    if family == "mistral":
        options["sliding_window"] = options.get("sliding_window")
    config = AutoConfig.for_model(family, **options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases begin as ones and zeros: make them count
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.dim() == 1))
    return model.to(dtype).eval()


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(rows * 100 + length))


@pytest.mark.parametrize("name", CHANGES)
@torch.inference_mode()
def test_logits_are_transformers_for_every_family(name: str) -> None:
    model = made(name)
    decoder = fast_decoder(model)
    assert decoder is not None
    tokens, positions = ids(2, 40), torch.arange(40).expand(2, -1)
    expected = model(input_ids=tokens).logits
    slots = Slots([])
    cuts = [0, 17, 18, 40]
    found = [
        decoder(tokens[:, a:b], torch.ones(2, b, dtype=torch.long), positions[:, a:b], slots, last_only=False)
        for a, b in itertools.pairwise(cuts)
    ]
    error = (torch.cat(found, 1) - expected).norm() / expected.norm()
    assert error < 1e-6, "transformers takes its norms in fp32"
    assert slots.length == 40


@torch.inference_mode()
def test_16_bit_is_as_close_to_fp64_as_transformers() -> None:
    exact = made("llama")
    tokens = ids(4, 64)
    truth = exact(input_ids=tokens).logits
    model = made("llama", torch.bfloat16)
    decoder = FastDecoder(model)
    sees, positions = torch.ones_like(tokens), torch.arange(64).expand(4, -1)
    ours = decoder(tokens, sees, positions, Slots([]), last_only=False).double()
    theirs = model(input_ids=tokens).logits.double()
    assert (ours - truth).norm() < 1.3 * (theirs - truth).norm()


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": 8},
        {"hidden_act": "gelu"},
    ],
)
def test_a_structure_it_does_not_compute_keeps_transformers(change: dict[str, Any]) -> None:
    model = made("mistral" if "sliding_window" in change else "llama", torch.float32, **change)
    assert not make_fast(model) and isinstance(pass_of(model), TransformersPass)


def test_a_probe_that_disagrees_keeps_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a known family whose forward is changed: here a layer that does something more."""
    model = made("llama", torch.float32)
    own = model.model.layers[1].forward
    monkeypatch.setattr(model.model.layers[1], "forward", lambda *a, **k: own(*a, **k) * 1.01)
    assert fast_decoder(model) is None


def test_rows_that_join_and_leave_say_what_they_say_alone(tiny: Path) -> None:
    model, plain = (for_inference(load_model(tiny, dtype=torch.float32), fast=fast) for fast in (True, False))
    assert isinstance(pass_of(model), FastPass) and isinstance(pass_of(plain), TransformersPass)
    tokenizer = ChatTokenizer.load(tiny)
    prompts = [[257, *range(40, 40 + length)] for length in (3, 90, 11, 30, 64)]
    alone = [
        generate(plain, tokenizer, [prompt], Sampling(max_new_tokens=tokens, ignore_end=True))[0].output_ids
        for prompt, tokens in zip(prompts, (5, 90, 20, 70, 9), strict=True)
    ]
    batch = RunningBatch(model, tokenizer)
    requests = [
        Request(prompt, Sampling(max_new_tokens=len(answer), ignore_end=True))
        for prompt, answer in zip(prompts, alone, strict=True)
    ]
    batch.add(requests[:2])
    for request in requests[2:]:
        joining = batch.begin([request])
        while not batch.advance(joining, 16):
            batch.step()
    while batch.rows:
        batch.step()
    assert [request.output_ids for request in requests] == alone


def test_slots_grow_join_and_leave_without_losing_a_column() -> None:
    """Every column is marked with its own number; the ones in front of a shorter batch are zeros, never garbage."""

    def filled(rows: int, length: int, first: float) -> Slots:
        slots = Slots([])
        for column in range(length):
            mark = torch.full((rows, 1, 1, 2), first + column)
            slots.write(0, mark, -mark)
            slots.advance(1)
        return slots

    long, short = filled(1, 3 * SPARE, 1000.0), filled(2, 3, 1.0)
    together = long.join(short)
    ((keys, values),) = together.layers()
    assert keys.shape == (3, 1, 3 * SPARE, 2) and torch.equal(values, -keys)
    assert keys[0, 0, :, 0].tolist() == [1000.0 + column for column in range(3 * SPARE)]
    assert keys[1, 0, -3:, 0].tolist() == [1.0, 2.0, 3.0] and not keys[1:, 0, :-3].any()
    ((kept, _),) = together.select([2], drop_left=3 * SPARE - 3).layers()
    assert kept[0, 0, :, 0].tolist() == [1.0, 2.0, 3.0]
