"""Packed micro-batches: rows one behind the other in a single sequence, no padding, each attending to itself only.

The per-sequence causal attention is registered through transformers' attention interface; a 4-D block mask would be
slower than sorting by length. Equality with padded rows: tests/models/test_loss.py. Switch: `train.packing: false`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from tunewright.models.tokens import IGNORED, Example

ATTENTION = "tunewright_packed"


@dataclass(frozen=True)
class PackedBatch:
    """input_ids, position_ids: [1, T] int64; cu_seq_lens: [S + 1] int32, borders of the S rows; keep: [n] int64
    positions whose next token is trained; targets: [n] int64 those tokens."""

    input_ids: Tensor
    position_ids: Tensor
    cu_seq_lens: Tensor
    keep: Tensor
    targets: Tensor


def pack(examples: Sequence[Example], device: torch.device) -> PackedBatch:
    """Concatenates `examples`. A label is predicted from the position before it."""
    ids = [token for example in examples for token in example.input_ids]
    labels = [label for example in examples for label in example.labels]
    borders = [0]
    for example in examples:
        assert example.labels[0] == IGNORED, "nothing predicts a row's first token"
        borders.append(borders[-1] + len(example.input_ids))
    positions = [position for example in examples for position in range(len(example.input_ids))]
    keep = [index - 1 for index, label in enumerate(labels) if label != IGNORED]
    return PackedBatch(
        torch.tensor([ids], device=device),
        torch.tensor([positions], device=device),
        torch.tensor(borders, dtype=torch.int32, device=device),
        torch.tensor(keep, dtype=torch.long, device=device),
        torch.tensor([labels[index + 1] for index in keep], dtype=torch.long, device=device),
    )


def micro_batches(examples: Sequence[Example], *, max_tokens: int) -> list[list[Example]]:
    """Groups rows so that each group has at most `max_tokens` tokens (a longer row stands alone): longest first into
    the first group with room."""
    groups: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda item: -len(item.input_ids)):
        size = len(example.input_ids)
        place = next((index for index, free in enumerate(room) if free >= size), None)
        if place is None:
            groups.append([example])
            room.append(max_tokens - size)
        else:
            groups[place].append(example)
            room[place] -= size
    return groups


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each packed row. query: [1, H, T, D]; key, value: [1, H_kv, T, D]; returns
    [1, T, H, D]. The signature is transformers' attention interface."""
    assert cu_seq_lens_q is not None, "packed attention needs cu_seq_lens"
    borders = cu_seq_lens_q.tolist()
    grouped = query.shape[1] != key.shape[1]
    parts = [
        scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=grouped,
        )
        for start, end in pairwise(borders)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def register() -> None:
    """Makes `attn_implementation=ATTENTION` known to transformers; no mask is built for it."""
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)


register()
