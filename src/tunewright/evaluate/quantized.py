"""Gates on quantized variants: decided on the rows that a variant and the base model both answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample, compare, to_score
from tunewright.evaluate.config import EvaluateConfig, Gate
from tunewright.evaluate.gates import decide

Scorer = Callable[[Sequence[Sample]], Measured]
Judge = Callable[[Sequence[Sample]], str]
"""Gives the reason why a variant with these answers is refused, or an empty text."""


def gates_on_quantized(config: EvaluateConfig) -> tuple[Gate, ...]:
    """The gates that hold for variants. Raises ConfigError for one on another metric than the primary one: variants
    are measured on that one only."""
    chosen = tuple(gate for gate in config.gates if "quantized" in gate.on)
    for gate in chosen:
        if gate.metric != config.primary:
            raise ConfigError(
                f"a gate on quantized variants needs the primary metric '{config.primary}', not '{gate.metric}'",
                where="evaluate.gates",
                fix="use the primary metric, or `on: [tuned]`",
            )
    return chosen


def base_samples(rows: Sequence[Mapping[str, Any]]) -> dict[str, Sample]:
    """The base model's answers by row id, from the rows of an evaluate artifact's samples.jsonl."""
    keys = ("id", "prompt", "reference", "metadata")
    return {row["id"]: Sample(prediction=row["base"], **{key: row[key] for key in keys}) for row in rows}


def judge(config: EvaluateConfig, scorer: Scorer, base: Mapping[str, Sample], *, seed: int) -> Judge | None:
    """The judge of a variant's answers; None where no gate is on quantized variants."""
    chosen = gates_on_quantized(config)
    if not chosen:
        return None

    def refusal(samples: Sequence[Sample]) -> str:
        common = [sample for sample in samples if sample.id in base]
        if not common:
            return "refused: no row was answered by both this variant and the base model, so no gate can be decided"
        variant, other = scorer(common), scorer([base[sample.id] for sample in common])
        difference = compare(variant, other, seed=seed)
        score, base_score = to_score(variant, seed=seed), to_score(other, seed=seed)
        results = [decide(gate, score=score, base=base_score, difference=difference) for gate in chosen]
        return "; ".join(f"refused by gate: {result.reason}" for result in results if not result.passed)

    return refusal
