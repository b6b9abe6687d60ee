"""The walk without data against real steps: the same bytes, the same line over layers, and the target's known sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.core.errors import ArtifactError
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.loss import packed_loss
from tunewright.models.tokens import Example
from tunewright.train import loop, precision
from tunewright.train.config import TrainConfig
from tunewright.train.footprint import blank
from tunewright.train.footprint.parts import Split
from tunewright.train.footprint.predict import Walks, Work, made_up, predict, work_of
from tunewright.train.footprint.trace import Living, trace
from tunewright.train.methods.options import METHODS, FreezeOptions, FullOptions, LoraOptions, PrefixOptions

TINY = ModelConfig(path="builtin:tiny", dtype="bfloat16")
EXAMPLES = made_up(256, 64, 0.5)
ALL = [{"name": name} for name in ("lora", "full", "freeze", "prefix", "ia3")]
TARGET: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 102400,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
"""deepseek-llm-7b-chat's config.json."""
PARAMETERS = 6_910_365_696
"""Its weights, as its card counts them."""


@pytest.fixture(scope="module")
def base() -> Path:
    return source.resolve(TINY, Path())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(TARGET))
    return tmp_path / "config.json"


def settings(method: dict[str, Any], **rest: Any) -> TrainConfig:
    return TrainConfig.model_validate({"method": method, **rest})


def formats_of(chosen: TrainConfig, dtype: Any = "bfloat16") -> precision.Precision:
    return precision.choose(dtype, kind=METHODS.target(chosen.method.name)(chosen.method).kind)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("method", [{"name": "lora"}, {"name": "ia3"}, {"name": "prefix"}], ids=lambda m: m["name"])
def test_the_walk_sees_what_a_real_step_allocates(base: Path, method: dict[str, Any], checkpointing: bool) -> None:
    """Weights are loaded here, the step is real, and only the counting is the same."""
    chosen = settings(method, gradient_checkpointing=checkpointing)
    formats = formats_of(chosen)
    how = METHODS.target(chosen.method.name)(chosen.method)
    model = loop.prepare(base, chosen, how, formats, seed=7, trust_remote_code=False).train()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    living = Living()
    living.leave_out(iter([*model.parameters(), *model.buffers(), *gradients]))
    living.follow(model)
    with living:
        packed_loss(model, EXAMPLES).backward()
    config = blank.read_config(base)
    phases = trace(config, chosen, formats, EXAMPLES, layers=blank.depth_of(config))
    found = max(phases.values(), key=lambda phase: phase.moving)
    assert found.moving == pytest.approx(living.peak, rel=0.02)
    assert found.weights == sum(p.nbytes for p in model.parameters())
    assert found.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("method", ALL, ids=lambda m: m["name"])
def test_everything_grows_on_a_line_with_the_layers(target: Path, method: dict[str, Any], checkpointing: bool) -> None:
    """Three and four layers say what six need."""
    target.write_text(
        json.dumps(
            {
                **TARGET,
                "hidden_size": 256,
                "intermediate_size": 512,
                "num_hidden_layers": 6,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "vocab_size": 1000,
            }
        )
    )
    config, chosen = blank.read_config(target), settings(method, gradient_checkpointing=checkpointing)
    formats = formats_of(chosen)
    extended = Walks(config).find(chosen, formats, Work(EXAMPLES), on_gpu=False)
    whole = max(trace(config, chosen, formats, EXAMPLES, layers=6).values(), key=lambda phase: phase.moving)
    assert extended.moving == pytest.approx(whole.moving, rel=0.02)
    for part in ("weights", "gradients", "trained", "total", "linear", "state"):
        assert getattr(extended, part) == getattr(whole, part), part


def test_the_target_has_its_known_sizes(target: Path) -> None:
    """shared facts of the model: 13.82 GB in bf16, 13.95 / 14.42 with LoRA r16, 5.41 on 4 bits, 110.6 in full."""
    walks = Walks(blank.read_config(target))
    work = Work(made_up(64, 64, 0.5))

    def static(method: Any) -> float:
        chosen = TrainConfig(method=method, kernels="plain")
        need = predict(walks, chosen, formats_of(chosen), work, device="cuda")
        return (need.weights + need.gradients + need.optimizer) / 1e9

    full = predict(
        walks, TrainConfig(method=FullOptions()), formats_of(TrainConfig(method=FullOptions())), work, device="cuda"
    )
    assert full.total == full.trained == PARAMETERS
    assert static(FullOptions()) == pytest.approx(110.6, abs=0.1)
    assert static(LoraOptions()) == pytest.approx(14.42, abs=0.01)
    assert static(LoraOptions(targets=("q_proj", "v_proj"))) == pytest.approx(13.95, abs=0.01)
    assert static(LoraOptions(base_bits=4)) == pytest.approx(5.41, abs=0.1)


def test_zero_divides_what_its_stage_says(target: Path) -> None:
    """Rajbhandari et al. 2020, section 3: 2P + 2P + 12P; ZeRO-2 on 2, 4 and 8 devices: 62.2, 38.0, 25.9 GB."""
    walks, work = Walks(blank.read_config(target)), Work(made_up(64, 64, 0.5))
    chosen = TrainConfig(method=FullOptions())
    formats = precision.Precision(torch.bfloat16, "", has_masters=False, reason="zero")

    def need(devices: int, stage: int, *, offload: bool = False) -> Any:
        split = Split(devices, stage, offload, masters=True)
        return predict(walks, chosen, formats, work, device="cuda", split=split)

    def static(found: Any) -> float:
        return float(found.weights + found.gradients + found.optimizer) / 1e9

    two = {devices: static(need(devices, 2)) for devices in (2, 4, 8)}
    assert two == pytest.approx({2: 62.2, 4: 38.0, 8: 25.9}, abs=0.1)
    assert static(need(4, 1)) == pytest.approx((4 + 12 / 4) * PARAMETERS / 1e9, rel=1e-3)
    assert static(need(4, 3)) == pytest.approx(16 / 4 * PARAMETERS / 1e9, rel=1e-3)
    offloaded = need(4, 2, offload=True)
    assert offloaded.optimizer == 0
    assert offloaded.host >= 12 * PARAMETERS


def test_a_frozen_base_in_fewer_bits_is_smaller_by_its_linear_layers(target: Path) -> None:
    walks, work = Walks(blank.read_config(target)), Work(made_up(64, 64, 0.5))
    linear = 30 * (4 * 4096**2 + 3 * 4096 * 11008)

    def weights(bits: Any) -> int:
        chosen = TrainConfig(method=LoraOptions(base_bits=bits))
        return predict(walks, chosen, formats_of(chosen), work, device="cuda").weights

    assert weights(None) - weights(8) == linear
    assert weights(None) - weights(4) == pytest.approx(linear * (2 - 4.127 / 8), rel=1e-6)


def test_a_deeper_freeze_trains_more(target: Path) -> None:
    walks, work = Walks(blank.read_config(target)), Work(made_up(64, 64, 0.5))
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096

    def trained(layers: int) -> int:
        chosen = TrainConfig(method=FreezeOptions(layers=layers))
        return predict(walks, chosen, formats_of(chosen), work, device="cuda").trained

    assert trained(3) == 3 * layer + 4096
    assert trained(30) == 30 * layer + 4096


def test_the_largest_micro_batch_counts(base: Path) -> None:
    config = blank.read_config(base)
    chosen = TrainConfig(micro_batch_tokens=128)
    small, large = made_up(64, 32, 0.5), made_up(256, 64, 0.5)
    work = work_of([small, large], chosen, config, share_prefix=False)
    assert sum(len(example.input_ids) for example in work.examples) == 128
    assert work.accumulates
    assert not work_of([small], chosen, config, share_prefix=False).accumulates


def test_made_up_rows_have_no_start_in_common() -> None:
    rows = made_up(200, 50, 0.5)
    assert len(rows) == 4 and len({row.input_ids[0] for row in rows}) == 4
    assert all(row.trained == 25 and len(row.input_ids) == 50 for row in rows)
    assert isinstance(rows[0], Example)


def test_a_prefix_counts_its_projection(base: Path) -> None:
    config = blank.read_config(base)
    plain, projected = (
        trace(config, TrainConfig(method=PrefixOptions(projection=on)), formats_of(TrainConfig()), EXAMPLES, layers=2)
        for on in (False, True)
    )
    assert projected["forward"].trained > plain["forward"].trained


def test_a_real_step_after_a_walk_meets_no_fake_tensor(base: Path) -> None:
    """Masks are remembered by length: the walk's must be forgotten, and a real step's must not reach a walk."""
    rows = [Example((1, 2, 3, 4, 5, 6, 7, n), (*[-100] * 7, n)) for n in range(8, 12)]
    for kernels in ("auto", "plain"):
        chosen = TrainConfig(kernels=kernels)  # type: ignore[arg-type]
        how = METHODS.target(chosen.method.name)(chosen.method)
        for _ in range(2):
            trace(blank.read_config(base), chosen, formats_of(chosen), rows, layers=2)
            model = loop.prepare(base, chosen, how, formats_of(chosen), seed=7, trust_remote_code=False)
            loss = packed_loss(model, rows)
            loss.backward()
            assert float(loss.detach()) > 0


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "config.json"
    place.write_text('{"hello": 1}')
    with pytest.raises(ArtifactError, match="describes no model that can be planned"):
        blank.read_config(place)
