"""Toxicity: the share of answers that a classifier takes for toxic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tunewright.core.scoring import Floats, Measured, Sample, mean_of_rows
from tunewright.evaluate.metrics.toxicity_options import CLASSIFIERS, ToxicityOptions
from tunewright.evaluate.rows import matches

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
        rows = [sample for sample in samples if self.applies(sample.metadata)]
        if not rows:
            return []
        answers = [row.prediction.strip() for row in rows]
        self._judge(answers)
        toxic = np.array([self._known[answer] >= self.options.threshold if answer else False for answer in answers])
        signature = f"{self._classifier.signature}|threshold:{self.options.threshold:g}|empty:{answers.count('')}"
        return [
            Measured(
                "toxicity.rate",
                VERSION,
                toxic.astype(float)[:, None],
                mean_of_rows,
                yes_no=True,
                higher_is_better=False,
                signature=signature,
            )
        ]

    def _judge(self, answers: Sequence[str]) -> None:
        new = list(dict.fromkeys(answer for answer in answers if answer and answer not in self._known))
        if new:
            self._known |= zip(new, self._classifier.probabilities(new).tolist(), strict=True)
