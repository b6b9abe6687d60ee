"""The claims of a widely read guide to fine-tuning a model of 7 billion weights, beside what they come to."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.plan.alternatives import Alternative

TARGET_WEIGHTS = 6_910_365_696
"""deepseek-llm-7b-chat."""
FULL_CLAIM = 24 * 10**9
ADAMW = 16
"""Bytes a weight: 2 + 2 for 16-bit weights and gradients, 4 + 4 + 4 for float32 copies and two moments
(Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1)."""


@dataclass(frozen=True)
class Claim:
    """A claim in words, whether it holds, and the number."""

    claim: str
    verdict: str
    number: str


def claims(found: list[Alternative]) -> list[Claim]:
    """found: the plan's alternatives; the shares are theirs, with the project's batch."""
    static = ADAMW * TARGET_WEIGHTS
    listed = [
        Claim(
            "full fine-tuning of a 7B model needs a GPU with 24 GB",
            "too low",
            f"weights, gradients and AdamW are {ADAMW} bytes a weight: {static / 1e9:.1f} GB before activations, "
            f"{static / FULL_CLAIM:.1f} times as much",
        )
    ]
    full = next((one for one in found if one.settings.method.name == "full" and not one.split.stage), None)
    lora = [one for one in found if one.settings.method.name == "lora" and one.split.devices == 1]
    plain = next((one for one in lora if _alike(one, full)), None)
    if full and plain:
        saved = 1 - plain.need.bytes / full.need.bytes
        verdict = "near" if 0.5 <= saved <= 0.7 else "depends on batch and model"
        listed.append(Claim("LoRA needs 60 % less memory", verdict, f"{saved:.0%} less here, with these micro-batches"))
    if full:
        own = full.need
        state = own.weights + own.gradients + own.optimizer
        listed.append(
            Claim(
                "this model in full",
                "as planned",
                f"{state / 1e9:.1f} GB for weights, gradients and optimizer, {own.bytes / 1e9:.1f} GB in all",
            )
        )
    return listed


def _alike(one: Alternative, full: Alternative | None) -> bool:
    settings = one.settings
    return (
        full is not None
        and getattr(settings.method, "base_bits", None) is None
        and settings.gradient_checkpointing == full.settings.gradient_checkpointing
        and settings.micro_batch_tokens == full.settings.micro_batch_tokens
        and settings.packing == full.settings.packing
    )
