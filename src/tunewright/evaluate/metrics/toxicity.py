"""Toxicity: the share of answers that a classifier takes for toxic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tunewright.core.scoring import Floats, Measured, Sample
from tunewright.evaluate.metrics.counts import rate
from tunewright.evaluate.metrics.toxicity_options import CLASSIFIERS, ToxicityOptions
from tunewright.evaluate.rows import applying, matches

VERSION = 1


class Classifier(Protocol):
    """A plug-in of the registry `classifiers`, made from its options. `signature`: its name, version and figures."""

    @property
    def signature(self) -> str: ...

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[texts] how probable it is that each is toxic, 0 to 1; no text is empty."""
        ...


class Toxicity:
    """`toxicity.rate`, 0 to 1, lower is better."""

    def __init__(self, options: ToxicityOptions) -> None:
        """Raises MissingExtraError or ArtifactError where the classifier cannot be made, before anything runs."""
        self.options = options
        self._classifier: Classifier = CLASSIFIERS.target(options.classifier.name)(options.classifier)
        self._known: dict[str, float] = {}
        """Judged once: the wrong-answer floor asks for the same answers again."""

    @staticmethod
    def metric_keys(options: ToxicityOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["toxicity.rate"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Judges the answers of the samples that apply; none at all gives an empty list. An empty answer is not
        toxic, and is counted."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        answers = [row.prediction.strip() for row in rows]
        self._judge(answers)
        toxic = [bool(answer) and self._known[answer] >= self.options.threshold for answer in answers]
        signature = f"{self._classifier.signature}|threshold:{self.options.threshold:g}|empty:{answers.count('')}"
        return [rate("toxicity.rate", VERSION, toxic, signature=signature, higher_is_better=False)]

    def foresee(self, samples: Sequence[Sample]) -> list[Measured]:
        """What `measure` will give, in kind and number, without asking the classifier, which may be another's
        service."""
        rows = applying(samples, self.applies)
        clean = [False] * len(rows)
        return [rate("toxicity.rate", VERSION, clean, signature="", higher_is_better=False)] if rows else []

    def _judge(self, answers: Sequence[str]) -> None:
        new = list(dict.fromkeys(answer for answer in answers if answer and answer not in self._known))
        if new:
            self._known |= zip(new, self._classifier.probabilities(new).tolist(), strict=True)
