"""The plan: the project as written, its alternatives, the cheapest that fits, disk, time and cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_kit import PARAMETERS, opened, target_config, write_project

from tunewright.core.errors import ConfigError
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.plan import text
from tunewright.plan.alternatives import alternatives, cheapest, operations
from tunewright.plan.device import Target, target
from tunewright.plan.guide import claims
from tunewright.plan.job import config_file, job_of
from tunewright.plan.make import Asked, Plan, make
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import FullOptions

GB = 10**9


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The target on a GPU of 24 GB, with the defaults of `train:`; walked once."""
    place = target_config(tmp_path_factory.mktemp("seven"))
    return make(None, None, None, Asked(model_config=place, memory="24GB"))


def test_the_target_is_planned_from_its_config_alone(seven: Plan) -> None:
    assert seven.parameters == PARAMETERS
    assert seven.written.need.trained == 37_478_400  # 16 x 30 x (4 x 8192 + 3 x 15104)
    assert seven.written.need.weights == pytest.approx(13.97e9, rel=0.001)
    assert seven.target.device == "cuda" and seven.target.bytes == 24 * GB
    assert seven.job.data is None


def test_the_alternatives_cover_methods_checkpointing_sharing_and_bits(seven: Plan) -> None:
    names = [one.name for one in seven.found]
    assert names[0] == "as written" and len(names) == len(set(names))
    for name in (
        "with checkpointing",
        "half the micro-batch",
        "ZeRO-1 on 2",
        "ZeRO-2 on 2",
        "ZeRO-3 on 2, offloaded",
        "full",
        "full, checkpointing",
        "freeze",
        "prefix",
        "ia3",
        "lora on a base in 8 bits",
        "lora on a base in 4 bits, checkpointing",
    ):
        assert name in names
    need = {one.name: one.need.bytes for one in seven.found}
    assert need["with checkpointing"] < need["as written"]
    assert need["half the micro-batch"] < need["as written"]
    assert need["lora on a base in 4 bits"] < need["lora on a base in 8 bits"] < need["as written"]
    assert need["ZeRO-3 on 2"] < need["ZeRO-2 on 2"] <= need["ZeRO-1 on 2"]
    assert need["full"] > 4 * 24 * GB


def test_full_training_of_the_target_needs_more_than_the_guide_says(seven: Plan) -> None:
    first, saved, own = claims(seven.found)
    assert first.verdict == "too low"
    assert "110.6 GB before activations, 4.6 times as much" in first.number
    assert "% less here" in saved.number
    assert "110.6 GB for weights, gradients and optimizer" in own.number


def test_the_cheapest_that_fits_keeps_the_method_and_computes_least(seven: Plan) -> None:
    best = seven.best
    assert best is not None and best.fits and best.keeps and best.need.bytes <= 24 * GB
    fitting = [one for one in seven.found if one.fits and one.keeps]
    assert best.operations == min(one.operations for one in fitting)
    assert best.split.devices == 1, "there is one"


def test_more_devices_and_less_memory_change_the_choice(seven: Plan) -> None:
    smaller = [one for one in seven.found if one.keeps and one.need.bytes > 12 * GB]
    place = Target("a GPU", "cuda", 12 * GB, 1, 0, is_here=False)
    found = alternatives(seven.job, place, seven.walks)
    assert smaller and all(not one.fits for one in found if one.need.bytes > 12 * GB)
    best = cheapest(found)
    assert best is not None and best.name == "lora on a base in 8 bits, checkpointing", (
        "as much work as 4 bits, nearer to 16"
    )
    assert cheapest(alternatives(seven.job, Target("a GPU", "cuda", 2 * GB, 1, 0, is_here=False), seven.walks)) is None


def test_the_text_shows_every_part(seven: Plan) -> None:
    shown = text.text(seven)
    for words in (
        "6,910,365,696 weights, 30 layers, hidden 4096, vocabulary 102400",
        "weights         13.97 GB",
        "activations",
        "optimizer",
        "in all",
        "host memory",
        "cheapest that fits: ",
        "disk     ",
        "--probe trains 20 steps",
        "too low",
    ):
        assert words in shown, words


def test_work_is_counted_in_forward_passes(seven: Plan) -> None:
    """Full: forward, back to activations, back to weights; checkpointing: one forward more."""
    full = next(one for one in seven.found if one.name == "full")
    assert operations(TrainConfig(method=FullOptions()), full.need) == 3
    assert operations(TrainConfig(method=FullOptions(), gradient_checkpointing=True), full.need) == 4
    assert seven.written.operations == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("given", "device", "size"),
    [
        ("24GB", "cuda", 24 * GB),
        ("16 GiB", "cuda", 16 << 30),
        ("cpu:64GB", "cpu", 64 * GB),
        ("1.5gb", "cuda", GB * 3 // 2),
    ],
)
def test_another_machine_in_words(given: str, device: str, size: int) -> None:
    place = target(given, 4)
    assert (place.device, place.bytes, place.devices, place.is_here) == (device, size, 4, False)


def test_a_machine_that_is_not_understood() -> None:
    with pytest.raises(ConfigError, match="does not understand '24 apples'"):
        target("24 apples", None)
    with pytest.raises(ConfigError, match="at least one"):
        target(None, 0)


def test_this_machine_is_the_default() -> None:
    place = target(None, None)
    assert place.is_here and place.bytes > 10**8


def test_a_model_that_is_not_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "resolve", lambda *_: pytest.fail("asked for the model"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="a plan fetches nothing") as caught:
        config_file(ModelConfig(path="nobody/no-such-model-7b"), tmp_path)
    assert "--model-config" in caught.value.fix


def test_rows_steps_and_tokens_are_the_sealed_ones(tmp_path: Path) -> None:
    loaded, workspace, data = opened(write_project(tmp_path))
    job = job_of(loaded, workspace, data, model_config=None)
    rows = len(data.jsonl("train.jsonl"))
    assert len(job.steps) == 2 * -(-rows // 4)
    assert job.tokens == sum(len(e.input_ids) for step in job.steps for e in step)
    assert 0 < job.computed <= job.tokens
    without = job_of(loaded, workspace, None, model_config=None)
    assert without.data is None and without.tokens == 0


def test_twenty_steps_are_trained_elsewhere_and_give_time_and_cost(tmp_path: Path) -> None:
    loaded, workspace, data = opened(write_project(tmp_path, rows=96))
    before = sorted(path for path in tmp_path.rglob("*") if "tokens" not in path.parts)
    found = make(loaded, workspace, data, Asked(probe=True, price=3.6))
    after = sorted(path for path in tmp_path.rglob("*") if "tokens" not in path.parts)
    assert [p for p in after if "train" in p.parts] == [p for p in before if "train" in p.parts] == []
    assert found.probe is not None and 10 <= found.probe.steps <= 20
    seconds = found.seconds(found.written)
    assert seconds is not None and seconds > 0
    assert seconds == pytest.approx(found.probe.seconds(found.job.computed, found.validations))
    assert found.cost(found.written) == pytest.approx(seconds / 1000)
    slower = next(one for one in found.found if one.name == "with checkpointing")
    assert found.seconds(slower) == pytest.approx(seconds * slower.operations / found.written.operations)
    assert "from " in text.text(found) and "measured steps" in text.text(found)


def test_what_a_probe_needs(tmp_path: Path) -> None:
    place = target_config(tmp_path)
    with pytest.raises(ConfigError, match="needs a time"):
        make(None, None, None, Asked(model_config=place, price=2.0))
    with pytest.raises(ConfigError, match="the project's own model"):
        make(None, None, None, Asked(model_config=place, probe=True))


def test_disk_counts_checkpoints_and_variants(seven: Plan) -> None:
    """Three float32 copies (weights, two moments) of a LoRA r16: two kept, the best, and the one being written."""
    assert seven.disk.checkpoints == 4 * 3 * 4 * 37_478_400
    assert seven.disk.trained == 2 * 37_478_400
    assert seven.disk.variants == 0
