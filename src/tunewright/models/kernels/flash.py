"""Attention of packed rows on a GPU: one call of flash attention for all of them (Dao 2023, arXiv 2307.08691).

torch's own flash attention takes rows of any lengths one behind the other. Where rows share a start, or all see a
trained prefix, each row's keys are gathered, the shared ones again for each row: attention is then causal from the
last key backwards, which is how flash attention aligns queries that are fewer than their keys. Equality:
tests/models/kernels/test_flash.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

WIDEST = 256
"""Numbers of a head that flash attention takes at most; always a multiple of 8."""


@dataclass(frozen=True)
class Gathering:
    """Keys as the rows see them, some of them several times. index: [G] int64, each key's position; first: [S] int64,
    where each position comes for the first time; again: [G - S] int64, the others."""

    index: Tensor
    first: Tensor
    again: Tensor


@dataclass(frozen=True)
class Layout:
    """Rows as flash attention takes them. query_ends, key_ends: [n + 1] int32, where each row's queries and keys begin
    and the last ones end; longest: most queries and keys of a row; gathering: None where the keys stand as they are
    seen."""

    query_ends: Tensor
    key_ends: Tensor
    longest: tuple[int, int]
    gathering: Gathering | None


def covers(query: Tensor) -> bool:
    """Whether flash attention takes heads of this width and format. query: [.., D]."""
    width = query.shape[-1]
    return query.dtype in (torch.bfloat16, torch.float16) and width <= WIDEST and width % 8 == 0


def flash_attention(states: Sequence[Tensor], layout: Layout, *, scale: float, window: int | None = None) -> Tensor:
    """Attention of each row. states: queries [H, T, D]; keys, values [H_kv, S, D] with H a multiple of H_kv; window:
    keys that a token sees at most, itself counted. Returns [T, H, D]."""
    query, key, value = (one.transpose(0, 1) for one in states)
    if layout.gathering is not None:
        key, value = (_Gather.apply(one, layout.gathering) for one in (key, value))  # type: ignore[no-untyped-call]
    settings: dict[str, Any] = {"scale": scale} | ({"window_size_left": window - 1} if window else {})
    output: Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, layout.query_ends, layout.key_ends, *layout.longest, 0.0, True, False, **settings
    )[0]
    return output


def layout_of(rows: Sequence[tuple[int, Sequence[tuple[int, int]]]], device: torch.device) -> Layout:
    """rows: (number of queries, (start, end) of the keys they see) in the order of the queries; every key is seen."""
    queries, keys, index = [0], [0], list[int]()
    for count, places in rows:
        queries.append(queries[-1] + count)
        keys.append(keys[-1] + sum(end - start for start, end in places))
        for start, end in places:
            index += range(start, end)
    longest = max(count for count, _ in rows), max(b - a for a, b in pairwise(keys))
    with torch.inference_mode(False):  # one first made in an evaluation is used again by the training
        ends = [torch.tensor(one, dtype=torch.int32, device=device) for one in (queries, keys)]
        return Layout(ends[0], ends[1], longest, _gathering(index, device))


def _gathering(index: list[int], device: torch.device) -> Gathering | None:
    if index == list(range(len(index))):
        return None
    first: dict[int, int] = {}
    again = [place for place, key in enumerate(index) if first.setdefault(key, place) != place]
    places = [first[key] for key in range(len(first))]
    return Gathering(*(torch.tensor(one, dtype=torch.int64, device=device) for one in (index, places, again)))


class _Gather(torch.autograd.Function):
    """Keys or values [S, H, D] -> [G, H, D]. Its gradient reads where torch's own would add up from zero, which on a
    GPU takes four times as long."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, gathering: Gathering) -> Tensor:
        ctx.gathering = gathering
        return states.index_select(0, gathering.index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        above, gathering = gradients[0], ctx.gathering
        found = above.index_select(0, gathering.first)
        again = above.index_select(0, gathering.again)
        return found.index_add_(0, gathering.index.index_select(0, gathering.again), again), None
