"""Packed micro-batches: rows one behind the other in a single sequence, no padding, each attending to itself only.

The per-sequence causal attention is registered through transformers' attention interface; a 4-D block mask would be
slower than sorting by length. A start that all rows of a micro-batch share is computed once. Equality with padded rows:
tests/models/test_loss.py. Switches: `train.packing: false`, `train.share_prefix: false`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from tunewright.models.kernels import flash
from tunewright.models.kernels.attention import Part, blocks, packed_attention
from tunewright.models.kernels.place import on_gpu
from tunewright.models.tokens import IGNORED, Example

ATTENTION = "tunewright_packed"
ATTENTION_SDPA = "tunewright_packed_sdpa"
"""The same by torch's fused attention always: the switch of models/kernels/attention."""
PLAIN = "sdpa"
"""Attention of padded rows, with or without a cache."""
_16_BIT = (torch.bfloat16, torch.float16)
MIN_PREFIX = 6
"""A shorter common start costs more as a segment of its own than it saves."""


@dataclass(frozen=True)
class Segment:
    """Positions start..end of a packed sequence. It attends to itself causally and to all of prefix_start..prefix_end,
    the segment with the start it shares with others (empty: none)."""

    start: int
    end: int
    prefix_start: int = 0
    prefix_end: int = 0


@dataclass(frozen=True)
class PackedBatch:
    """input_ids, position_ids: [1, T] int64; segments cover 0..T; keep: [n] int64 positions whose next token is
    trained; targets: [n] int64 those tokens."""

    input_ids: Tensor
    position_ids: Tensor
    segments: tuple[Segment, ...]
    keep: Tensor
    targets: Tensor


def pack(examples: Sequence[Example], device: torch.device, *, share_prefix: bool = True) -> PackedBatch:
    """Concatenates `examples`; an untrained start that several share (a system turn) stands once in front of them. A
    label is predicted from the position before it."""
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    keep: list[int] = []
    targets: list[int] = []
    for family, shared in families(examples, share_prefix=share_prefix):
        prefix = (len(ids), len(ids) + shared)
        if shared:
            segments.append(Segment(*prefix))
            ids += family[0].input_ids[:shared]
            positions += range(shared)
        for example in family:
            assert example.labels[0] == IGNORED, "nothing predicts a row's first token"
            offset = len(ids) - shared
            trained = [index for index, label in enumerate(example.labels) if label != IGNORED]
            keep += [prefix[1] - 1 if shared and index == shared else offset + index - 1 for index in trained]
            targets += [example.labels[index] for index in trained]
            ids += example.input_ids[shared:]
            positions += range(shared, len(example.input_ids))
            segments.append(Segment(offset + shared, len(ids), *(prefix if shared else ())))
    return PackedBatch(
        torch.tensor([ids], device=device),
        torch.tensor([positions], device=device),
        tuple(segments),
        torch.tensor(keep, dtype=torch.long, device=device),
        torch.tensor(targets, dtype=torch.long, device=device),
    )


def families(examples: Sequence[Example], *, share_prefix: bool) -> list[tuple[list[Example], int]]:
    """(rows, length of the untrained start they share) groups. Rows are ordered by their tokens and cut where
    neighbours have less than MIN_PREFIX tokens in common."""
    if not share_prefix:
        return [(list(examples), 0)]
    ordered = sorted(examples, key=lambda example: example.input_ids)
    groups: list[list[Example]] = [ordered[:1]]
    for before, example in pairwise(ordered):
        if _common(before.input_ids, example.input_ids) >= MIN_PREFIX:
            groups[-1].append(example)
        else:
            groups.append([example])
    return [(group, _common_prefix(group)) for group in groups]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    shorter = min(len(first), len(second))
    return next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), shorter)


def _common_prefix(group: Sequence[Example]) -> int:
    """Untrained tokens that all rows of an ordered group start with, leaving each row one token."""
    if len(group) < 2:
        return 0
    shared = _common(group[0].input_ids, group[-1].input_ids)
    for example in group:
        trained = next((i for i, label in enumerate(example.labels) if label != IGNORED), len(example.labels))
        shared = min(shared, trained, len(example.input_ids) - 1)
    return shared if shared >= MIN_PREFIX else 0


def computed_tokens(examples: Sequence[Example], *, max_tokens: int, share_prefix: bool) -> int:
    """Tokens that a step over `examples` computes: a shared start counts once a micro-batch."""
    total = sum(len(example.input_ids) for example in examples)
    for group in micro_batches(examples, max_tokens=max_tokens, share_prefix=share_prefix):
        total -= sum(shared * (len(rows) - 1) for rows, shared in families(group, share_prefix=share_prefix))
    return total


def attention_shapes(examples: Sequence[Example], *, share_prefix: bool) -> set[tuple[int, int]]:
    """(queries, keys) of every block of attention in a micro-batch of `examples`, each shape once."""
    parts: set[tuple[int, int]] = set()
    for rows, shared in families(examples, share_prefix=share_prefix):
        parts |= {(len(row.input_ids) - shared, len(row.input_ids)) for row in rows}
        parts |= {(shared, shared)} if shared else set()
    return {(own.stop - own.start, seen) for part in parts for own, seen in blocks(*part)}


def micro_batches(examples: Sequence[Example], *, max_tokens: int, share_prefix: bool = False) -> list[list[Example]]:
    """Groups rows so that each group computes at most `max_tokens` tokens (a longer row stands alone): longest first
    into the first group with room. share_prefix: a start that rows of a group share counts once."""
    known = list(enumerate(families(examples, share_prefix=True))) if share_prefix else []
    families_of = {id(row): (number, shared) for number, (rows, shared) in known for row in rows}
    groups: list[list[Example]] = []
    room: list[int] = []
    starts: list[set[int]] = []
    for example in sorted(examples, key=lambda item: -len(item.input_ids)):
        family, shared = families_of.get(id(example), (-1, 0))
        size = len(example.input_ids)
        sizes = (size - shared if family in known_starts else size for known_starts in starts)
        place = next((index for index, need in enumerate(sizes) if room[index] >= need), None)
        if place is None:
            place = len(groups)
            groups.append([])
            room.append(max_tokens)
            starts.append(set())
        groups[place].append(example)
        room[place] -= size - shared if family in starts[place] else size
        starts[place].add(family)
    return groups


def attend_by_sdpa(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> Any:
    """`attend` without products."""
    return attend(module, query, key, value, attention_mask, products=False, **rest)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Sequence[Segment] = (),
    products: bool = True,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each segment and to its prefix. query: [1, H, T, D]; key, value: [1, H_kv, P + T, D], where
    every token sees the first P (a trained prefix; 0 without one); returns [1, T, H, D]. products: by matrix products,
    or on a GPU by one call for all segments, where they are faster. sliding_window: keys that a token sees at most, the
    last ones and itself (Mistral). The signature is transformers' attention interface."""
    assert segments, "packed attention needs the segments"
    segments, front = tuple(segments), key.shape[2] - query.shape[2]
    parts, most = _parts(segments, front)
    window = sliding_window or most
    scale = scaling or query.shape[-1] ** -0.5
    states = query.squeeze(0), key.squeeze(0), value.squeeze(0)  # an index would fill zeros on the way back
    if products and dropout == 0 and on_gpu(query) and flash.covers(query):
        layout = _layout(segments, front, query.device)
        width = window if most > window else None
        return flash.flash_attention(states, layout, scale=scale, window=width)[None], None
    if products and most <= window and dropout == 0 and query.dtype in _16_BIT and query.device.type == "cpu":
        return packed_attention(*states, parts, scale)[None], None
    settings: dict[str, Any] = {"dropout_p": dropout, "scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    found = []
    for own, places in parts:
        keys, values = (torch.cat([states[:, :, place] for place in places], 2) for states in (key, value))
        seen, length = keys.shape[2] - (own.stop - own.start), own.stop - own.start
        is_whole = not seen and length <= window
        settings["is_causal"] = is_whole
        settings["attn_mask"] = (
            None if is_whole else _after_prefix(seen, length, min(window, seen + length), query.device)
        )
        found.append(scaled_dot_product_attention(query[:, :, own], keys, values, **settings))
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=64)
def _parts(segments: tuple[Segment, ...], front: int) -> tuple[tuple[Part, ...], int]:
    """(each segment's queries, and the keys they see: the first `front`, those of its prefix, its own; most keys that a
    segment sees). Every layer asks for the same."""
    found = []
    for segment in segments:
        own = slice(front + segment.start, front + segment.end)
        prefix = slice(front + segment.prefix_start, front + segment.prefix_end)
        before = tuple(place for place in (slice(0, front), prefix) if place.stop > place.start)
        found.append((slice(segment.start, segment.end), (*before, own)))
    return tuple(found), max(sum(place.stop - place.start for place in places) for _, places in found)


@lru_cache(maxsize=16)
def _layout(segments: tuple[Segment, ...], front: int, device: torch.device) -> flash.Layout:
    """The same for flash attention, on the device."""
    parts, _ = _parts(segments, front)
    rows = [(own.stop - own.start, [(place.start, place.stop) for place in places]) for own, places in parts]
    return flash.layout_of(rows, device)


@lru_cache(maxsize=4096)
def _after_prefix(prefix: int, length: int, window: int, device: torch.device) -> Tensor:
    """[length, prefix + length] bool: every row sees the prefix and itself causally, the last `window` of them. Never
    an inference tensor: a mask first needed by an evaluation is used again by the training."""
    with torch.inference_mode(False):
        causal = torch.ones(length, prefix + length, dtype=torch.bool, device=device).tril(prefix)
        return causal.triu(prefix - window + 1)


@contextmanager
def attending(model: Any, implementation: str) -> Iterator[None]:
    """Inside, the model attends by `implementation` (ATTENTION, PLAIN); after it as before."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def register() -> None:
    """Makes `attn_implementation=ATTENTION` known to transformers; no mask is built for it."""
    for name, function in ((ATTENTION, attend), (ATTENTION_SDPA, attend_by_sdpa)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, lambda *_, **__: None)


register()
