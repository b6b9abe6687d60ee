"""Which tensors are alive when one micro-batch of our own loop needs the most memory.

A dispatch mode sees every tensor that an operation makes, a finalizer on its storage sees it go. Agreement with a real
step on the CPU, within 2 %: tests/train/test_footprint.py.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.kernels.place import imagined_gpu
from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.tokens import Example
from tunewright.train.config import TrainConfig
from tunewright.train.footprint.blank import blank_model, give_fake_tensors, vocabulary_of
from tunewright.train.noise import embedding_noise
from tunewright.train.precision import Precision

LARGE = 32 << 20
"""Blocks of this size the C library always takes from the system and gives back; smaller ones come from its heap
(glibc's DEFAULT_MMAP_THRESHOLD_MAX on 64 bits)."""


_REMEMBERING = ("tunewright.models.packing", "tunewright.models.kernels.")
Phase = Literal["forward", "loss", "last layer", "between", "first layer"]
"""Of a micro-batch: the forward pass, and how far the gradient has come back. Within a phase the peak is always at the
same operation, whatever the number of layers."""
Alive = tuple[int, tuple[int, ...], bool]


@dataclass(frozen=True)
class Traced:
    """Bytes at the moment of a step that needs the most, optimizer apart. weights, gradients: of every parameter that
    has one. activations: kept for the backward pass; logits: whatever has the width of the vocabulary; temporary: the
    rest. heap: those of the last three in blocks below LARGE. trained, total: counts of weights. linear: weights of
    frozen linear layers inside the decoder layers; widest: of the largest of them. state: what two AdamW moments take;
    largest: the largest trained tensor."""

    weights: int
    gradients: int
    activations: int
    logits: int
    temporary: int
    heap: int
    trained: int
    total: int
    linear: int
    widest: int
    state: int
    largest: int

    @property
    def moving(self) -> int:
        """What comes and goes with a micro-batch."""
        return self.activations + self.logits + self.temporary

    def plus(self, step: Traced, times: int) -> Traced:
        """This and `times` the layer that `step` is, the difference of two traces; the largest stay the largest."""
        sums = {key: value + getattr(step, key) * times for key, value in self.__dict__.items()}
        return Traced(**{**sums, "widest": self.widest, "largest": self.largest})

    def minus(self, other: Traced) -> Traced:
        """What this has more than `other`."""
        return Traced(**{key: value - getattr(other, key) for key, value in self.__dict__.items()})


class Living(TorchDispatchMode):
    """Counts the bytes of living tensors. `most`: for each phase, the (bytes, shape, whether the forward pass made it)
    of those alive when there were most in it, tensors that are left out apart."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase: Phase = "forward"
        self.most: dict[Phase, list[Alive]] = {}
        self._live = 0
        self._peaks: dict[Phase, int] = {}
        self._known: dict[int, Alive] = {}
        self._apart: set[int] = set()

    @property
    def peak(self) -> int:
        """The most bytes of any phase."""
        return max(self._peaks.values(), default=0)

    def leave_out(self, tensors: Iterator[torch.Tensor]) -> None:
        """These are counted elsewhere."""
        self._apart |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def follow(self, model: Any) -> None:
        """Notes when the gradient reaches the last decoder layer, those between, and the first."""
        layers = decoder_layers(model)
        for place, layer in enumerate(layers):
            phase: Phase = "last layer" if place == len(layers) - 1 else "between" if place else "first layer"
            layer.register_forward_hook(partial(self._mark, phase))

    def _mark(self, phase: Phase, _module: Any, _inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self.enter(phase))

    def enter(self, phase: Phase) -> None:
        """The next phase begins, with what is alive."""
        self.phase = phase

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operation and notes what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        return made

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or key in self._apart:
            return
        self._known[key] = (storage.nbytes(), tuple(tensor.shape), self.phase == "forward")
        weakref.finalize(storage, self._gone, key).atexit = False
        self._live += storage.nbytes()
        if self._live > self._peaks.get(self.phase, 0):
            self._peaks[self.phase] = self._live
            self.most[self.phase] = list(self._known.values())

    def _gone(self, key: int) -> None:
        size = self._known.pop(key, None)
        self._live -= size[0] if size else 0


def trace(
    config: Any,
    settings: TrainConfig,
    formats: Precision,
    examples: Sequence[Example],
    *,
    layers: int,
    accumulates: bool = True,
    on_gpu: bool = False,
) -> dict[Phase, Traced]:
    """One micro-batch of `examples` through a model of `layers` layers, forward and backward. config: transformers';
    accumulates: with the gradients of an earlier micro-batch in place; on_gpu: with the attention of a GPU.

    Returns the most of each phase.
    """
    model = blank_model(config, settings, formats, layers=layers)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    give_fake_tensors(model, mode)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with mode:
        for parameter in trained if accumulates else ():
            parameter.grad = torch.zeros_like(parameter)
    living = Living()
    living.leave_out(iter([*model.parameters(), *model.buffers(), *(p.grad for p in trained if p.grad is not None)]))
    living.follow(model)
    loss_of = _loss_of(settings)
    _autocast(model, formats)
    place = imagined_gpu() if on_gpu else nullcontext()
    with _own_caches(), mode, place, embedding_noise(model, settings.neftune_alpha), living:
        loss = loss_of(model, examples)
        living.enter("loss")
        loss.backward()
    return {phase: _summed(model, alive, vocabulary_of(config)) for phase, alive in living.most.items()}


@contextmanager
def _own_caches() -> Iterator[None]:
    """Functions that remember tensors (masks) must not hand a fake one to a real step, nor a real one to this."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_REMEMBERING)]
    clear = [getattr(value, "cache_clear", None) for module in modules for value in list(vars(module).values())]
    try:
        for forget in filter(None, clear):
            forget()
        yield
    finally:
        for forget in filter(None, clear):
            forget()


def _loss_of(settings: TrainConfig) -> Callable[..., torch.Tensor]:
    """As trainer.PackedTrainer chooses it."""
    smoothing = settings.label_smoothing
    if not settings.packing:
        return partial(padded_loss, label_smoothing=smoothing)
    share = settings.share_prefix and not settings.neftune_alpha
    return partial(packed_loss, share_prefix=share, label_smoothing=smoothing)


def _autocast(model: Any, formats: Precision) -> None:
    """As accelerate puts it around the forward pass."""
    if formats.autocast:
        dtype = torch.bfloat16 if formats.autocast == "bf16" else torch.float16
        model.forward = convert_outputs_to_fp32(torch.autocast("cpu", dtype=dtype)(model.forward))


def _summed(model: Any, alive: Sequence[Alive], vocabulary: int) -> Traced:
    is_logits = [vocabulary in shape for _, shape, _ in alive]
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    frozen = _frozen_linears(model)
    gradients = sum(parameter.nbytes for parameter in trained)
    return Traced(
        weights=sum(parameter.nbytes for parameter in parameters),
        gradients=gradients,
        activations=sum(n for (n, _, first), logits in zip(alive, is_logits, strict=True) if first and not logits),
        logits=sum(n for (n, _, _), logits in zip(alive, is_logits, strict=True) if logits),
        temporary=sum(n for (n, _, first), logits in zip(alive, is_logits, strict=True) if not (first or logits)),
        heap=sum(n for n, _, _ in alive if n < LARGE),
        trained=sum(parameter.numel() for parameter in trained),
        total=sum(parameter.numel() for parameter in parameters),
        linear=sum(frozen),
        widest=max(frozen, default=0),
        state=2 * gradients,
        largest=max((parameter.nbytes for parameter in trained), default=0),
    )


def _frozen_linears(model: Any) -> list[int]:
    """Weights of each frozen linear layer, the output head apart: what a base in fewer bits makes smaller."""
    head = model.get_output_embeddings()
    return [
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head and not module.weight.requires_grad
    ]
