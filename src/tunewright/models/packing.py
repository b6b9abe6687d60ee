"""Packed micro-batches: rows one behind the other in a single sequence, no padding, each attending to itself only.

The per-sequence causal attention is registered through transformers' attention interface; a 4-D block mask would be
slower than sorting by length. A start that all rows of a micro-batch share is computed once. Equality with padded rows:
tests/models/test_loss.py. Switches: `train.packing: false`, `train.share_prefix: false`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from tunewright.models.tokens import IGNORED, Example

ATTENTION = "tunewright_packed"
MIN_PREFIX = 4
"""A shorter common start costs more as a segment of its own than it saves."""


@dataclass(frozen=True)
class PackedBatch:
    """input_ids, position_ids: [1, T] int64; cu_seq_lens: [S + 1] int32, borders of the S segments; keep: [n] int64
    positions whose next token is trained; targets: [n] int64 those tokens; prefix: length of the first segment when
    it is a prefix that all other segments continue, else 0."""

    input_ids: Tensor
    position_ids: Tensor
    cu_seq_lens: Tensor
    keep: Tensor
    targets: Tensor
    prefix: int


def pack(examples: Sequence[Example], device: torch.device, *, share_prefix: bool = True) -> PackedBatch:
    """Concatenates `examples`, their common untrained start (a system turn) once in front. A label is predicted from
    the position before it."""
    shared = common_prefix(examples) if share_prefix else 0
    ids, positions = list(examples[0].input_ids[:shared]), list(range(shared))
    borders, keep, targets = [0, shared] if shared else [0], [], []
    for example in examples:
        assert example.labels[0] == IGNORED, "nothing predicts a row's first token"
        offset = len(ids) - shared
        trained = [index for index, label in enumerate(example.labels) if label != IGNORED]
        keep += [shared - 1 if index == shared else offset + index - 1 for index in trained]
        targets += [example.labels[index] for index in trained]
        ids += example.input_ids[shared:]
        positions += range(shared, len(example.input_ids))
        borders.append(len(ids))
    return PackedBatch(
        torch.tensor([ids], device=device),
        torch.tensor([positions], device=device),
        torch.tensor(borders, dtype=torch.int32, device=device),
        torch.tensor(keep, dtype=torch.long, device=device),
        torch.tensor(targets, dtype=torch.long, device=device),
        shared,
    )


def common_prefix(examples: Sequence[Example]) -> int:
    """Number of untrained tokens all rows start with, leaving each row one; 0 when it is not worth a segment."""
    if len(examples) < 2:
        return 0
    first = min(example.input_ids for example in examples)
    last = max(example.input_ids for example in examples)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    for example in examples:
        trained = next((i for i, label in enumerate(example.labels) if label != IGNORED), len(example.labels))
        same = min(same, trained, len(example.input_ids) - 1)
    return same if same >= MIN_PREFIX else 0


def computed_tokens(examples: Sequence[Example], *, max_tokens: int, share_prefix: bool) -> int:
    """Tokens that a step over `examples` computes: prefixes count once a micro-batch."""
    total = 0
    for group in micro_batches(examples, max_tokens=max_tokens):
        shared = common_prefix(group) if share_prefix else 0
        total += sum(len(example.input_ids) for example in group) - shared * (len(group) - 1)
    return total


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
    shared_prefix: int = 0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each packed segment, and to the shared prefix. query: [1, H, T, D]; key, value:
    [1, H_kv, T, D]; returns [1, T, H, D]. The signature is transformers' attention interface."""
    assert cu_seq_lens_q is not None, "packed attention needs cu_seq_lens"
    settings = {"dropout_p": dropout, "scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    parts = []
    for start, end in pairwise(cu_seq_lens_q.tolist()):
        own = slice(start, end)
        keys, values = key[:, :, own], value[:, :, own]
        if shared_prefix and start:
            keys = torch.cat([key[:, :, :shared_prefix], keys], 2)
            values = torch.cat([value[:, :, :shared_prefix], values], 2)
            settings |= {"attn_mask": _after_prefix(shared_prefix, end - start, query.device), "is_causal": False}
        else:
            settings |= {"attn_mask": None, "is_causal": True}
        parts.append(scaled_dot_product_attention(query[:, :, own], keys, values, **settings))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=4096)
def _after_prefix(prefix: int, length: int, device: torch.device) -> Tensor:
    """[length, prefix + length] bool: every row sees the whole prefix and itself causally."""
    return torch.ones(length, prefix + length, dtype=torch.bool, device=device).tril(prefix)


def register() -> None:
    """Makes `attn_implementation=ATTENTION` known to transformers; no mask is built for it."""
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)


register()
