"""DeepSpeed ZeRO, stages 1 to 3, driven directly: transformers' Trainer ignores DeepSpeed on CPU without a word, so a
test of it there would prove nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewright.core.errors import ConfigError
from tunewright.train.precision import Precision
from tunewright.train.sharding.options import ZeroOptions
from tunewright.train.sharding.quiet import settle_deepspeed
from tunewright.train.sharding.strategy import Held, Inside, Work, trained
from tunewright.train.sharding.world import World

settle_deepspeed()
import deepspeed  # noqa: E402
from deepspeed.utils import safe_get_full_fp32_param  # noqa: E402

_SHARED_MEMORY = "deepspeed_shm_comm"
"""An extension for inference on CPU that DeepSpeed would compile for minutes at the start."""
_FOLDER = "zero"


class Zero:
    """In bfloat16 DeepSpeed keeps float32 masters of the trained weights, a part on each rank. Its step clips and
    updates in one, so `clip` does both and `optimizer.step` nothing more."""

    keeps_files = True
    optimizer: Any
    scheduled: torch.optim.Optimizer

    def __init__(self, options: ZeroOptions, world: World, formats: Precision) -> None:
        self._options, self._world, self._formats = options, world, formats
        self.text = f"ZeRO-{options.stage}{', offloaded to the machine memory' if options.offload else ''}"
        self.divides = frozenset(("trained", "frozen", "optimizer") if options.stage == 3 else ("optimizer",))
        self._network: Any = None
        self._engine: Any = None

    def wrap(self, network: Any, make_optimizer: Callable[[], torch.optim.Optimizer], clip: float) -> Any:
        """Hands model and optimizer to a DeepSpeed engine."""
        deepspeed.ops.__compatible_ops__[_SHARED_MEMORY] = False
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        self._network, self.scheduled = network, make_optimizer()
        self._engine, self._sharded, _, _ = deepspeed.initialize(
            model=Inside(network), optimizer=self.scheduled, config=self._settings(clip)
        )
        self.optimizer = _Stepped(self.scheduled)
        return self._engine

    def _settings(self, clip: float) -> dict[str, Any]:
        stage, place = self._options.stage, {"device": "cpu"}
        zero: dict[str, Any] = {"stage": stage, "contiguous_gradients": True, "overlap_comm": torch.cuda.is_available()}
        if self._options.offload:
            zero |= {"offload_optimizer": place, **({"offload_param": place} if stage == 3 else {})}
        if stage == 3:
            zero["stage3_param_persistence_threshold"] = 0  # every weight is sharded: what is said is what is done
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,  # the boundary is set by hand: steps have different micro-batches
            "gradient_clipping": clip,
            "steps_per_print": 10**9,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": self._formats.dtype == torch.bfloat16},
        }

    def learn(self, work: Work, *, is_last: bool) -> Tensor:
        """Stage 1 averages at the last micro-batch, stages 2 and 3 at each."""
        self._engine.set_gradient_accumulation_boundary(is_last)
        loss: Tensor = self._engine(work)
        self._engine.backward(loss)
        return loss.detach()

    def look(self, work: Work) -> Any:
        """By all ranks together."""
        return self._engine(work)

    def clip(self) -> float:
        """DeepSpeed's whole step."""
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def local(self) -> dict[str, Tensor]:
        """With stage 3 this rank's part, else the whole weights."""
        return {name: _own(parameter).detach() for name, parameter in trained(self._network).items()}

    def held(self) -> Held:
        """As DeepSpeed has divided it."""
        running = self._engine.zero_optimization_stage()
        if running != self._options.stage:
            raise ConfigError(
                f"DeepSpeed runs stage {running}, not stage {self._options.stage}", where="train.sharding"
            )
        sizes = {flag: sum(_own(p).numel() for p in self._parameters(flag)) for flag in (True, False)}
        in_optimizer = sum(p.numel() for group in self.scheduled.param_groups for p in group["params"])
        if self._options.stage == 3:
            in_optimizer = sum(part.numel() for part in self._sharded.fp32_partitioned_groups_flat)
        return Held(sizes[True], sizes[False], in_optimizer)

    def _parameters(self, is_trained: bool) -> list[Any]:
        return [p for p in self._network.parameters() if p.requires_grad is is_trained]

    def full(self) -> dict[str, Tensor]:
        """The float32 masters, put together one after the other."""
        found = {}
        for name, parameter in trained(self._network).items():
            whole = safe_get_full_fp32_param(parameter)
            assert whole is not None, f"DeepSpeed has no float32 weight of {name}"
            if self._world.is_first:
                found[name] = whole.detach().clone().cpu()
        return found

    def save(self, folder: Path) -> None:
        """DeepSpeed's own checkpoint, without frozen weights."""
        self._engine.save_checkpoint(str(folder), tag=_FOLDER, exclude_frozen_parameters=True)

    def load(self, folder: Path, *, weights_only: bool) -> None:
        """The masters are the weights, so a resume and the best weights read the same files."""
        found, _ = self._engine.load_checkpoint(
            str(folder), tag=_FOLDER, load_module_strict=False, load_optimizer_states=True
        )
        assert found, f"DeepSpeed found no checkpoint in {folder}"


class _Stepped:
    """The optimizer after DeepSpeed's own step: nothing is left to do."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.param_groups = inner.param_groups

    def step(self) -> None:
        """Done in `Zero.clip`."""


def _own(parameter: Any) -> Tensor:
    """What of a weight lies on this rank."""
    found: Tensor = parameter.ds_tensor if hasattr(parameter, "ds_tensor") else parameter
    return found
