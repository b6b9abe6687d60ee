"""Keys and values of a running batch, with room to grow: a step writes its columns in place instead of copying all
earlier ones, as concatenation does.
"""

from __future__ import annotations

from torch import Tensor

from tunewright.models import cache as kv

SPARE = 64
"""Columns a full buffer grows by at least; a long one grows by a quarter of its length."""


class Slots:
    """`length` used columns of each layer's keys and values [B, H_kv, capacity, D]; the rest is room."""

    def __init__(self, layers: kv.Layers) -> None:
        """Copies `layers` into buffers with room."""
        self.length = kv.length(layers)
        self._buffers = [[_roomy([keys], self.length), _roomy([values], self.length)] for keys, values in layers]

    def write(self, index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Puts new columns [B, H_kv, T, D] behind the used ones of layer `index`; returns views of the layer with
        them. The columns count as used once `advance` is called."""
        if len(self._buffers) <= index:
            self._buffers.append([_roomy([keys[:, :, :0]], 0), _roomy([values[:, :, :0]], 0)])
        buffers, end = self._buffers[index], self.length + keys.shape[2]
        for place, new in enumerate((keys, values)):
            if end > buffers[place].shape[2]:
                buffers[place] = _roomy([buffers[place][:, :, : self.length]], self.length, room=keys.shape[2])
            buffers[place][:, :, self.length : end] = new
        return buffers[0][:, :, :end], buffers[1][:, :, :end]

    def advance(self, columns: int) -> None:
        """Counts `columns` as used, after every layer has written them."""
        self.length += columns

    def layers(self) -> kv.Layers:
        """Views of what is used."""
        return [(keys[:, :, : self.length], values[:, :, : self.length]) for keys, values in self._buffers]

    def select(self, rows: list[int], *, drop_left: int) -> Slots:
        """Only `rows`, without the first `drop_left` columns."""
        return self._made(
            [[[tensor[row : row + 1, :, drop_left:] for row in rows] for tensor in pair] for pair in self.layers()],
            self.length - drop_left,
        )

    def join(self, other: Slots) -> Slots:
        """Both batches in one, the shorter padded on the left (positions are inside the keys, so slots may move)."""
        length = max(self.length, other.length)
        pairs = zip(self.layers(), other.layers(), strict=True)
        return self._made([[list(tensors) for tensors in zip(*pair, strict=True)] for pair in pairs], length)

    @staticmethod
    def _made(parts: list[list[list[Tensor]]], length: int) -> Slots:
        """parts: for each layer's keys and values the tensors whose rows they become."""
        made = Slots([])
        made.length = length
        made._buffers = [[_roomy(tensors, length) for tensors in pair] for pair in parts]
        return made


def _roomy(tensors: list[Tensor], length: int, *, room: int = 0) -> Tensor:
    """A buffer with the rows of `tensors` [B_i, H, T_i, D], each right-aligned in the first `length` columns with zeros
    before it, and room (for `room` columns and some more) behind them whose content means nothing."""
    _, heads, _, size = tensors[0].shape
    rows = sum(len(tensor) for tensor in tensors)
    buffer = tensors[0].new_empty(rows, heads, length + room + max(SPARE, length // 4), size)
    start = 0
    for tensor in tensors:
        missing = length - tensor.shape[2]
        buffer[start : start + len(tensor), :, :missing] = 0
        buffer[start : start + len(tensor), :, missing:length] = tensor
        start += len(tensor)
    return buffer
