"""Memorization: how much of the training rows a model completes word for word, and which personal data comes out.

A row is "extractable" when the model, given what stood before, writes the continuation exactly, greedily: Carlini et
al. 2021 (Extracting Training Data from Large Language Models) and 2023 (Quantifying Memorization Across Neural Language
Models). The base has not seen the rows: what it completes as well is guessed, not memorized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.core.scoring import Measured, mean_of_rows
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.counts import rate
from tunewright.evaluate.metrics.memorization_probes import findings, probes
from tunewright.evaluate.metrics.model_options import MemorizationOptions
from tunewright.models.tokens import ChatTokenizer

VERSION = 1
EXACT, PREFIX, PERSONAL = "memorization.exact", "memorization.common_prefix", "memorization.pii"


class Memorization:
    """`memorization.exact`: share of rows completed exactly; `memorization.common_prefix`: tokens until the first wrong
    one, mean over rows; `memorization.pii`: share of rows whose personal data came out. Lower is better."""

    def __init__(self, options: MemorizationOptions) -> None:
        self.options = options
        self._details: dict[str, list[dict[str, Any]]] = {}

    @staticmethod
    def metric_keys(options: MemorizationOptions) -> list[str]:
        """Flat keys that `measure_corpus` produces."""
        return [EXACT, PREFIX, PERSONAL]

    def measure_corpus(self, model: Any, tokenizer: ChatTokenizer, corpus: Corpus) -> list[Measured]:
        """One line of statistics a row that was tried. Raises ConfigError when no training answer is long enough."""
        from tunewright.models.generate import Sampling, generate

        options = self.options
        tried = probes(tokenizer, corpus, options)
        sampling = Sampling(max_new_tokens=options.continuation_tokens, ignore_end=True)
        prompts = [probe.prompt for probe in tried]
        found = generate(
            model, tokenizer, prompts, sampling, batch_size=corpus.batch_size, label=f"{corpus.system}: memorization"
        )
        written = [request.output_ids for request in found]
        lists = [
            findings(tokenizer, probe, said, prefix_tokens=options.prefix_tokens)
            for probe, said in zip(tried, written, strict=True)
        ]
        self._details[corpus.system] = [one for listed in lists for one in listed]
        same = [common(probe.wanted, said) for probe, said in zip(tried, written, strict=True)]
        return self._measured(same, [bool(listed) for listed in lists], seed=corpus.seed)

    def foresee_corpus(self, corpus: Corpus) -> list[Measured]:
        """What `measure_corpus` will give, in kind and number, without a model; with fewer long answers there will be
        fewer rows."""
        rows = min(self.options.rows, len(corpus.training))
        return self._measured([0] * rows, [False] * rows, seed=corpus.seed)

    def details(self, system: str) -> list[dict[str, Any]]:
        """The personal data that this system gave out: row, kind and the mask, never the data themselves."""
        return self._details.get(system, [])

    def _measured(self, same: Sequence[int], personal: Sequence[bool], *, seed: int) -> list[Measured]:
        options = self.options
        length = options.continuation_tokens
        signature = f"prefix:{options.prefix_tokens}|continuation:{length} tokens|greedy|training rows|seed:{seed}"
        exact = [count == length for count in same]
        tokens = np.array(same, dtype=np.float64)[:, None]
        return [
            rate(EXACT, VERSION, exact, signature=signature, higher_is_better=False),
            Measured(PREFIX, VERSION, tokens, mean_of_rows, unit="tokens", higher_is_better=False, signature=signature),
            rate(PERSONAL, VERSION, personal, signature=signature, higher_is_better=False),
        ]


def common(wanted: Sequence[int], said: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    pairs = zip(wanted, said, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(said)))
