"""Cases that a kernel meets rarely and computes another way."""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def happens(condition: Tensor) -> bool:
    """Whether a case is there, by a bool tensor of one element. Tensors without numbers, as the memory plan has them,
    never show it."""
    return not isinstance(condition, FakeTensor) and bool(condition)
