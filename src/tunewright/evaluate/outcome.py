"""From what the systems answered to the content of scores.json: scores, paired differences, decided gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.scoring import Difference, Measured, Score
from tunewright.evaluate import compare, gates, multiplicity
from tunewright.evaluate.config import EvaluateConfig, Gate
from tunewright.evaluate.exam import Exam, Taken
from tunewright.evaluate.gates import Against, GateResult
from tunewright.evaluate.rivals import cheaper
from tunewright.evaluate.rivals.contest import Contested

Numbers = Mapping[str, Measured]


def document(
    prepared: Exam, base: Taken, tuned: Taken, promoted: Taken | None = None, *, rivals: Sequence[Contested] = ()
) -> dict[str, Any]:
    """`base`, `tuned` and (where a gate names it) `promoted` by metric, `paired` and `paired_promoted`, the gates, the
    rivals, and what a reader must know beside the numbers."""
    config, seed = prepared.config, prepared.seed
    systems = {"base": base, "tuned": tuned, **({"promoted": promoted} if promoted else {})}
    scores = {name: compare.scores_of(taken.measured, taken.floors, seed=seed) for name, taken in systems.items()}
    against = {"paired": _Pairs(config, tuned.measured, base.measured, seed=seed)}
    if promoted:
        against["paired_promoted"] = _Pairs(config, tuned.measured, promoted.measured, seed=seed)
    decided = [
        decide(gate, scores, against["paired"], against.get("paired_promoted"))
        for gate in config.gates
        if "tuned" in gate.on
    ]
    shown = {name: {key: score.model_dump() for key, score in found.items()} for name, found in scores.items()}
    beside = [_rival(config, rival, tuned, scores["tuned"], seed=seed) for rival in rivals]
    return {
        **shown,
        **{name: pairs.dump(scores["tuned"]) for name, pairs in against.items()},
        "gates": [result.model_dump(mode="json") for result in decided],
        "rivals": beside,
        "cheaper_rival": cheaper.cheaper_rival(beside, config.primary),
        "primary": config.primary,
        "seed": seed,
        "labels": list(prepared.labels),
        "notes": {name: taken.notes() for name, taken in systems.items()},
    }


def _rival(
    config: EvaluateConfig, rival: Contested, tuned: Taken, scores: Mapping[str, Score], *, seed: int
) -> dict[str, Any]:
    """The row of a rival: its scores, and tuned minus rival on the same rows."""
    own = compare.scores_of(rival.taken.measured, rival.taken.floors, seed=seed)
    return {
        "name": rival.name,
        "kind": rival.kind,
        "why": rival.why,
        "scores": {key: score.model_dump() for key, score in own.items()},
        "paired": _Pairs(config, tuned.measured, rival.taken.measured, seed=seed).dump(scores),
        "seconds_per_answer": rival.seconds_per_answer,
        "cost_per_thousand": rival.cost_per_thousand,
        "currency": rival.currency,
        "notes": rival.notes,
    }


class _Pairs:
    """Tuned minus another system by metric, with p values corrected for the number of metrics."""

    def __init__(self, config: EvaluateConfig, tuned: Numbers, other: Numbers, *, seed: int) -> None:
        both = {key: found for key, found in tuned.items() if key in other and _pairs_up(found, other[key])}
        self.tuned, self.other = tuned, other
        self.differences = compare.differences_of(both, other, seed=seed)
        self.corrected = multiplicity.corrected(self.differences, primary=config.primary)

    def against(self, key: str, score: Score) -> Against:
        """The other system as a gate on the metric `key` sees it."""
        return Against(score, self.differences.get(key), self.corrected.get(key))

    def dump(self, scores: Mapping[str, Score]) -> dict[str, Any]:
        """By metric; the verdict in words goes by the corrected p value."""
        return {key: self._row(key, found, scores[key]) for key, found in self.differences.items()}

    def _row(self, key: str, found: Difference, score: Score) -> dict[str, Any]:
        counted = found.model_copy(update={"p": self.corrected[key]})
        verdict = compare.verdict(counted, higher_is_better=score.higher_is_better)
        row = found.model_dump() | {"p_holm": self.corrected[key], "verdict": verdict}
        if self.tuned[key].yes_no:
            ours, theirs = (side[key].statistics[:, 0] > 0 for side in (self.tuned, self.other))
            row |= {"gained": int((ours & ~theirs).sum()), "lost": int((theirs & ~ours).sum())}
        return row


def _pairs_up(ours: Measured, theirs: Measured) -> bool:
    """Whether line i of both is the same row: another tokenizer may leave other rows."""
    return not ours.paired or len(ours.statistics) == len(theirs.statistics)


def decide(gate: Gate, scores: Mapping[str, Mapping[str, Score]], base: _Pairs, promoted: _Pairs | None) -> GateResult:
    """A gate on the tuned model."""
    key = gate.metric
    if any(key not in found for found in scores.values()):
        return gates.undecided(gate)
    return gates.decide(
        gate,
        score=scores["tuned"][key],
        base=base.against(key, scores["base"][key]),
        promoted=promoted.against(key, scores["promoted"][key]) if promoted else None,
    )


def again(gate: Gate, stored: Mapping[str, Any]) -> GateResult:
    """The gate decided once more from the numbers of a scores.json, to prove what stands there."""
    key = gate.metric
    if key not in stored["tuned"] or key not in stored["base"]:
        return gates.undecided(gate)

    def against(name: str, pairs: str) -> Against:
        row = stored[pairs].get(key)
        difference = Difference.model_validate(row) if row else None
        return Against(Score.model_validate(stored[name][key]), difference, row.get("p_holm") if row else None)

    has_promoted = key in stored.get("promoted", {})
    return gates.decide(
        gate,
        score=Score.model_validate(stored["tuned"][key]),
        base=against("base", "paired"),
        promoted=against("promoted", "paired_promoted") if has_promoted else None,
    )
