"""torch.compile behind its switch: the same loss and gradients as the library's own layers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tunewright.models.load import load_model
from tunewright.models.loss import packed_loss
from tunewright.train.config import TrainConfig
from tunewright.train.methods.lora import Lora
from tunewright.train.methods.options import LoraOptions
from tunewright.train.settle import compile_parts, settle

from train_kit import rows  # isort: skip

PLAIN = TrainConfig(kernels="plain")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_parts_compute_the_same(tiny: Path) -> None:
    """Micro-batches of other lengths are not compiled anew each."""
    torch._dynamo.utils.counters.clear()
    found = []
    for is_compiled in (False, True):
        model = load_model(tiny, dtype=torch.float32)
        settle(model, PLAIN)
        torch.manual_seed(3)
        adapted = Lora(LoraOptions(rank=4)).prepare(model).train()
        if is_compiled:
            assert compile_parts(adapted) == 3 * model.config.num_hidden_layers
        losses = []
        for count in (3, 1, 4, 2):
            loss = packed_loss(adapted, rows(count))
            loss.backward()
            losses.append(loss.detach())
        gradients = [weight.grad.flatten() for weight in adapted.parameters() if weight.grad is not None]
        found.append((torch.stack(losses), torch.cat(gradients)))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-5)
    assert float((found[0][1] - found[1][1]).norm() / found[0][1].norm()) < 1e-4
    stats = torch._dynamo.utils.counters["stats"]
    assert 0 < stats["unique_graphs"] <= 12, "a form for each kind of part, with and without a gradient"


def test_it_needs_the_librarys_layers() -> None:
    with pytest.raises(ValidationError, match="compile: true needs kernels: plain"):
        TrainConfig(compile=True)
