"""Gates on quantized variants: decided on the rows that a variant and the base (or promoted) model both answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample, compare, to_score
from tunewright.evaluate.config import EvaluateConfig, Gate
from tunewright.evaluate.gates import Against, decide

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


def samples_of(rows: Sequence[Mapping[str, Any]], system: str) -> dict[str, Sample]:
    """The answers of `system` (`base`, `tuned` or `promoted`) by row id, from the rows of an evaluate artifact's
    samples.jsonl; empty where it was not asked."""
    keys = ("id", "prompt", "reference", "metadata")
    return {
        row["id"]: Sample(prediction=row[system], **{key: row[key] for key in keys}) for row in rows if system in row
    }


def judge(
    config: EvaluateConfig,
    scorer: Scorer,
    base: Mapping[str, Sample],
    *,
    seed: int,
    promoted: Mapping[str, Sample] | None = None,
) -> Judge | None:
    """The judge of a variant's answers; None where no gate is on quantized variants. base, promoted: answers by row
    id; without a promoted model the base stands in for it."""
    chosen = gates_on_quantized(config)
    if not chosen:
        return None

    def refusal(samples: Sequence[Sample]) -> str:
        common = [sample for sample in samples if sample.id in base and (not promoted or sample.id in promoted)]
        if not common:
            return "refused: no row was answered by both this variant and the base model, so no gate can be decided"
        variant = scorer(common)
        score = to_score(variant, seed=seed)
        others = [_against(variant, scorer, common, known, seed=seed) for known in (base, promoted) if known]
        results = [
            decide(gate, score=score, base=others[0], promoted=others[1] if len(others) > 1 else None)
            for gate in chosen
        ]
        return "; ".join(f"refused by gate: {result.reason}" for result in results if not result.passed)

    return refusal


def _against(
    variant: Measured, scorer: Scorer, common: Sequence[Sample], known: Mapping[str, Sample], *, seed: int
) -> Against:
    """Another system's score on the rows `common`, and the variant's difference from it."""
    other = scorer([known[sample.id] for sample in common])
    return Against(to_score(other, seed=seed), compare(variant, other, seed=seed))
