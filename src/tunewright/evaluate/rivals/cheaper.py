"""Whether a cheaper rival is as good as the tuned model, and the sentence that says so before anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEVEL = 0.05


def cheaper_rival(rivals: Sequence[Mapping[str, Any]], primary: str) -> dict[str, Any] | None:
    """{"name", "sentence"} of the cheapest rival that the tuned model is not shown to beat on the primary metric; None
    where it beats all that were scored on it. rivals: those of a scores.json; every one of them is cheaper than a model
    that must be trained."""
    equal = [rival for rival in rivals if is_as_good(rival, primary)]
    if not equal:
        return None
    first, *others = sorted(equal, key=lambda rival: (rival["cost_per_thousand"] or 0.0, rival["seconds_per_answer"]))
    return {"name": first["name"], "sentence": _sentence(first, others, primary)}


def is_as_good(rival: Mapping[str, Any], primary: str) -> bool:
    """Whether no difference from the tuned model is shown on the primary metric, or the rival is shown to be better."""
    if primary not in rival["paired"]:
        return False
    paired, score = rival["paired"][primary], rival["scores"][primary]
    if paired["p"] >= LEVEL or paired["difference"] == 0:
        return True
    return bool((paired["difference"] < 0) == score["higher_is_better"])


def _sentence(rival: Mapping[str, Any], others: Sequence[Mapping[str, Any]], primary: str) -> str:
    paired, score = rival["paired"][primary], rival["scores"][primary]
    is_better = paired["p"] < LEVEL and paired["difference"] != 0
    places = 1 if score["unit"] in ("points", "1/s") else 3
    low, high = (f"{paired[side]:.{places}f}" for side in ("low", "high"))
    cost = rival["cost_per_thousand"]
    price = f"; a thousand of its answers cost {cost:.2f} {rival['currency']}" if cost is not None else ""
    more = f" The same holds for {', '.join(other['name'] for other in others)}." if others else ""
    return (
        f"A cheaper rival is {'better' if is_better else 'as good'}: {rival['name']} {rival['why']} and has "
        f"{score['value']:.{places}f} on {primary}; tuned - {rival['name']} is {paired['difference']:+.{places}f} "
        f"[{low}, {high}], n {paired['n']}, "
        f"{'the rival is shown to be better' if is_better else 'no difference shown'} (p {paired['p']:.2g}){price}."
        f"{more}"
    )
