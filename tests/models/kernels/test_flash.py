"""One call of flash attention for all rows against torch's attention of each row, output and gradients.

Where no GPU is, the call itself is stood in for by the same in plain torch: what is tested then is which keys each row
is given, and in which order.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tunewright.models import packing
from tunewright.models.kernels import flash, place
from tunewright.models.packing import Segment, attend, attend_by_sdpa

_GPU = torch.cuda.is_available()
PLAIN = (Segment(0, 5), Segment(5, 6), Segment(6, 15))
SHARED = (Segment(0, 4), Segment(4, 9, 0, 4), Segment(9, 15, 0, 4))
LATER = (Segment(0, 3), Segment(3, 7), Segment(7, 11, 3, 7), Segment(11, 15, 3, 7))


def _by_hand(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, key_ends: Tensor, *_: Any, scale: float, **window: int
) -> tuple[Tensor]:
    """What torch documents of flash attention: causal from the last key backwards, a window to the left."""
    found = []
    for row in range(len(ends) - 1):
        own = query[int(ends[row]) : int(ends[row + 1])].transpose(0, 1)
        seen = slice(int(key_ends[row]), int(key_ends[row + 1]))
        groups = query.shape[1] // key.shape[1]
        keys, values = (one[seen].transpose(0, 1).repeat_interleave(groups, 0) for one in (key, value))
        scores = own @ keys.transpose(1, 2) * scale
        place = torch.arange(scores.shape[1])[:, None] + scores.shape[2] - scores.shape[1]
        behind = place - torch.arange(scores.shape[2])
        hidden = (behind < 0) | (behind > window.get("window_size_left", 10**9))
        found.append((scores.masked_fill(hidden, -math.inf).softmax(-1) @ values).transpose(0, 1))
    return (torch.cat(found),)


@pytest.mark.parametrize("segments", [PLAIN, SHARED, LATER])
@pytest.mark.parametrize(("front", "window"), [(0, None), (2, None), (0, 4), (2, 4), (0, 100)])
@pytest.mark.parametrize("heads", [2, 6])
def test_attention_of_each_row(
    segments: tuple[Segment, ...], front: int, window: int | None, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, dtype, bound = ("cuda", torch.bfloat16, 1e-2) if _GPU else ("cpu", torch.float64, 1e-12)
    if not _GPU:
        monkeypatch.setattr(packing, "on_gpu", lambda _: True)
        monkeypatch.setattr(flash, "covers", lambda _: True)
        monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", _by_hand)
    shapes = [(1, heads, 15, 16), (1, 2, front + 15, 16), (1, 2, front + 15, 16)]
    states = [torch.randn(shape, dtype=torch.float64).to(where, dtype) for shape in shapes]
    above = torch.randn(1, 15, heads, 16, dtype=torch.float64).to(where, dtype)
    found = []
    for function in (attend, attend_by_sdpa):
        leaves = [state.clone().requires_grad_() for state in states]
        output, _ = function(None, *leaves, None, scaling=0.3, segments=segments, sliding_window=window)
        output.backward(above)
        found.append([output.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        assert float((one - other).norm() / other.norm()) < bound


def test_rows_in_their_own_order_are_read_where_they_stand() -> None:
    layout = flash.layout_of([(5, [(0, 5)]), (2, [(5, 7)])], torch.device("cpu"))
    assert layout.gathering is None and layout.longest == (5, 5)
    assert layout.query_ends.tolist() == layout.key_ends.tolist() == [0, 5, 7]


def test_shared_keys_are_gathered_for_each_row() -> None:
    layout = flash.layout_of([(2, [(0, 2)]), (1, [(0, 2), (2, 3)]), (1, [(0, 2), (3, 4)])], torch.device("cpu"))
    found = layout.gathering
    assert found is not None and found.index.tolist() == [0, 1, 0, 1, 2, 0, 1, 3]
    assert found.first.tolist() == [0, 1, 4, 7] and found.again.tolist() == [2, 3, 5, 6]
    assert layout.key_ends.tolist() == [0, 2, 5, 8] and layout.longest == (2, 3)


def test_widths_and_formats_that_it_takes() -> None:
    assert flash.covers(torch.empty(1, 128, dtype=torch.bfloat16))
    assert not flash.covers(torch.empty(1, 128))
    assert not flash.covers(torch.empty(1, 20, dtype=torch.bfloat16))
    assert not flash.covers(torch.empty(1, 264, dtype=torch.float16))


def test_nothing_counts_as_on_a_gpu_but_blank_tensors_inside() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        blank = torch.empty(2)
    assert not place.on_gpu(blank)
    with place.imagined_gpu():
        assert place.on_gpu(blank) and place.by_triton(blank)
        assert not place.on_gpu(torch.empty(2))
    assert not place.on_gpu(blank)
