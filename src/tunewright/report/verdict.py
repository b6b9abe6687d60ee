"""Is the tuned model better? One sentence, as loud when nothing was shown as when something was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunewright.core.scoring import Difference, Score
from tunewright.report.numbers import p_value, readable, scale_of

Outcome = Literal["better", "no difference shown", "worse", "not measured"]
_MARKS = {"better": "▲", "no difference shown": "＝", "worse": "▼", "not measured": "?"}


@dataclass(frozen=True)
class Verdict:
    """`outcome` in words, the sentence below it, and the gates. first: what a reader must know before all else, such as
    a cheaper system that does as well."""

    outcome: Outcome
    sentence: str
    gates: str
    gates_failed: bool
    first: str = ""

    @property
    def mark(self) -> str:
        """A sign beside the word: the outcome never hangs on colour."""
        return _MARKS[self.outcome]


def verdict(scores: Mapping[str, Any] | None) -> Verdict:
    """From the content of scores.json; None: evaluate has not run."""
    if scores is None:
        return Verdict(
            "not measured", "This run was not evaluated: nothing says that the tuned model is better.", "", False
        )
    failed = [gate["metric"] for gate in scores["gates"] if not gate["passed"]]
    gates = gates_line(len(scores["gates"]), failed)
    primary, first = scores["primary"], (scores.get("cheaper_rival") or {}).get("sentence", "")
    if any(primary not in scores[part] for part in ("base", "tuned", "paired")):
        words = f"The primary metric {primary} was not measured on both models, so nothing was shown."
        return Verdict("not measured", words, gates, bool(failed), first)
    base, tuned = (Score.model_validate(scores[part][primary]) for part in ("base", "tuned"))
    difference = as_difference(scores["paired"][primary])
    return Verdict(outcome(difference, tuned), _sentence(base, tuned, difference), gates, bool(failed), first)


def as_difference(row: Mapping[str, Any]) -> Difference:
    """The Difference in a row of `paired`, which also holds its verdict in words. p: that of the verdict, corrected for
    several metrics where this is not the primary one."""
    known = {key: value for key, value in row.items() if key in Difference.model_fields}
    return Difference.model_validate(known | {"p": row.get("p_holm", row["p"])})


def outcome(difference: Difference, score: Score) -> Outcome:
    """better or worse only where a difference is shown (p < 0.05), in the metric's own direction."""
    if difference.p >= 0.05 or difference.difference == 0:
        return "no difference shown"
    return "better" if (difference.difference > 0) == score.higher_is_better else "worse"


def as_outcome(verdict: str) -> str:
    """The verdict of scores.json without its p value, which stands in a column of its own."""
    return readable(verdict.partition(" (")[0], 80)


def _sentence(base: Score, tuned: Score, difference: Difference) -> str:
    scale = scale_of(tuned.metric, tuned.unit)
    return (
        f"{tuned.metric} went from {scale.show(base.value)} (base) to {scale.show(tuned.value)} "
        f"(tuned, 95 % interval {scale.interval(tuned.low, tuned.high)}): "
        f"{scale.change(difference.difference)} ({scale.changes(difference.low, difference.high)}), "
        f"{difference.test} {p_value(difference.p)}, n = {difference.n:,} test rows."
    )


def gates_line(total: int, failed: Sequence[str]) -> str:
    """'All 2 gates passed.', '1 of 2 gates failed: intent.accuracy.' or that there are none."""
    if not total:
        return "The project file sets no gates, so nothing could fail."
    if failed:
        return f"{len(failed)} of {total} gates failed: {', '.join(failed)}."
    return "The one gate passed." if total == 1 else f"All {total} gates passed."
