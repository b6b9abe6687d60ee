"""Cross entropy over trained positions only: logits are computed where a label is, nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tunewright.core.events import track
from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.kernels.head_loss import head_in_pieces, head_loss
from tunewright.models.kernels.layers import KEPT, Last
from tunewright.models.packing import ATTENTION, attending, micro_batches, pack
from tunewright.models.tokens import IGNORED, Example


def packed_loss(
    model: Any, examples: Sequence[Example], *, share_prefix: bool = True, label_smoothing: float = 0.0
) -> Tensor:
    """Sum of cross entropy in nats over the trained tokens of one packed micro-batch. Scalar, float32.

    The model's attention implementation must be `packing.ATTENTION`. label_smoothing: the share of a target's
    probability that is spread over the vocabulary (Szegedy et al. 2016, arXiv 1512.00567).
    """
    batch = pack(examples, model.device, share_prefix=share_prefix)
    head = head_in_pieces(model)
    kept = {KEPT: batch.keep} if isinstance(decoder_layers(model)[-1], Last) else {"logits_to_keep": batch.keep}
    with head.left_out() if head is not None else nullcontext():
        output = model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            segments=batch.segments,
            use_cache=False,
            **kept,
        )
    if head is not None:
        return head_loss(output.logits[0], head, batch.targets, label_smoothing)
    logits = output.logits[0].float()
    return cross_entropy(logits, batch.targets, reduction="sum", label_smoothing=label_smoothing)


def padded_loss(model: Any, examples: Sequence[Example], *, label_smoothing: float = 0.0) -> Tensor:
    """The same sum by the plain path: rows padded on the right, a mask, all logits."""
    width = max(len(example.input_ids) for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    mask = torch.zeros(len(examples), width, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        ids[row, :length] = torch.tensor(example.input_ids)
        labels[row, :length] = torch.tensor(example.labels)
        mask[row, :length] = 1
    place = model.device
    logits = model(input_ids=ids.to(place), attention_mask=mask.to(place), use_cache=False).logits
    return cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        labels[:, 1:].reshape(-1).to(place),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


@torch.inference_mode()
def mean_loss(
    model: Any, examples: Sequence[Example], *, tokens_per_batch: int = 2048, label: str = "loss"
) -> tuple[float, int]:
    """(mean cross entropy in nats over labels, number of labels) of a model in evaluation mode."""
    groups = micro_batches(examples, max_tokens=tokens_per_batch)
    with attending(model, ATTENTION):
        total = sum(float(packed_loss(model, group)) for group in track(groups, label, len(groups)))
    count = sum(example.trained for example in examples)
    return total / count, count
