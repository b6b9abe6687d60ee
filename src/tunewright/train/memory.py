"""Memory of a training: refused before loading where it cannot fit, stepped down where it runs out after all.

The step's loss is the mean over its trained tokens, so smaller micro-batches, checkpointing and offloading give the
same gradient: tests/train/test_memory.py.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from tunewright.core.errors import ResourceError
from tunewright.core.events import read_events, say
from tunewright.core.files import human_bytes
from tunewright.core.machine import heap_trim
from tunewright.core.runs import Output
from tunewright.models import source
from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.tokens import Example
from tunewright.train.config import TrainConfig
from tunewright.train.footprint import blank
from tunewright.train.footprint.parts import Device, Footprint, split_of
from tunewright.train.footprint.predict import Walks, predict, trims, work_of
from tunewright.train.methods.options import LoraOptions
from tunewright.train.precision import Precision
from tunewright.train.rows import shares_prefixes

EVERY_LAYERS = 4
"""Free memory is given back before every so many layers: as small as before each, and quicker."""
SMALLEST = 256
"""Tokens below which a smaller micro-batch saves little beside weights and libraries."""
UNSURE = 0.9
"""What the prediction may be too high: refused is only what would not fit with so much of it either."""
STEPPED_DOWN = "stepped_down"


class OutOfMemory(ResourceError):
    """Memory ran out while training."""


@dataclass(frozen=True)
class Rung:
    """A step down: what is changed, and how it is said on the command line."""

    change: dict[str, Any]

    @property
    def text(self) -> str:
        """`train.micro_batch_tokens=1024`."""
        return " ".join(f"train.{key}={str(value).lower()}" for key, value in self.change.items())


def ladder(settings: TrainConfig, *, longest: int, on_gpu: bool) -> list[Rung]:
    """What makes a training smaller without changing its gradient, in the order it is tried: micro-batches down to the
    longest row (rows are not cut), checkpointing, and on the CPU giving memory back, on a GPU offloading."""
    rungs = []
    tokens = settings.micro_batch_tokens
    while tokens // 2 >= max(SMALLEST, longest) and not settings.update_in_backward:
        tokens //= 2
        rungs.append(Rung({"micro_batch_tokens": tokens}))
    if not settings.gradient_checkpointing:
        rungs.append(Rung({"gradient_checkpointing": True}))
    if on_gpu and not settings.activation_offload:
        rungs.append(Rung({"activation_offload": True}))
    if not on_gpu and not trims(settings.model_copy(update={"gradient_checkpointing": True})):
        rungs.append(Rung({"trim_memory": True}))
    return rungs


def available(*, on_gpu: bool) -> int:
    """Bytes that this process may still take, and has taken: of the GPU, or of the machine and its control group."""
    if on_gpu:
        return int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
    held = psutil.Process().memory_info().rss
    return int(min(psutil.virtual_memory().available + held, _group_limit()))


def _group_limit() -> float:
    """Most bytes that a container may take; no limit where none is set."""
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text)
    return float("inf")


@dataclass(frozen=True)
class Planned:
    """What a check needs of a training. base: the model's folder; steps: rows of each optimizer step; ranks: processes
    that share it."""

    base: Path
    formats: Precision
    steps: Sequence[Sequence[Example]]
    trust_remote_code: bool = False
    ranks: int = 1

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(example.input_ids) for step in self.steps for example in step)

    def need(self, settings: TrainConfig, *, device: Device) -> Footprint:
        """The predicted footprint of each rank with these settings."""
        config = blank.read_config(self.base, trust_remote_code=self.trust_remote_code)
        work = work_of(self.steps, settings, config, share_prefix=shares_prefixes(settings))
        split = split_of(settings.sharding, self.ranks)
        formats = self.formats
        if formats.has_masters and settings.method.name not in ("full", "freeze"):
            formats = replace(formats, has_masters=False, autocast="")
        return predict(Walks(config), settings, formats, work, device=device, split=split)


def check(planned: Planned, settings: TrainConfig, *, room: int | None = None) -> Footprint | None:
    """Raises ResourceError for a training that cannot fit, with the nearest settings that do. Loads no weight.

    room: bytes for each rank; by default what is there. Returns the prediction; None where the training plainly fits
    or its model cannot be walked (code of its own), so that nothing had to be predicted.
    """
    if not settings.check_memory or planned.trust_remote_code:
        return None
    on_gpu = torch.cuda.is_available()
    if room is None:
        room = available(on_gpu=on_gpu) // (1 if on_gpu else planned.ranks)
    if _plainly_fits(planned, settings, room):
        return None
    device: Device = "cuda" if on_gpu else "cpu"
    found = planned.need(settings, device=device)
    if found.bytes * UNSURE > room:
        raise _cannot_fit(planned, settings, found, room, device)
    if found.bytes > room:
        say(f"warning: memory will be tight: about {human_bytes(found.bytes)} of {human_bytes(room)}")
    return found


def _plainly_fits(planned: Planned, settings: TrainConfig, room: int) -> bool:
    """By a bound far above every prediction, so that small models need no walk."""
    text = blank.read_config(planned.base).get_text_config()
    tokens = max(settings.micro_batch_tokens, planned.longest)
    layers = tokens * 500 * text.hidden_size * text.num_hidden_layers
    logits = tokens * 20 * text.vocab_size
    return bool(16 * source.parameter_count(planned.base) + layers + logits + 2 * 10**9 < room)


def _cannot_fit(planned: Planned, settings: TrainConfig, found: Footprint, room: int, device: Device) -> ResourceError:
    near = nearest(planned, settings, room, device=device)
    where = "GPU" if device == "cuda" else "machine"
    if near is None:
        static = human_bytes(found.weights + found.gradients + found.optimizer)
        hint = f"weights, gradients and optimizer alone are {static}: take a smaller model, or a larger {where}"
    else:
        changes, need = near
        hint = f"the nearest that fits, about {human_bytes(need.bytes)}: {changes}"
    return ResourceError(
        f"this training needs about {human_bytes(found.bytes)} and {human_bytes(room)} of this {where} are free",
        where="train",
        fix=f"{hint}; `tunewright plan` lists others; train.check_memory=false starts it all the same",
    )


def nearest(planned: Planned, settings: TrainConfig, room: int, *, device: Device) -> tuple[str, Footprint] | None:
    """(overrides for the command line, their footprint) of the first rung that fits; below the ladder LoRA, then LoRA
    on a base in 4 bits. None where nothing does."""
    changes: dict[str, Any] = {}
    lowest = settings
    for rung in ladder(settings, longest=planned.longest, on_gpu=device == "cuda"):
        changes |= rung.change
        lowest = settings.model_copy(update=changes)
        need = planned.need(lowest, device=device)
        if need.bytes <= room:
            return Rung(changes).text, need
    for method in (LoraOptions(), LoraOptions(base_bits=4)):
        other = lowest.model_copy(update={"method": method})
        need = planned.need(other, device=device)
        if need.bytes <= room and method != settings.method:
            bits = " train.method.base_bits=4" if method.base_bits else ""
            return f"train.method.name=lora{bits} {Rung(changes).text}".strip(), need
    return None


def train_within(
    planned: Planned, settings: TrainConfig, fit: Callable[[TrainConfig], None], output: Output
) -> TrainConfig:
    """`check`, then `fit` with the settings, stepping down where memory runs out; returns those it ended with.

    Several ranks do not step down: they would have to agree on it after one of them is out of memory.
    """
    check(planned, settings)
    if planned.ranks > 1:
        fit(settings)
        return settings
    settings, taken = climb_down(fit, settings, output, longest=planned.longest)
    if taken:
        output.facts[STEPPED_DOWN] = taken
    return settings


def climb_down(
    fit: Callable[[TrainConfig], None], settings: TrainConfig, output: Output, *, longest: int
) -> tuple[TrainConfig, list[str]]:
    """Calls `fit`; on OutOfMemory again, one rung lower, until it ends: it goes on from its last checkpoint. Rungs that
    an earlier start of this output has stepped down stay down. longest: tokens of the longest row.

    Returns the settings that it ended with, and the rungs in words. Raises OutOfMemory from the lowest rung.
    """
    log = output.path / "events.jsonl"
    earlier = [event for event in read_events(log) if event["event"] == STEPPED_DOWN] if log.exists() else []
    taken = [str(event["to"]) for event in earlier]
    for event in earlier:
        settings = settings.model_copy(update=event["change"])
    if taken:
        say(f"train: memory ran out before, so it goes on with {', '.join(taken)}")
    while True:
        try:
            fit(settings)
            return settings, taken
        except OutOfMemory as error:
            rungs = ladder(settings, longest=longest, on_gpu=torch.cuda.is_available())
            if not settings.step_down or not rungs:
                raise
            problem = error.problem
        gc.collect()  # the failed model went with the error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        below = ", then ".join(rung.text for rung in rungs[1:]) or "nothing"
        say(f"train: {problem}; stepping down to {rungs[0].text} (below it: {below})")
        output.events.write(STEPPED_DOWN, to=rungs[0].text, change=rungs[0].change)
        taken.append(rungs[0].text)
        settings = settings.model_copy(update=rungs[0].change)


@contextmanager
def held_down(model: Any, settings: TrainConfig) -> Iterator[None]:
    """Inside, a training of `model` gives freed memory back within its steps (CPU), or keeps activations in the
    machine's memory (GPU), as the settings say."""
    on_gpu = torch.cuda.is_available()
    with ExitStack() as stack:
        if settings.activation_offload and on_gpu:
            stack.enter_context(torch.autograd.graph.save_on_cpu(pin_memory=False))
        trim = None if on_gpu or not trims(settings) else heap_trim()
        if trim is not None:
            for layer in decoder_layers(model)[::EVERY_LAYERS]:
                hook = layer.register_forward_pre_hook(lambda *_: trim() and None)
                stack.callback(hook.remove)
        yield
