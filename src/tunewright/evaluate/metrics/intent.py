"""Intent: is the answer the right label, after free greedy generation and by constrained choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.core.scoring import Aggregate, Floats, Measured, Sample
from tunewright.evaluate.config import IntentOptions
from tunewright.evaluate.labels import NORMALIZATION, has_label, normalize
from tunewright.evaluate.metrics.confusion import UNPARSEABLE, Confusion, confusion
from tunewright.evaluate.metrics.counts import rate
from tunewright.evaluate.rows import applying, metadata_value

VERSION = 2
"""2: out-of-scope recall and false accepts apart."""


class Intent:
    """`intent.accuracy`, `intent.macro_f1`, `intent.unparseable`; `intent.out_of_scope_recall` and
    `intent.false_accept` over the rows whose right label is an out-of-scope one; `intent_choice.accuracy` where every
    sample has a constrained choice. `labels` are the known ones; the rows' own right labels are always known."""

    def __init__(self, options: IntentOptions, labels: Sequence[str] = ()) -> None:
        self.options, self.labels = options, tuple(labels)

    @staticmethod
    def metric_keys(options: IntentOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return [
            "intent.accuracy",
            "intent.macro_f1",
            "intent.unparseable",
            "intent.out_of_scope_recall",
            "intent.false_accept",
            "intent_choice.accuracy",
        ]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored: it matches `where` and has a label."""
        return has_label(self.options, metadata)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply, in their order; none at all gives an empty list.

        An answer that is not exactly one known label is wrong, and counted as unparseable.
        """
        rows = applying(samples, self.applies)
        if not rows:
            return []
        truth = [normalize(metadata_value(row.metadata, self.options.label) or "") for row in rows]
        known = sorted({*truth, *map(normalize, self.labels)})
        place = {label: index for index, label in enumerate(known)}
        right = np.array([place[label] for label in truth])
        said = np.array([place.get(normalize(row.prediction), len(known)) for row in rows])
        unparseable = said == len(known)
        signature = f"labels:{len(known)}|compared:{NORMALIZATION}"
        free = f"generation:greedy|{signature}|unparseable:{int(unparseable.sum())}"
        found = [
            rate("intent.accuracy", VERSION, said == right, signature=free),
            Measured("intent.macro_f1", VERSION, np.stack([right, said], 1).astype(float), macro_f1(len(known)),
                     signature=f"{free}|mean over labels that occur"),
            rate("intent.unparseable", VERSION, unparseable, signature=free, higher_is_better=False),
        ]  # fmt: skip
        found += self._out_of_scope(truth, [normalize(row.prediction) for row in rows], known)
        choices = [row.choice for row in rows if row.choice is not None]
        if len(choices) == len(rows):
            chosen = np.array([place.get(normalize(choice), len(known)) for choice in choices])
            found.append(
                rate(
                    "intent_choice.accuracy", VERSION, chosen == right, signature=f"generation:constrained|{signature}"
                )
            )
        return found

    def _out_of_scope(self, truth: Sequence[str], said: Sequence[str], known: Sequence[str]) -> list[Measured]:
        """Of the rows that belong to no intent: the share recognized as that, and the share taken for an intent. What
        is neither was unparseable."""
        outside = {normalize(label) for label in self.options.out_of_scope}
        answers = [answer for right, answer in zip(truth, said, strict=True) if right in outside]
        if not answers:
            return []
        inside = set(known) - outside
        signature = f"out of scope:{','.join(sorted(outside & set(truth)))}"
        recognized = [answer in outside for answer in answers]
        accepted = [answer in inside for answer in answers]
        return [
            rate("intent.out_of_scope_recall", VERSION, recognized, signature=signature),
            rate("intent.false_accept", VERSION, accepted, signature=signature, higher_is_better=False),
        ]

    def confusion(self, samples: Sequence[Sample]) -> Confusion:
        """How often each label was answered with which, over the samples that apply."""
        rows = applying(samples, self.applies)
        truth = [normalize(metadata_value(row.metadata, self.options.label) or "") for row in rows]
        known = {*truth, *map(normalize, self.labels)}
        said = [answer if (answer := normalize(row.prediction)) in known else UNPARSEABLE for row in rows]
        return confusion(truth, said)

    def explain(self, samples: Sequence[Sample]) -> list[dict[str, Any] | None]:
        """For each sample whether its label is right, and what was said; None where the metric does not apply."""
        found: list[dict[str, Any] | None] = []
        for sample in samples:
            if not self.applies(sample.metadata):
                found.append(None)
                continue
            right, said = (metadata_value(sample.metadata, self.options.label) or ""), normalize(sample.prediction)
            found.append({"correct": said == normalize(right), "answer": said, "wanted": normalize(right)})
        return found


def macro_f1(labels: int) -> Aggregate:
    """F1 a label, averaged over the labels that occur as the right one among the (resampled) rows.

    The aggregate takes [R, n, 2]: index of the right label, index of the answer (`labels` for no known label). F1 =
    2 hits / (right + answered), as in van Rijsbergen 1979; equals scikit-learn's f1_score(average="macro") with
    `labels=` those that occur.
    """

    def aggregate(statistics: Floats) -> Floats:
        resamples = len(statistics)
        row = np.arange(resamples)[:, None]
        right, said = statistics[..., 0].astype(np.int64), statistics[..., 1].astype(np.int64)

        def count(codes: Any, width: int, weights: Any = None) -> Floats:
            flat = None if weights is None else weights.ravel()
            counted = np.bincount((row * width + codes).ravel(), weights=flat, minlength=resamples * width)
            return counted.reshape(resamples, width)[:, :labels].astype(float)

        support, answered = count(right, labels), count(said, labels + 1)
        hits = count(right, labels, (right == said).astype(float))
        occurs = support > 0
        scores = 2 * hits / np.maximum(support + answered, 1)
        means: Floats = (scores * occurs).sum(1) / occurs.sum(1)
        return means

    return aggregate
