"""Cross entropy of an output layer in pieces: the logits of all trained positions are never there at once.

The target's vocabulary is 102,400: logits in fp32 and their gradient for 2,000 positions are 1.6 GB. Each piece's loss
and its gradient to the hidden states are computed together in the forward pass (as Liger does, arXiv 2410.10989), so
nothing is computed twice; so is that to the layer's weight where it is trained in 16 bits. Equality:
tests/models/kernels/test_head_loss.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunewright.models.kernels.place import on_gpu
from tunewright.models.kernels.rare import happens

POSITIONS = 128
"""Positions whose logits are there at once."""
POSITIONS_GPU = 256
"""The same on a GPU, whose products are slow below it."""
_LEAST = 1e-30
"""Probabilities below it come near the end of float32's range."""


class CutHead(nn.Linear):
    """An output layer that can be left out of the model's forward pass, which then gives hidden states for logits:
    whatever is wrapped around the model need not know."""

    is_left_out = False

    def forward(self, input: Tensor) -> Tensor:
        """Logits, or `input` itself while it is left out."""
        return input if self.is_left_out else super().forward(input)

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Inside, the model's logits are hidden states."""
        self.is_left_out = True
        try:
            yield
        finally:
            self.is_left_out = False


def cut_head(model: Any) -> None:
    """Makes the output layer of `model` one that can be left out, where it is a plain one; weights stay the same."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and head.bias is None:
        head.__class__ = CutHead


def head_in_pieces(model: Any) -> CutHead | None:
    """The output layer of `model`, where it can be left out: it is frozen, or trained in 16 bits on this device alone.
    float32 masters would be rounded to 16 bits anew for every piece."""
    inner = getattr(model, "module", model)
    find = getattr(inner, "get_output_embeddings", None)
    head = find() if find is not None else None
    if not isinstance(head, CutHead):
        return None
    is_free = not head.weight.requires_grad or (inner is model and head.weight.dtype.itemsize == 2)
    return head if is_free else None


def head_loss(hidden: Tensor, head: nn.Linear, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum of cross entropy in nats over positions. hidden: [n, d]; targets: [n]; scalar, float32.

    `hidden` may be wider than the weight: a forward pass under autocast gives float32. Logits are multiplied in the
    weight's format, as autocast would.
    """
    found: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, targets, (label_smoothing, torch.is_grad_enabled())
    )
    return found


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, how: tuple[float, bool]) -> Tensor:
        smoothing, learns = how
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        to_hidden = torch.empty_like(hidden) if learns and any(ctx.needs_input_grad[:2]) else None
        to_weight = torch.zeros_like(weight) if learns and ctx.needs_input_grad[1] else None
        at_once = POSITIONS_GPU if on_gpu(hidden) else POSITIONS
        for start in range(0, len(hidden), at_once):
            rows = slice(start, start + at_once)
            logits = functional.linear(hidden[rows].to(weight.dtype), weight)
            wanted = targets[rows]
            shares, loss = _shares(logits, wanted, smoothing)
            total += loss.float()
            del logits  # a piece's numbers go before the next one's come
            if to_hidden is not None:
                if smoothing:
                    shares -= smoothing / weight.shape[0]
                shares.scatter_add_(1, wanted[:, None], shares.new_full((len(shares), 1), smoothing - 1))
                to_logits = shares.to(weight.dtype)
                to_hidden[rows] = to_logits @ weight
                if to_weight is not None:
                    to_weight.addmm_(to_logits.t(), hidden[rows].to(weight.dtype))
                del to_logits
            del shares
        ctx.found = to_hidden, to_weight  # the backward pass uses them up
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        found = [None if one is None else one.mul_(gradients[0].to(one.dtype)) for one in ctx.found]
        ctx.found = None
        return found[0], found[1], None, None


def _shares(logits: Tensor, wanted: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """(softmax of `logits` in float32 at least, sum of cross entropy over positions in its format)."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    if on_gpu(logits):  # which would stand still to be asked whether a probability is small
        logs = torch.log_softmax(logits, -1, dtype=wide)
        loss = _loss(logs.gather(1, wanted[:, None]), logits, wanted, smoothing)
        return logs.exp_(), loss
    shares = torch.softmax(logits, -1, dtype=wide)
    return shares, _loss(_logs(shares, logits, wanted), logits, wanted, smoothing)


def _loss(chosen: Tensor, logits: Tensor, wanted: Tensor, smoothing: float) -> Tensor:
    """Sum of cross entropy over positions. chosen: log probability of each position's token, [n, 1]."""
    if not smoothing:
        return -chosen.sum()
    own = logits.gather(1, wanted[:, None]).to(chosen.dtype)
    mean = logits.mean(-1, keepdim=True, dtype=chosen.dtype) - own + chosen  # log probability of all tokens
    return -((1 - smoothing) * chosen + smoothing * mean).sum()


def _logs(shares: Tensor, logits: Tensor, wanted: Tensor) -> Tensor:
    """Log probability of each position's token, [n, 1]. shares: softmax of `logits`; one too small for its logarithm to
    be exact is computed from the logits."""
    chosen = shares.gather(1, wanted[:, None])
    small = (chosen < _LEAST)[:, 0]
    logs = chosen.log_()
    if happens(small.any()):
        exact = torch.log_softmax(logits[small], -1, dtype=shares.dtype)
        logs[small] = exact.gather(1, wanted[small, None])
    return logs
