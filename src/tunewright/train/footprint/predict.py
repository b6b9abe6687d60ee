"""How much memory a training needs, before anything is loaded.

One micro-batch of the training is walked on a model of three and of four layers without data (trace.py); everything
grows on a line with the layers, which tests/train/test_footprint.py proves. What the trace cannot see is the program
itself and the holes in the C library's heap: constants below, measured by `python benchmarks/plan.py --constants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from tunewright.core.registry import PluginOptions
from tunewright.models.packing import computed_tokens, micro_batches
from tunewright.models.tokens import Example
from tunewright.train import heap
from tunewright.train.config import TrainConfig
from tunewright.train.footprint.blank import depth_of, vocabulary_of
from tunewright.train.footprint.parts import ALONE, Device, Footprint, Split
from tunewright.train.footprint.trace import Phase, Traced, trace
from tunewright.train.methods.options import FreezeOptions
from tunewright.train.precision import Precision

PROGRAM: dict[Device, int] = {"cpu": 445_000_000, "cuda": 790_000_000}
"""Python, torch, transformers and peft with what they allocate for themselves; on a GPU CUDA's context and what
its libraries take outside torch's allocator (H200, CUDA 13.0, torch 2.11; docs/results.md)."""
IMPORTED = {"datasets": 90_000_000, "bitsandbytes": 50_000_000}
"""What transformers and peft import by themselves where it is installed (torch 2.13, transformers 5.17, peft 0.21)."""
COMPILED = 700_000
"""Bytes of a compiled product (heap.py): oneDNN 3.12 keeps 0.61 MB, and pages that it shares with what is freed."""
BESIDE = 150_000_000
"""What a training on the CPU takes beside tensors and compiled products, whatever its method and format."""
HOLES, ALWAYS = 0.30, 220_000_000
"""Memory that glibc's heap holds and cannot use again, as a share of the activations in it, and whatever they are:
freed blocks of one size do not serve another, and an aligned block leaves an edge that something small takes. These and
BESIDE are fitted to the trainings of benchmarks/plan.py (docs/results.md)."""
HOLES_TRIMMED = 0.05
"""The same where free memory is given back within a step (memory.py)."""
CACHED = 0.03
"""What torch's CUDA allocator holds beside the tensors, as a share of them: 2.3 and 3.2 % in two trainings, 0.4 to
5.4 % in seven with segments that expand (docs/results.md)."""
FOUR_BITS = 4.127 / 8
"""Bytes a weight in nf4 with double quantization (Dettmers et al. 2023, arXiv 2305.14314)."""
_CHANGES_THE_WALK = (
    "gradient_checkpointing",
    "packing",
    "share_prefix",
    "kernels",
    "label_smoothing",
    "neftune_alpha",
    "update_in_backward",
)
EIGHT_BITS = 2 * (1 + 4 / 256)
"""Bytes of two moments in 8 bits a trained weight, with a scale for each 256 (models/kernels/adam)."""
MASTER_STATE = 12
"""Bytes a trained weight under ZeRO: its float32 copy and two moments (Rajbhandari et al. 2020, section 3.1)."""


@dataclass(frozen=True)
class Work:
    """What is computed at once. examples: the largest micro-batch; accumulates: a step has several of them; generated:
    tokens in the cache of answers generated while training, over all of them; products: that oneDNN keeps compiled."""

    examples: Sequence[Example]
    accumulates: bool = True
    generated: int = 0
    products: int = heap.FEWEST


def work_of(
    steps: Sequence[Sequence[Example]], settings: TrainConfig, config: Any, *, share_prefix: bool, generated: int = 0
) -> Work:
    """The micro-batch that needs the most of all steps. config: transformers'."""
    text = config.get_text_config()
    a_token = 50 * text.hidden_size * text.num_hidden_layers
    a_label = 16 * vocabulary_of(config) if settings.method.name in ("full", "freeze") else 0
    limit = settings.micro_batch_tokens
    shares = share_prefix and settings.packing
    groups = [micro_batches(step, max_tokens=limit, share_prefix=shares) for step in steps]

    def need(group: Sequence[Example]) -> int:
        tokens = computed_tokens(group, max_tokens=10**9, share_prefix=shares)
        return int(a_token * tokens) + a_label * sum(example.trained for example in group)

    most = max((group for step in groups for group in step), key=need)
    products = heap.products_kept(steps, max_tokens=limit, share_prefix=shares)
    return Work(most, any(len(step) > 1 for step in groups), generated, products)


def made_up(tokens: int, row: int, trained_share: float) -> list[Example]:
    """A micro-batch of `tokens` tokens in rows of `row`, of which `trained_share` are trained: where there are no rows
    yet. The rows have no start in common."""
    row = max(2, min(row, tokens))
    labels = max(1, min(row - 1, round(row * trained_share)))
    return [
        Example((1 + number, *[2] * (row - 1)), (*[-100] * (row - labels), *[2] * labels))
        for number in range(max(1, tokens // row))
    ]


_FEWEST = 3
"""Layers of the smaller walk: the first, the last (which computes fewer positions), and one between that stands for
all others."""


class Walks:
    """The traces of one model at its full depth, each walked once. config: transformers'."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self._known: dict[tuple[Any, ...], tuple[Sequence[Example], Traced]] = {}

    def find(self, settings: TrainConfig, formats: Precision, work: Work, *, on_gpu: bool) -> Traced:
        """From two traces; three where only the last layers are trained."""
        method = settings.method.model_dump(exclude={"base_bits"}, mode="json")
        switches = [getattr(settings, key) for key in _CHANGES_THE_WALK]
        key = (str(method), *switches, formats, work.accumulates, on_gpu, *map(id, work.examples))
        if key not in self._known:  # the examples are kept, and so are their ids
            self._known[key] = (work.examples, self._walked(settings, formats, work, on_gpu=on_gpu))
        return self._known[key][1]

    def _walked(self, settings: TrainConfig, formats: Precision, work: Work, *, on_gpu: bool) -> Traced:
        accumulates = work.accumulates or settings.update_in_backward  # each gradient comes and goes
        how = {"accumulates": accumulates, "on_gpu": on_gpu}

        def walk(layers: int, trained: int | None = None) -> dict[Phase, Traced]:
            chosen = settings
            if trained is not None:
                chosen = settings.model_copy(update={"method": settings.method.model_copy(update={"layers": trained})})
            return trace(self.config, chosen, formats, work.examples, layers=layers, **how)

        depth = depth_of(self.config)
        if depth <= _FEWEST:
            ends = list(walk(depth).values())
        elif not isinstance(settings.method, FreezeOptions):
            few, more = walk(_FEWEST), walk(_FEWEST + 1)
            ends = [few[phase].plus(more[phase].minus(few[phase]), depth - _FEWEST) for phase in few]
        else:
            trained = min(settings.method.layers, depth)
            few, frozen, learning = walk(_FEWEST, 1), walk(_FEWEST + 1, 1), walk(_FEWEST + 1, 2)
            ends = [
                few[phase]
                .plus(learning[phase].minus(few[phase]), trained - 1)
                .plus(frozen[phase].minus(few[phase]), depth - trained - _FEWEST + 1)
                for phase in few.keys() & frozen.keys() & learning.keys()
            ]
        return max(ends, key=lambda end: end.moving)


def predict(
    walks: Walks,
    settings: TrainConfig,
    formats: Precision,
    work: Work,
    *,
    device: Device,
    split: Split = ALONE,
) -> Footprint:
    """The need of each device."""
    config, found = walks.config, walks.find(settings, formats, work, on_gpu=device == "cuda")
    weights = found.weights - _saved_by_bits(settings.method, found, formats.dtype.itemsize)
    widest = found.widest * formats.dtype.itemsize if getattr(settings.method, "base_bits", None) else 0
    state = _state(settings, found, split)
    parts = {
        "weights": weights // (split.devices if split.stage == 3 else 1),
        "gradients": found.gradients // (split.devices if split.stage >= 2 else 1),
        "optimizer": state // (split.devices if split.stage >= 1 else 1),
        "activations": found.activations,
        "logits": found.logits,
        "temporary": found.temporary + widest + _gathered(config, weights, split),
    }
    host = weights if device == "cuda" else 0
    if split.offload and device == "cuda":
        host += parts["optimizer"] * split.devices + (weights if split.stage == 3 else 0)
        parts |= {"optimizer": 0, **({"weights": 0} if split.stage == 3 else {})}
    if settings.update_in_backward:
        parts["gradients"] = 0
    if settings.offload_optimizer and device == "cuda":
        host += parts["optimizer"]
        parts["optimizer"] = 0
        parts["temporary"] += round(EIGHT_BITS * found.largest / formats.dtype.itemsize)
    if settings.activation_offload and device == "cuda":
        host += found.activations
        parts["activations"] = 2 * found.activations // depth_of(config)  # the layer at work and the one on its way
    return _at_its_most(config, settings, formats, work, (found, parts, host, device))


def _at_its_most(
    config: Any,
    settings: TrainConfig,
    formats: Precision,
    work: Work,
    known: tuple[Traced, dict[str, int], int, Device],
) -> Footprint:
    """The moment that needs the most: a micro-batch, the optimizer's step, or answers being generated."""
    found, parts, host, device = known
    held = {key: parts[key] for key in ("weights", "optimizer")}
    nothing = dict.fromkeys(("gradients", "activations", "logits", "cache", "temporary"), 0)
    micro = {**nothing, **parts} if work.accumulates else {**nothing, **parts, "gradients": 0}
    step = {**nothing, **held, "gradients": parts["gradients"]}
    is_foreach = device == "cuda" and settings.optimizer == "adamw"
    step["temporary"] = parts["gradients"] if is_foreach else found.largest
    generating = {**nothing, **held, "cache": cache_bytes(config, work.generated, formats.dtype.itemsize)}
    moments = {"a micro-batch": micro, "the optimizer's step": step, "generating answers": generating}
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    most = moments[moment]
    return Footprint(
        program=PROGRAM[device] + (_imported() if device == "cpu" else 0),
        allocator=(round(sum(most.values()) * CACHED) if device == "cuda" else _heap(found, settings, formats, work)),
        host=host,
        moment=moment,
        heap=found.heap if moment == "a micro-batch" else 0,
        trained=found.trained,
        total=found.total,
        **most,
    )


def _imported() -> int:
    return sum(size for name, size in IMPORTED.items() if find_spec(name))


def _heap(found: Traced, settings: TrainConfig, formats: Precision, work: Work) -> int:
    """What the C library holds beside tensors: holes between them, and the products that oneDNN compiled."""
    compiled = COMPILED * work.products if formats.dtype.itemsize == 2 else 0
    return BESIDE + compiled + round(found.heap * HOLES_TRIMMED if trims(settings) else ALWAYS + found.heap * HOLES)


def trims(settings: TrainConfig) -> bool:
    """Whether the training gives free memory back within a step (memory.py): `auto` does with checkpointing."""
    return settings.trim_memory if settings.trim_memory is not None else settings.gradient_checkpointing


def cache_bytes(config: Any, tokens: int, itemsize: int) -> int:
    """Keys and values of `tokens` tokens."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width * itemsize * tokens)


def _state(settings: TrainConfig, found: Traced, split: Split) -> int:
    """The optimizer's."""
    if settings.optimizer == "adamw_8bit":
        return round(EIGHT_BITS * found.trained)
    return MASTER_STATE * found.trained if split.masters else found.state


def _gathered(config: Any, weights: int, split: Split) -> int:
    """ZeRO-3 puts one layer together while it computes, and the next one beside it."""
    return 2 * weights // depth_of(config) if split.stage == 3 and split.devices > 1 else 0


def _saved_by_bits(method: PluginOptions, found: Traced, itemsize: int) -> int:
    """What holding the frozen linear layers in 4 or 8 bits saves."""
    per_weight = {4: FOUR_BITS, 8: 1.0}.get(getattr(method, "base_bits", None) or 16)
    return 0 if per_weight is None else round(found.linear * (itemsize - per_weight))
