"""One row of the table for each variant: its measurements against the 16-bit reference's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.core.scoring import Difference, Measured, Score, compare, to_score
from tunewright.quantize.engines import Answer
from tunewright.quantize.measure import Result

Row = dict[str, Any]
NOTICEABLE = 1.05
"""Below this factor a format is not called faster."""


def agreement(answers: Sequence[Answer], reference: Sequence[Answer]) -> float:
    """Share of rows whose greedy text is the 16-bit model's, to the letter."""
    same = sum(answer.text == other.text for answer, other in zip(answers, reference, strict=True))
    return same / len(reference)


def loss_of(difference: Difference, measured: Measured) -> float:
    """How much of the task score is lost, as a share of the whole scale (points are hundredths); negative is a gain."""
    lost = -difference.difference if measured.higher_is_better else difference.difference
    return lost / 100 if measured.unit == "points" else lost


def table_row(scheme: str, result: Result, reference: Result, *, max_loss: float, seed: int, note: str) -> Row:
    """The row of table.json. A variant that loses more than `max_loss`, or that
    a gate refuses, is not accepted, and the note says why."""
    score = to_score(result.measured, seed=seed)
    difference = compare(result.measured, reference.measured, seed=seed)
    loss = loss_of(difference, result.measured)
    is_close = loss <= max_loss + 1e-9
    reason = "" if is_close else f"refused: loses {loss:.3f} of {score.metric}, the limit is {max_loss:.3f}"
    return {
        "scheme": scheme,
        "bytes": result.bytes,
        "ratio": result.bytes / reference.bytes,
        "engine": result.engine,
        "engine_build": result.build,
        "tokens_per_second": result.latency.tokens_per_second,
        "tokens_per_second_b8": result.batch_tokens_per_second,
        "latency_s": result.latency.p50_s,
        "peak_bytes": result.peak_bytes,
        **_task_columns(score, difference),
        **_perplexity_columns(result, reference, seed=seed),
        "agreement": agreement(result.answers, reference.answers),
        "logit_error": result.logit_error,
        "accepted": is_close and not result.refusal,
        "note": "; ".join(part for part in (reason, result.refusal, note) if part),
    }


def _perplexity_columns(result: Result, reference: Result, *, seed: int) -> Row:
    score = to_score(result.perplexity, seed=seed)
    difference = compare(result.perplexity, reference.perplexity, seed=seed)
    return {
        "perplexity": score.value,
        "perplexity_low": score.low,
        "perplexity_high": score.high,
        "perplexity_change": difference.difference,
        "perplexity_p": difference.p,
        "perplexity_engine": result.perplexity_engine,
    }


def _task_columns(score: Score, difference: Difference) -> Row:
    return {
        "task_metric": score.metric,
        "task_score": score.value,
        "task_low": score.low,
        "task_high": score.high,
        "task_change": difference.difference,
        "task_change_low": difference.low,
        "task_change_high": difference.high,
        "task_p": difference.p,
    }


def speed_note(result: Result, reference: Result, *, no_speed: str) -> str:
    """What the speed column does not say by itself. no_speed: why the engine gains nothing from the format, if so."""
    if result is reference:
        return ""
    factor = result.latency.tokens_per_second / max(reference.latency.tokens_per_second, 1e-9)
    if result.engine == reference.engine:
        if factor >= NOTICEABLE:
            return f"{factor:.2f} times the 16-bit speed"
        why = f": {no_speed}" if no_speed else ""
        return f"{result.engine} gains no speed from this format, {factor:.2f} times 16 bits{why}"
    gain = "" if factor >= NOTICEABLE else f"{result.engine} gains no speed from this format here; "
    return (
        f"{gain}{factor:.2f} times the 16-bit speed of {reference.engine}; llama.cpp also rounds activations to 8 "
        "bits, which score and same text see and the perplexity does not"
    )
