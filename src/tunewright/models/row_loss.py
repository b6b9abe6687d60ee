"""The loss of each row by itself: what a paired comparison of two models on the same rows needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from tunewright.core.events import track
from tunewright.models.loss import padded_loss
from tunewright.models.packing import ATTENTION, attending, families, micro_batches, pack
from tunewright.models.tokens import Example


@torch.inference_mode()
def row_losses(
    model: Any,
    examples: Sequence[Example],
    *,
    tokens_per_batch: int = 2048,
    packed: bool = True,
    label: str = "loss",
) -> list[float]:
    """Sum of cross entropy in nats over the trained tokens of each example, in the examples' order.

    model: in evaluation mode. packed: rows of a micro-batch in one sequence, each attending to itself only; off: one
    row after the other by the plain path. Equality: tests/models/test_row_loss.py.
    """
    if not packed:
        return [float(padded_loss(model, [example])) for example in track(examples, label, len(examples))]
    found: dict[int, float] = {}
    groups = micro_batches(examples, max_tokens=tokens_per_batch)
    with attending(model, ATTENTION):
        for group in track(groups, label, len(groups)):
            found |= _packed_losses(model, group)
    return [found[id(example)] for example in examples]


def _packed_losses(model: Any, group: Sequence[Example]) -> dict[int, float]:
    """{id of the example: its sum}. `pack` puts the rows in the order of `families`, and their labels likewise."""
    batch = pack(group, model.device)
    output = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        segments=batch.segments,
        use_cache=False,
        logits_to_keep=batch.keep,
    )
    losses = cross_entropy(output.logits[0].float(), batch.targets, reduction="none")
    ordered = [example for family, _ in families(group, share_prefix=True) for example in family]
    sums = [float(part.double().sum()) for part in losses.split([example.trained for example in ordered])]
    return {id(example): total for example, total in zip(ordered, sums, strict=True)}
