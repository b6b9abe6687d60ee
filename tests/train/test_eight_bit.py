"""The optimizer with moments in 8 bits: in the backward pass as after it, saved and read, and what it meets."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from train_kit import rows

from tunewright.core.errors import ConfigError
from tunewright.models.load import load_model
from tunewright.train import precision
from tunewright.train.config import TrainConfig
from tunewright.train.eight_bit import EightBitAdamW
from tunewright.train.plan import StepPlan
from tunewright.train.trainer import make_trainer
from tunewright.train.watch import TrainingDiverged

BATCHES = [torch.randn(6, 40, generator=torch.Generator().manual_seed(n)) for n in range(4)]


def network() -> nn.Module:
    """A weight that is used twice, as tied ones are, and one of less than a block."""
    torch.manual_seed(2)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = nn.Linear(40, 40, bias=False), nn.Parameter(torch.ones(40))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(self.inner(x).relu() * self.scale)

    return Twice()


def train(model: nn.Module, optimizer: EightBitAdamW, batches: list[torch.Tensor], *, in_backward: bool) -> None:
    for batch in batches:
        loss = model(batch).square().mean()
        if in_backward:
            with optimizer.learning():
                loss.backward()
            assert all(weight.grad is None for weight in model.parameters()), "gradients are dropped"
        else:
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])


def test_in_the_backward_pass_as_after_it() -> None:
    found = []
    for in_backward in (False, True):
        model = network()
        optimizer = EightBitAdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        if in_backward:
            optimizer.update_in_backward()
        train(model, optimizer, BATCHES, in_backward=in_backward)
        found.append(weights_of(model))
    assert torch.equal(*found)
    assert not torch.allclose(found[0], weights_of(network()), atol=1e-3)


def test_outside_learning_a_backward_pass_gives_gradients() -> None:
    model = network()
    optimizer = EightBitAdamW(model.parameters(), lr=1e-2)
    optimizer.update_in_backward()
    model(BATCHES[0]).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert torch.equal(weights_of(model), weights_of(network()))


@pytest.mark.parametrize("offload", [False, True])
def test_saved_and_read_it_goes_on_as_if_nothing_had_been(tmp_path: Path, offload: bool) -> None:
    model = network()
    optimizer = EightBitAdamW(model.parameters(), lr=1e-2, offload=offload)
    train(model, optimizer, BATCHES[:2], in_backward=False)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    other = copy.deepcopy(model)
    again = EightBitAdamW(other.parameters(), lr=1e-2, offload=offload)
    again.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for one, optimizer_of_it in ((model, optimizer), (other, again)):
        train(one, optimizer_of_it, BATCHES[2:], in_backward=False)
    assert torch.equal(weights_of(model), weights_of(other))
    assert {state["first_codes"].dtype for state in again.state.values()} == {torch.uint8}


def test_a_long_gradient_is_shortened_weight_by_weight() -> None:
    """With a longest length of 1, a gradient ten times as long makes the same step: eps is large enough for the length
    to count, which AdamW's steps else do not show."""
    found = []
    for size in (10.0, 100.0):
        model = nn.Linear(30, 20, bias=False)
        model.weight.data.fill_(0.5)
        optimizer = EightBitAdamW(model.parameters(), lr=1e-2, max_norm=1.0, eps=1.0)
        optimizer.update_in_backward()
        with optimizer.learning():
            (model(BATCHES[0][:, :30]).sum() * size).backward()
        found.append(weights_of(model))
        assert not optimizer.met_no_number
    assert torch.allclose(*found, atol=1e-6) and not torch.equal(found[0], torch.full((600,), 0.5))


def trainer_of(model: Any, folder: Path, examples: Any, **settings: Any) -> Any:
    config = TrainConfig.model_validate(
        {"optimizer": "adamw_8bit", "update_in_backward": True, "rows_per_step": 4, "learning_rate": 1e-2} | settings
    )
    steps = [[0, 1, 2, 3]] * 3
    given = {"training": examples, "validation": examples[:1], "plan": StepPlan(steps, 3), "folder": folder, "seed": 1}
    formats = precision.choose("float32", kind="full", optimizer="adamw_8bit")
    return make_trainer(model, config, precision=formats, **given)


def test_a_gradient_that_is_no_number_stops_the_training_and_leaves_numbers(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny, dtype=torch.float32)
    trainer = trainer_of(model, tmp_path, rows(4), packing=False)
    model.model.layers[0].self_attn.q_proj.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingDiverged, match="the gradient of step 1 is no finite number"):
        trainer.train()
    assert bool(weights_of(model).isfinite().all())


def test_a_step_of_several_micro_batches_is_refused_with_the_way_out(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny, dtype=torch.float32)
    with pytest.raises(ConfigError, match="each step to be one micro-batch; the largest has 256 tokens") as caught:
        trainer_of(model, tmp_path, rows(4), micro_batch_tokens=128)
    assert "train.micro_batch_tokens=256" in caught.value.fix


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"update_in_backward": True}, "update_in_backward needs optimizer: adamw_8bit"),
        ({"offload_optimizer": True}, "offload_optimizer needs optimizer: adamw_8bit"),
        ({"optimizer": "adamw_8bit", "sharding": {"name": "ddp"}}, "exclude each other"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TrainConfig.model_validate(settings)


def test_whole_weights_need_no_masters() -> None:
    assert not precision.choose("bfloat16", kind="full", optimizer="adamw_8bit").has_masters
    assert precision.choose("bfloat16", kind="full").has_masters
