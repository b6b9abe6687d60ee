"""The GPU's norms, gated activations and rotary positions against plain torch in float64.

On a GPU as they are; without one by Triton's interpreter (`TRITON_INTERPRET=1`, `pip install triton`).
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from tunewright.models.kernels import gpu_rows

_PLACE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    find_spec("triton") is None or (_PLACE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"),
    reason="needs Triton, and a GPU or TRITON_INTERPRET=1",
)
FORMATS = [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)]


def _random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).to(dtype).to(_PLACE)


def _agree(found: Tensor, wanted: Tensor, bound: float) -> bool:
    """By the norm of the difference: a single number near zero has no relative error worth a name."""
    return float((found.double() - wanted).norm() / wanted.norm()) < bound


@pytest.mark.parametrize(("dtype", "bound"), FORMATS)
@pytest.mark.parametrize("shape", [(1, 7, 96), (3, 2048), (1500, 64)])
@pytest.mark.parametrize("wants_weight", [False, True])
def test_norm(shape: tuple[int, ...], dtype: torch.dtype, bound: float, wants_weight: bool) -> None:
    """1500 rows: more than the backward pass has programs."""
    x, above = _random(*shape, dtype=dtype), _random(*shape, dtype=dtype)
    weight = _random(shape[-1], dtype=dtype)
    made, scales = gpu_rows.norm_forward(x, weight, 1e-5)
    to_x, to_weight = gpu_rows.norm_backward(x, weight, scales, above, wants_weight=wants_weight)
    exact, factor = x.double().requires_grad_(), weight.double().requires_grad_()
    wanted = factor * exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + 1e-5)
    wanted.backward(above.double())
    assert exact.grad is not None and factor.grad is not None
    assert made.dtype == to_x.dtype == dtype
    assert _agree(made, wanted.detach(), bound) and _agree(to_x, exact.grad, bound)
    assert (to_weight is not None) == wants_weight
    assert to_weight is None or (to_weight.dtype == dtype and _agree(to_weight, factor.grad, bound))


@pytest.mark.parametrize(("dtype", "bound"), FORMATS)
def test_gated_activation(dtype: torch.dtype, bound: float) -> None:
    gate, up, above = (_random(5, 700, dtype=dtype) for _ in range(3))
    to_gate, to_up = gpu_rows.gate_backward(gate, up, above)
    one, other = gate.double().requires_grad_(), up.double().requires_grad_()
    wanted = torch.nn.functional.silu(one) * other
    wanted.backward(above.double())
    assert one.grad is not None and other.grad is not None
    assert _agree(gpu_rows.gate_forward(gate, up), wanted.detach(), bound)
    assert _agree(to_gate, one.grad, bound) and _agree(to_up, other.grad, bound)


@pytest.mark.parametrize(("dtype", "bound"), FORMATS)
@pytest.mark.parametrize(("heads", "width"), [(3, 8), (32, 128), (5, 80)])
def test_rotary_positions(heads: int, width: int, dtype: torch.dtype, bound: float) -> None:
    """Both halves of a head have angles of their own here; queries as they lie in a wider tensor."""
    x = _random(11, heads, 2 * width, dtype=dtype)[:, :, width:]
    above, (cos, sin) = _random(11, heads, width, dtype=dtype), _random(2, 11, width, dtype=dtype)
    exact, half = x.double().requires_grad_(), width // 2
    turned = torch.cat([-exact[..., half:], exact[..., :half]], -1)
    wanted = exact * cos.double()[:, None] + turned * sin.double()[:, None]
    wanted.backward(above.double())
    assert exact.grad is not None
    assert _agree(gpu_rows.turn(x, cos, sin, is_back=False), wanted.detach(), bound)
    assert _agree(gpu_rows.turn(above, cos, sin, is_back=True), exact.grad, bound)


def test_no_row_is_no_error() -> None:
    made, scales = gpu_rows.norm_forward(torch.zeros(0, 8, device=_PLACE), torch.ones(8, device=_PLACE), 1e-5)
    assert made.shape == (0, 8) and scales.shape == (0, 1)
