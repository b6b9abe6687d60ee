"""Every registered sharding offers what the trainer calls, and its knobs are checked."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import ValidationError

from tunewright.core.errors import ConfigError, MissingExtraError
from tunewright.train import precision
from tunewright.train.config import TrainConfig
from tunewright.train.methods.full import Full
from tunewright.train.methods.options import FullOptions
from tunewright.train.sharding import joint
from tunewright.train.sharding.options import SHARDINGS
from tunewright.train.sharding.strategy import Held, Strategy
from tunewright.train.sharding.world import World

MEMBERS = ("text", "divides", "keeps_files", "wrap", "learn", "look", "clip", "local", "held", "full", "save", "load")


@pytest.mark.parametrize("name", SHARDINGS.entries)
def test_every_sharding_offers_what_the_trainer_calls(name: str) -> None:
    if name == "zero" and find_spec("deepspeed") is None:
        with pytest.raises(MissingExtraError) as caught:
            SHARDINGS.target(name)
        assert caught.value.fix == "pip install 'tunewright[deepspeed]'"
        pytest.skip("DeepSpeed is not installed: pip install 'tunewright[deepspeed]'")
    formats = precision.choose("float32", kind="full")
    strategy: Strategy = joint.make(SHARDINGS.options(name)(name=name), World(0, 2, 0), formats)
    assert all(hasattr(strategy, member) for member in MEMBERS)
    assert strategy.divides <= set(Held.__dataclass_fields__)
    assert strategy.keeps_files == bool(strategy.divides), "the trainer's own files hold whole weights only"


def test_masters_are_made_once() -> None:
    """DeepSpeed makes its own float32 masters of bfloat16 weights; FSDP divides ours and computes in 16 bits."""
    formats = precision.choose("bfloat16", kind="full")
    found = {
        name: joint.formats_for(SHARDINGS.options(name)(name=name), formats, Full(FullOptions()))
        for name in ("ddp", "fsdp", "zero")
    }
    assert {name: (each.has_masters, each.autocast) for name, each in found.items()} == {
        "ddp": (True, "bf16"),
        "fsdp": (True, ""),
        "zero": (False, ""),
    }


def test_float16_is_refused() -> None:
    formats = precision.Precision(precision.choose("float32", kind="full").dtype, "fp16", has_masters=True, reason="")
    with pytest.raises(ConfigError, match="float16 needs its loss scaled, which is not done over several devices"):
        joint.formats_for(SHARDINGS.options("ddp")(name="ddp"), formats, Full(FullOptions()))


@pytest.mark.parametrize("wrong", [{"name": "zero", "stage": 4}, {"name": "ddp", "stage": 2}, {"name": "zerro"}])
def test_wrong_knobs_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({"sharding": wrong})
