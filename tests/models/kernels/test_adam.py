"""AdamW with moments in 8 bits: near torch's own, nothing lost to rounding, the Triton kernel equal to plain torch."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from tunewright.models.kernels import adam
from tunewright.models.kernels.adam import BLOCK, Moments, Rates

CPU = torch.device("cpu")
RATES = {"rate": 1e-2, "betas": (0.9, 0.999), "epsilon": 1e-8, "decay": 0.1}
SIZE = 3 * BLOCK + 40
_PLACE = "cuda" if torch.cuda.is_available() else "cpu"
by_triton = pytest.mark.skipif(
    find_spec("triton") is None or (_PLACE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"),
    reason="needs Triton, and a GPU or TRITON_INTERPRET=1",
)


def rates(step: int) -> Rates:
    return Rates(**RATES, step=step)  # type: ignore[arg-type]


def gradients(steps: int, size: int = SIZE) -> list[Tensor]:
    """Numbers of very different sizes within a block, as embeddings have them."""
    generator = torch.Generator().manual_seed(5)
    spread = 10.0 ** torch.linspace(-4, 0, size)
    return [torch.randn(size, generator=generator) * spread for _ in range(steps)]


@pytest.mark.parametrize("is_signed", [True, False])
def test_codes(is_signed: bool) -> None:
    """256 of them, rising, each its own nearest; the published map has 0.55e-6 (signed) next to zero, 1 last."""
    shares = adam.shares_of_codes(is_signed, CPU)
    assert len(shares) == len(set(shares.tolist())) == 256 and bool((shares[1:] > shares[:-1]).all())
    assert shares[-1] == 1 and (shares == 0).sum() == 1
    smallest = float(shares[shares > 0].min())
    assert smallest == pytest.approx(0.55e-6 if is_signed else 0.325e-6)
    assert not is_signed or torch.equal(shares[:127], -shares[128:255].flip(0))
    assert torch.bucketize(shares, adam.borders(is_signed, CPU)).tolist() == list(range(256))


@pytest.mark.parametrize("is_signed", [True, False])
def test_decoded_is_near(is_signed: bool) -> None:
    values = torch.randn(SIZE) if is_signed else torch.rand(SIZE)
    codes, scales = torch.empty(SIZE, dtype=torch.uint8), torch.empty(4)
    adam.encode(values, codes, scales, is_signed=is_signed)
    found = adam.decode(codes, scales, is_signed=is_signed)
    assert float((found - values).norm() / values.norm()) < 0.02
    assert torch.equal(scales[3], values[3 * BLOCK :].abs().max()), "the last block is a part of one"


def test_a_second_moment_is_never_rounded_to_zero() -> None:
    values = torch.tensor([1.0, 1e-12, 0.0])
    codes, scales = torch.empty(3, dtype=torch.uint8), torch.empty(1)
    adam.encode(values, codes, scales, is_signed=False)
    found = adam.decode(codes, scales, is_signed=False)
    assert found[1] > 0 and found[2] == 0


def test_steps_are_near_those_of_torch() -> None:
    """Ten steps from the same weights: the way gone differs by a few per cent of it."""
    start = torch.randn(SIZE)
    own, theirs = start.clone(), torch.nn.Parameter(start.clone())
    moments = adam.zero_moments(own)
    usual = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    for step, gradient in enumerate(gradients(10), start=1):
        given = gradient.clone()
        adam.update(own, given, moments, rates(step))
        assert torch.equal(given, gradient), "the gradient is read only"
        theirs.grad = gradient
        usual.step()
    way = theirs.detach() - start
    assert float((own - theirs.detach()).norm() / way.norm()) < 0.05
    first = adam.zero_moments(own)
    once, exact = start.clone(), torch.nn.Parameter(start.clone())
    adam.update(once, gradients(1)[0], first, rates(1))
    exact.grad = gradients(1)[0]
    torch.optim.AdamW([exact], lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1).step()
    assert torch.allclose(once, exact.detach(), rtol=1e-5, atol=1e-7), "the first step meets no rounded moment"


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for at_once in (1 << 22, BLOCK):
        monkeypatch.setattr(adam, "_AT_ONCE", at_once)
        weight = torch.ones(SIZE)
        moments = adam.zero_moments(weight)
        for step, gradient in enumerate(gradients(3), start=1):
            adam.update(weight, gradient, moments, rates(step))
        found.append([weight, *moments.__dict__.values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_small_updates_of_bfloat16_are_kept_in_the_mean() -> None:
    """A hundredth of the distance of two numbers, 200 times: rounded to the nearest, nothing would move."""
    torch.manual_seed(0)
    weight = torch.ones(4000, dtype=torch.bfloat16)
    for _ in range(200):
        weight.copy_(adam.rounded_at_random(weight.float() - 2**-8 / 100))
    assert float(weight.float().mean()) == pytest.approx(1 - 200 * 2**-8 / 100, abs=1e-4)
    exact = torch.randn(100).bfloat16()
    assert torch.equal(adam.rounded_at_random(exact.float()), exact), "what bfloat16 can say stays as it is"
    assert torch.equal(adam.rounded_at_random(-torch.ones(9)), -torch.ones(9).bfloat16())


@by_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_does_the_same(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes may differ where a share lies on a border, by one."""
    found: list[tuple[Tensor, Moments]] = []
    for is_kernel in (False, True):
        monkeypatch.setattr(adam, "by_triton", lambda _, on=is_kernel: on)
        torch.manual_seed(1)
        weight = torch.randn(SIZE).to(_PLACE, dtype)
        moments = adam.zero_moments(weight)
        for step, gradient in enumerate(gradients(3), start=1):
            adam.update(weight, gradient.to(_PLACE, dtype), moments, rates(step))
        found.append((weight, moments))
    (plain, kept), (fast, own) = found
    bound = 1e-5 if dtype == torch.float32 else 3 * 2**-7  # a step each may round the other way
    assert torch.allclose(plain.float(), fast.float(), rtol=bound, atol=bound)
    for name in ("first", "second"):
        codes = [getattr(one, f"{name}_codes").int() for one in (kept, own)]
        assert int((codes[0] - codes[1]).abs().max()) <= 1 and float((codes[0] != codes[1]).float().mean()) < 0.01
        assert torch.allclose(*(getattr(one, f"{name}_scales") for one in (kept, own)), rtol=1e-5)


@by_triton
def test_the_kernel_rounds_at_random_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam, "by_triton", lambda _: True)
    torch.manual_seed(1)
    weight = torch.ones(40_000, dtype=torch.bfloat16, device=_PLACE)
    adam.update(
        weight, torch.ones_like(weight), adam.zero_moments(weight), Rates(2**-8 / 10, (0.9, 0.999), 0.0, 0.0, 1)
    )
    assert float(weight.float().mean()) == pytest.approx(1 - 2**-8 / 10, abs=3e-5)
    assert set(weight.tolist()) == {1.0, 1 - 2**-8}
