"""Whether a training fits: checkpointing and micro-batch size from the estimates of shape.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright.advise.proposal import Line
from tunewright.train.methods.options import LoraOptions

if TYPE_CHECKING:
    from tunewright.advise.rules import Draft

USABLE = 0.9
"""Share of the memory that the estimate may take: fragments and libraries need some."""
SMALLEST_MICRO_BATCH = 256


def static_bytes(draft: Draft) -> int:
    """Weights, gradients and optimizer of the draft's method."""
    model, method = draft.facts.model, draft.train.method
    if method.name == "full":
        return model.full_bytes()
    if method.name == "freeze":
        share = min(1.0, getattr(method, "layers", model.layers) / max(1, model.layers))
        return model.adapter_bytes(round(model.linear * share))
    trained = model.lora_parameters(int(getattr(method, "rank", 1)))
    return model.adapter_bytes(trained, base_bits=getattr(method, "base_bits", None))


def checkpointed_bytes(draft: Draft, tokens: int) -> int:
    """Activations of a micro-batch with gradient checkpointing: the layers' inputs, and one whole layer."""
    model = draft.facts.model
    return tokens * model.layers * 2 * model.hidden + model.activation_bytes(tokens) // max(1, model.layers)


def _four_bits(draft: Draft) -> None:
    """A LoRA base that does not fit in 16 bits is held in 4."""
    method = draft.train.method
    if not isinstance(method, LoraOptions) or method.base_bits or method.variant == "pissa":
        return
    need, there = static_bytes(draft), draft.facts.machine.memory_bytes
    if need <= there * USABLE:
        return
    draft.train = draft.train.model_copy(update={"method": method.model_copy(update={"base_bits": 4})})
    small = static_bytes(draft)
    why = f"in 16 bits {need / 1e9:.1f} GB before activations, in 4 bits {small / 1e9:.1f}; needs bitsandbytes"
    draft.lines.append(Line("train.method.base_bits", None, 4, why, ("qlora",)))


def fit(draft: Draft) -> None:
    """Adds the lines on a 4-bit base, checkpointing and micro-batches, and a note where even the smallest does not
    fit."""
    _four_bits(draft)
    room = draft.facts.machine.memory_bytes * USABLE - static_bytes(draft)
    tokens = max(draft.now.micro_batch_tokens, draft.facts.data.longest_tokens)
    plain = draft.facts.model.activation_bytes(tokens)
    if plain <= room:
        words = f"about {(static_bytes(draft) + plain) / 1e9:.1f} GB of {draft.facts.machine.memory_bytes / 1e9:.1f}"
        draft.say("gradient_checkpointing", False, f"fits without: {words}", "zero")
        return
    draft.say("gradient_checkpointing", True, f"activations of {tokens} tokens are about {plain / 1e9:.1f} GB", "zero")
    wanted = tokens
    while checkpointed_bytes(draft, wanted) > room and wanted > SMALLEST_MICRO_BATCH:
        wanted //= 2
    if wanted < draft.now.micro_batch_tokens:
        draft.say("micro_batch_tokens", wanted, "less computed at once; the step's loss stays the same", "zero")
    if checkpointed_bytes(draft, max(wanted, draft.facts.data.longest_tokens)) > room:
        draft.notes.append(
            f"{static_bytes(draft) / 1e9:.1f} GB of weights and optimizer do not fit into "
            f"{draft.facts.machine.memory_bytes / 1e9:.1f} GB: a smaller model, or a larger machine"
        )
