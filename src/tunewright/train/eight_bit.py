"""The optimizer of `train.optimizer: adamw_8bit`: AdamW whose moments take two bytes a weight instead of eight.

It can update each weight as soon as the backward pass has its gradient and drop that (`train.update_in_backward`), so
that gradients are never there together (Lv et al. 2023, arXiv 2306.09782), and keep the moments in the machine's memory
while no weight of theirs is updated (`train.offload_optimizer`). One update: models/kernels/adam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tunewright.models.kernels.adam import Moments, Rates, update, zero_moments

STEP = "step"


class EightBitAdamW(Optimizer):
    """params: as torch's optimizers take them; max_norm: longest gradient of a weight that is updated in the backward
    pass, each by itself; offload: whether moments rest in the machine's memory. State of a weight: its `Moments` by
    name, and the step."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        max_norm: float = float("inf"),
        offload: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._max_norm, self._offload = max_norm, offload
        self._is_learning = False
        self._is_broken: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every weight that has a gradient; after updates in the backward pass there is none."""
        assert closure is None, "no loss is computed again"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def update_in_backward(self) -> None:
        """From now on, inside `learning`, a weight is updated when its gradient is complete."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.register_post_accumulate_grad_hook(lambda weight, group=group: self._arrived(weight, group))

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Inside, a backward pass is a step's only one and updates; outside it gives gradients as always."""
        self._is_learning, self._is_broken = True, None
        try:
            yield
        finally:
            self._is_learning = False

    @property
    def met_no_number(self) -> bool:
        """Whether a gradient inside the last `learning` was no number: such a one moved its weight by old moments."""
        return self._is_broken is not None and bool(self._is_broken)

    @torch.no_grad()
    def _arrived(self, weight: Tensor, group: dict[str, Any]) -> None:
        if not self._is_learning or weight.grad is None:
            return
        length = torch.linalg.vector_norm(weight.grad, dtype=torch.float32)
        is_broken = ~torch.isfinite(length)
        self._is_broken = is_broken if self._is_broken is None else self._is_broken | is_broken
        shrink = (self._max_norm / (length + 1e-6)).clamp_(max=1.0).masked_fill_(is_broken, 0.0)
        weight.grad.mul_(shrink).nan_to_num_(0.0, 0.0, 0.0)  # nothing waits for the GPU to say which
        self._update(weight, group)
        weight.grad = None

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state |= {**self._resting(zero_moments(weight)), STEP: 0}
        state[STEP] += 1
        rates = Rates(float(group["lr"]), group["betas"], group["eps"], group["weight_decay"], state[STEP])
        resting = Moments(**{name: state[name] for name in Moments.__annotations__})
        moments = Moments(**{name: one.to(weight.device, non_blocking=True) for name, one in resting.__dict__.items()})
        update(weight.data, weight.grad, moments, rates)
        for name, one in moments.__dict__.items():
            if one is not state[name]:
                state[name].copy_(one, non_blocking=True)

    def _resting(self, moments: Moments) -> dict[str, Tensor]:
        """The moments where they are while nothing is computed with them."""
        if not self._offload:
            return dict(moments.__dict__)
        return {name: one.cpu().pin_memory() if one.is_cuda else one for name, one in moments.__dict__.items()}

    def state_dict(self) -> dict[str, Any]:
        """As torch's, once copies on their way have arrived."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, which would give the codes the weights' number format and place."""
        super().load_state_dict({**state_dict, "state": {}})
        weights = dict(zip(_flat(state_dict["param_groups"]), _flat(self.param_groups), strict=True))
        for key, saved in state_dict["state"].items():
            weight, step = weights[key], saved[STEP]
            moments = Moments(**{name: saved[name].to(weight.device) for name in Moments.__annotations__})
            self.state[weight] = {**self._resting(moments), STEP: step}


def _flat(groups: Iterable[dict[str, Any]]) -> list[Any]:
    return [weight for group in groups for weight in group["params"]]
