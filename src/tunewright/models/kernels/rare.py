"""Cases that a kernel meets rarely and computes another way."""

from __future__ import annotations

from torch import Tensor

from tunewright.models.kernels.place import is_blank


def happens(condition: Tensor) -> bool:
    """Whether a case is there, by a bool tensor of one element. Tensors without numbers, as the memory plan has them,
    never show it."""
    return not is_blank(condition) and bool(condition)
