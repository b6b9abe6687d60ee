"""A rival answers, is timed and scored: what stands beside base and tuned."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.events import say
from tunewright.evaluate import exam as exams
from tunewright.evaluate.exam import Exam, Taken
from tunewright.evaluate.prompts import Prompt
from tunewright.evaluate.rivals.http import cost_per_thousand
from tunewright.evaluate.rivals.rival import Entrant, scoring
from tunewright.evaluate.systems.endpoint import Endpoint
from tunewright.evaluate.systems.protocol import Asking, ChatModel
from tunewright.evaluate.systems.samples import answered

TIMED = 8
"""Questions that are asked one by one for the seconds an answer takes."""


@dataclass(frozen=True)
class Contested:
    """taken: answers of the rows the rival was asked, and scores of the metrics whose rows are all among them;
    seconds_per_answer: median of questions asked alone; cost_per_thousand: in `currency`, None where unknown."""

    name: str
    kind: str
    why: str
    taken: Taken
    seconds_per_answer: float
    cost_per_thousand: float | None
    currency: str | None
    notes: dict[str, Any]


def contest(exam: Exam, entrant: Entrant) -> Contested:
    """Raises what the rival's system raises; its memory is freed afterwards."""
    start = time.monotonic()
    say(f"evaluate: asking the rival {entrant.name}")
    system, how = entrant.system, exams.asking(exam)
    try:
        samples = answered(system, entrant.prompts, how)
        taken = exams.grade(
            exam,
            entrant.prompts,
            samples,
            seconds=time.monotonic() - start,
            metrics=scoring(exam, entrant.prompts),
            signature=entrant.signature,
        )
        usage = system.usage if isinstance(system, Endpoint) else None
        cost = cost_per_thousand(entrant.price, usage) if entrant.price and usage else None
        seconds = seconds_per_answer(system, entrant.prompts, how)
    finally:
        system.close()
    return Contested(
        name=entrant.name,
        kind=entrant.kind,
        why=entrant.why,
        taken=taken,
        seconds_per_answer=seconds,
        cost_per_thousand=cost,
        currency=entrant.price.currency if entrant.price and cost is not None else None,
        notes=entrant.notes | taken.notes() | ({"answers_with_counted_tokens": usage.counted} if usage else {}),
    )


def with_rivals(rows: Sequence[dict[str, Any]], contested: Sequence[Contested]) -> list[dict[str, Any]]:
    """Rows of samples.jsonl with `rivals`, {name: answer} of those asked the row; unchanged without rivals."""
    if not contested:
        return list(rows)
    said = {rival.name: {sample.id: sample.prediction for sample in rival.taken.samples} for rival in contested}
    return [
        row | {"rivals": {name: answers[row["id"]] for name, answers in said.items() if row["id"] in answers}}
        for row in rows
    ]


def seconds_per_answer(system: ChatModel, prompts: Sequence[Prompt], how: Asking) -> float:
    """Median wall seconds of up to TIMED questions, evenly spread over the rows, asked one at a time and made now; one
    more before them warms up."""
    places = sorted({round(place * (len(prompts) - 1) / max(1, TIMED - 1)) for place in range(TIMED)})
    if not isinstance(system, Endpoint):
        system.time_answer(prompts[places[0]], how)
    return statistics.median(system.time_answer(prompts[place], how) for place in places)
