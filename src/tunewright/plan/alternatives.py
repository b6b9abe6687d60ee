"""The project as written and what else could be done, each with its footprint and its work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tunewright.core.registry import PluginOptions
from tunewright.models.config import ModelConfig
from tunewright.plan.device import Target
from tunewright.plan.job import Job
from tunewright.train import precision
from tunewright.train.config import TrainConfig
from tunewright.train.footprint.parts import Footprint, Split, split_of
from tunewright.train.footprint.predict import Walks, predict, work_of
from tunewright.train.memory import SMALLEST
from tunewright.train.methods.options import METHODS, FreezeOptions, FullOptions, Ia3Options, LoraOptions, PrefixOptions
from tunewright.train.rows import shares_prefixes
from tunewright.train.sharding.options import ZeroOptions

AS_WRITTEN = "as written"
METHODS_SHOWN: tuple[PluginOptions, ...] = (
    FullOptions(),
    FreezeOptions(),
    LoraOptions(),
    LoraOptions(base_bits=8),
    LoraOptions(base_bits=4),
    PrefixOptions(),
    Ia3Options(),
)
SMALLER: dict[str, Any] = {"optimizer": "adamw_8bit", "gradient_checkpointing": True}
FULL_SMALLER = "full, moments in 8 bits, checkpointing"
SHOWN_DEVICES = 2
"""ZeRO is shown for so many where only one is there."""


@dataclass(frozen=True)
class Alternative:
    """name: in words; overrides: for the command line; keeps: whether the method stays as written. operations: floating
    point operations of the whole training, relative to a forward pass over every weight, once a token."""

    name: str
    overrides: str
    settings: TrainConfig
    split: Split
    need: Footprint
    keeps: bool
    operations: float
    fits: bool


def alternatives(job: Job, target: Target, walks: Walks) -> list[Alternative]:
    """As written first; then how it is computed, how it is shared, and the other methods. walks: of the job's model."""
    split = split_of(job.settings.sharding, target.devices if job.settings.sharding else 1)
    measure = partial(_measured, (job, target, walks))
    found = [measure(AS_WRITTEN, "", job.settings, split)]
    for name, change in _ways(job.settings, job.longest):
        found.append(measure(name, _words(change), job.settings.model_copy(update=change), split))
    found += _shared(job, target, measure)
    for method in METHODS_SHOWN:
        if _same(method, job.settings.method):
            continue
        update: dict[str, Any] = {"method": method}
        overrides = f"train.method.name={method.name}"
        bits = getattr(method, "base_bits", None)
        for is_on in (False, True):
            words = f"{overrides}{f' train.method.base_bits={bits}' if bits else ''}"
            words += " train.gradient_checkpointing=true" if is_on else ""
            name = f"{_said(method)}{', checkpointing' if is_on else ''}"
            changed = job.settings.model_copy(update={**update, "gradient_checkpointing": is_on, "sharding": None})
            found.append(measure(name, words, changed, Split()))
    if not _same(FullOptions(), job.settings.method):
        change = {"method": FullOptions(), "sharding": None, **SMALLER}
        words = f"train.method.name=full {_words(SMALLER)}"
        found.append(measure(FULL_SMALLER, words, job.settings.model_copy(update=change), Split()))
    return found


def _said(method: PluginOptions) -> str:
    bits = getattr(method, "base_bits", None)
    return f"{method.name}{f' on a base in {bits} bits' if bits else ''}"


def _same(one: PluginOptions, other: PluginOptions) -> bool:
    return one.name == other.name and getattr(one, "base_bits", None) == getattr(other, "base_bits", None)


def _words(change: dict[str, Any]) -> str:
    return " ".join(f"train.{key}={str(value).lower()}" for key, value in change.items())


def _ways(settings: TrainConfig, longest: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """How the same method can be computed."""
    other = not settings.gradient_checkpointing
    yield f"{'with' if other else 'without'} checkpointing", {"gradient_checkpointing": other}
    half = max(settings.micro_batch_tokens // 2, SMALLEST, min(longest, settings.micro_batch_tokens))
    quarter = max(settings.micro_batch_tokens // 4, SMALLEST, min(longest, settings.micro_batch_tokens))
    if half < settings.micro_batch_tokens:
        yield "half the micro-batch", {"micro_batch_tokens": half}
    if quarter < half:
        yield (
            "a quarter, checkpointing",
            {"micro_batch_tokens": quarter, "gradient_checkpointing": True},
        )
    if settings.method.name in ("full", "freeze") and settings.optimizer == "adamw" and settings.sharding is None:
        yield "moments in 8 bits", {"optimizer": "adamw_8bit"}
    if settings.packing:
        yield "without packing", {"packing": False}


def _shared(job: Job, target: Target, measure: Callable[..., Alternative]) -> Iterator[Alternative]:
    """ZeRO over the devices, where the base is not in fewer bits."""
    if getattr(job.settings.method, "base_bits", None):
        return
    devices = max(target.devices, SHOWN_DEVICES)
    for stage, offload in ((1, False), (2, False), (3, False), (2, True), (3, True)):
        zero = ZeroOptions(stage=stage, offload=offload)
        if zero == job.settings.sharding or (offload and target.device == "cpu"):
            continue
        words = f"train.sharding.name=zero train.sharding.stage={stage}"
        words += " train.sharding.offload=true" if offload else ""
        split = split_of(zero, devices)
        yield measure(split.text, words, job.settings.model_copy(update={"sharding": zero}), split)


def _measured(
    setting: tuple[Job, Target, Walks], name: str, overrides: str, settings: TrainConfig, split: Split
) -> Alternative:
    job, target, walks = setting
    formats = formats_of(job.dtype, settings, target)
    if split.masters:
        formats = replace(formats, autocast="", has_masters=False)
    generated = 0
    if settings.evaluate_generated:
        generated = settings.evaluate_generated.rows * (job.longest + settings.evaluate_generated.max_new_tokens)
    share = shares_prefixes(settings)
    work = work_of(job.steps, settings, job.config, share_prefix=share, generated=generated)
    need = predict(walks, settings, formats, work, device=target.device, split=split)
    enough = need.bytes <= target.bytes and split.devices <= target.devices
    in_host = not target.host or need.host <= target.host
    keeps = _same(settings.method, job.settings.method)
    return Alternative(
        name, overrides, settings, split, need, keeps, operations(settings, need), fits=enough and in_host
    )


def formats_of(model: ModelConfig, settings: TrainConfig, target: Target) -> precision.Precision:
    """Number formats on the machine that is planned for: `auto` is bfloat16 on a GPU that is not here."""
    kind = METHODS.target(settings.method.name)(settings.method).kind
    elsewhere = model.dtype == "auto" and not target.is_here and target.device == "cuda"
    return precision.choose("bfloat16" if elsewhere else model.dtype, kind=kind, optimizer=settings.optimizer)


def operations(settings: TrainConfig, need: Footprint) -> float:
    """Forward passes over every weight that a token costs: 1 forward, 1 back to the activations, 1 to what is trained;
    with checkpointing 1 again (Chen et al. 2016, arXiv 1604.06174). Freezing goes back through the last layers only."""
    trained = need.trained / need.total
    back = 2 * trained if isinstance(settings.method, FreezeOptions) else 1 + trained
    return 1 + back + (1 if settings.gradient_checkpointing else 0)


def cheapest(found: list[Alternative]) -> Alternative | None:
    """Of those that fit: with the method as written before others, then the fewest operations, the fewest devices, and
    as written before a change."""
    fitting = [one for one in found if one.fits]
    order = {id(one): place for place, one in enumerate(found)}
    return min(
        fitting,
        key=lambda one: (not one.keeps, round(one.operations, 3), one.split.devices, order[id(one)]),
        default=None,
    )
