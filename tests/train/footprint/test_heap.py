"""Compiled products and holes: what is counted, how it grows with the lengths of micro-batches, and that oneDNN
compiles as many as the walk counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tunewright.core.machine import has_fast_bfloat16
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.tokens import Example
from tunewright.train import memory, precision
from tunewright.train.config import TrainConfig
from tunewright.train.footprint import blank, heap
from tunewright.train.footprint.parts import PARTS
from tunewright.train.footprint.predict import Walks, Work, made_up, predict, work_of
from tunewright.train.footprint.trace import packed_length, trace
from tunewright.train.methods.options import FullOptions, Ia3Options, LoraOptions

MM, BMM, ADD = torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.add.Tensor
FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
LORA = TrainConfig(method=LoraOptions())


def bf16(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def base() -> Path:
    return source.resolve(ModelConfig(path="builtin:tiny"), Path())


def test_only_products_in_16_bits_are_compiled() -> None:
    assert heap.product_of(MM, (bf16(7, 4), bf16(4, 3)), {}) is not None
    assert heap.product_of(MM, (torch.zeros(7, 4), torch.zeros(4, 3)), {}) is None
    assert heap.product_of(ADD, (bf16(7, 4), bf16(7, 4)), {}) is None


def test_a_product_is_another_by_shape_order_and_scalars() -> None:
    one = heap.product_of(MM, (bf16(7, 4), bf16(4, 3)), {})
    assert one == heap.product_of(MM, (bf16(7, 4), bf16(4, 3)), {})
    for other in (
        heap.product_of(MM, (bf16(8, 4), bf16(4, 3)), {}),
        heap.product_of(MM, (bf16(7, 4), bf16(3, 4).t()), {}),
        heap.product_of(MM, (bf16(7, 4), bf16(4, 3)), {"alpha": 0.5}),
        heap.product_of(BMM, (bf16(1, 7, 4), bf16(1, 4, 3)), {}),
    ):
        assert other is not None and other != one


def test_products_of_the_packed_length_are_apart_from_those_of_a_row() -> None:
    known = [
        heap.product_of(MM, (bf16(100, 4), bf16(4, 3)), {}),
        heap.product_of(BMM, (bf16(2, 40, 4), bf16(2, 4, 40)), {}),
        heap.product_of(FLASH, (bf16(1, 2, 40, 4),), {}),
    ]
    assert heap.counted([one for one in known if one], 100) == (1, 1 + 5)


def test_what_is_compiled_grows_with_the_lengths_up_to_what_is_remembered() -> None:
    def need(lengths: int, rows: int) -> int:
        return heap.compiled_bytes(8, 5.0, heap.Shapes(lengths, rows))

    assert need(1, 1) == 13 * heap.COMPILED
    assert need(10, 1) - need(1, 1) == 9 * 8 * heap.COMPILED
    assert need(1, 10) - need(1, 1) == 9 * 5 * heap.COMPILED
    assert need(500, 500) == need(5000, 500) == heap.REMEMBERED * heap.COMPILED


def test_holes_grow_with_the_lengths_where_something_is_compiled_between() -> None:
    def share(lengths: int, *, compiles: bool) -> float:
        return heap.holes(10**9, heap.Shapes(lengths, 1), compiles=compiles) / 10**9

    assert share(1, compiles=True) == pytest.approx(0.43)
    assert share(1, compiles=True) < share(10, compiles=True) < share(100, compiles=True) < 2
    assert share(100, compiles=False) == share(heap.SETTLED, compiles=False)
    assert share(heap.SETTLED, compiles=False) == pytest.approx(0.86, abs=0.02), "measured: 36 steps of lora"


def test_the_heap_is_trimmed_as_often_as_the_constant_was_measured() -> None:
    assert memory.EVERY_LAYERS == 4, "LAYERS_TOUCHED was measured with this"


def test_lengths_are_those_that_are_packed(base: Path) -> None:
    """A start that rows share counts once; a length that comes twice is compiled once."""
    config = blank.read_config(base)
    rows = [Example((*range(1, 11), *[number] * 10), (*[-100] * 10, *[number] * 10)) for number in (20, 21)]
    assert packed_length(rows, LORA) == 40 - 10
    assert packed_length(rows, LORA.model_copy(update={"share_prefix": False})) == 40
    assert packed_length([*made_up(20, 20, 0.5), *made_up(30, 30, 0.5)], TrainConfig(packing=False)) == 2 * 30
    steps = [made_up(64, 32, 0.5), made_up(64, 32, 0.5), made_up(96, 32, 0.5), made_up(50, 50, 0.5)]
    shapes = work_of(steps, LORA, config, share_prefix=True).shapes
    assert (shapes.lengths, shapes.rows) == (3, 2)


def test_only_a_later_micro_batch_meets_gradients(base: Path) -> None:
    config = blank.read_config(base)
    chosen = TrainConfig(micro_batch_tokens=100)
    alone = work_of([made_up(96, 48, 0.5)], chosen, config, share_prefix=False)
    larger_first = work_of([[*made_up(90, 90, 0.5), *made_up(50, 50, 0.5)]], chosen, config, share_prefix=False)
    alike = work_of([made_up(180, 90, 0.5)], chosen, config, share_prefix=False)
    assert not alone.accumulates and not larger_first.accumulates
    assert alike.accumulates, "the second needs as much, and the first one's gradients"


def test_float32_compiles_nothing_and_bfloat16_does(base: Path) -> None:
    walks, work = Walks(blank.read_config(base)), Work(made_up(128, 64, 0.5), shapes=heap.Shapes(20, 20))
    need = {
        dtype: predict(walks, LORA, precision.choose(dtype, kind="adapter"), work, device="cpu")
        for dtype in ("bfloat16", "float32")
    }
    assert need["float32"].compiled == 0
    assert need["bfloat16"].compiled > 20 * 8 * heap.COMPILED
    assert need["bfloat16"].bytes == sum(getattr(need["bfloat16"], part) for part in PARTS)
    assert predict(walks, LORA, precision.choose("bfloat16", kind="adapter"), work, device="cuda").compiled == 0


@pytest.mark.parametrize("method", [FullOptions(), LoraOptions(), Ia3Options()], ids=lambda method: method.name)
def test_a_full_training_compiles_the_weights_gradients_too(base: Path, method: FullOptions) -> None:
    """Four shapes of linear layers in a Llama: forward, back to the activations and, in full, to the weights."""
    chosen = TrainConfig(method=method)
    formats = precision.choose("bfloat16", kind="full" if method.name == "full" else "adapter")
    rows = made_up(150, 50, 0.5)
    found = trace(blank.read_config(base), chosen, formats, rows, layers=2)["forward"]
    linears = {tuple(layer.weight.shape) for layer in _linears(base)}
    assert found.of_length == len(linears) * (3 if method.name == "full" else 2)


def _linears(base: Path) -> list[torch.nn.Linear]:
    chosen = TrainConfig(method=FullOptions())
    model = blank.blank_model(blank.read_config(base), chosen, precision.choose("bfloat16", kind="full"), layers=2)
    head = model.get_output_embeddings()
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]


COMPILES = """
import torch, sys
from pathlib import Path
from transformers import AutoModelForCausalLM
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.loss import packed_loss
from tunewright.train.config import TrainConfig
from tunewright.train.footprint import blank
from tunewright.train.footprint.predict import made_up
from tunewright.train.methods.options import METHODS
from tunewright.train.settle import settle
config = blank.read_config(source.resolve(ModelConfig(), Path()))
config.num_hidden_layers = 2
chosen = TrainConfig()
model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
settle(model, chosen)
model = METHODS.target("lora")(chosen.method).prepare(model).train()
packed_loss(model, made_up(300, 75, 0.5)).backward()
"""


@pytest.mark.skipif(
    not has_fast_bfloat16(), reason="this CPU multiplies no bfloat16, so oneDNN compiles other products"
)
def test_the_walk_counts_the_products_that_onednn_compiles() -> None:
    """Of a micro-batch of real numbers, two layers of the built-in model; oneDNN says each one itself."""
    config = blank.read_config(source.resolve(ModelConfig(), Path()))
    found = trace(config, LORA, precision.choose("bfloat16", kind="adapter"), made_up(300, 75, 0.5), layers=2)[
        "forward"
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMPILES],
        env={"ONEDNN_VERBOSE": "profile_create", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", **_home()},
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stdout.splitlines() if "create:cache_miss" in line and ",matmul," in line]
    assert found.of_length + found.of_rows == len(said), done.stdout[:3000]


def _home() -> dict[str, str]:
    return {name: os.environ[name] for name in ("HOME", "PYTHONPATH", "XDG_CACHE_HOME") if name in os.environ}
