"""Forgetting: the loss on conversations that have nothing to do with the project, tuned against base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.scoring import Measured
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.forgetting_rows import read_conversations
from tunewright.evaluate.metrics.model_options import ForgettingOptions
from tunewright.evaluate.metrics.perplexity_losses import foreseen, losses_of
from tunewright.evaluate.rows import drawn
from tunewright.models.tokens import ChatTokenizer

VERSION = 1
KEYS = ("forgetting.loss", "forgetting.perplexity")
_WHERE = "evaluate.metrics.forgetting"


class Forgetting:
    """`forgetting.loss` (nats a token) and `forgetting.perplexity`, lower is better. Both systems answer for the same
    rows, so the change is the paired difference, and a gate reads `<= base * 1.1`."""

    def __init__(self, options: ForgettingOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: ForgettingOptions) -> list[str]:
        """Flat keys that `measure_corpus` produces."""
        return list(KEYS)

    def measure_corpus(self, model: Any, tokenizer: ChatTokenizer, corpus: Corpus) -> list[Measured]:
        """One line of statistics a general row. Raises ConfigError for a file that is missing or of another form."""
        rows, without = self._rows(corpus)
        losses = losses_of(model, tokenizer, rows, max_length=corpus.max_length, where=_WHERE)
        signature = f"set:{Path(self.options.path).name}|seed:{corpus.seed}|without an answer:{without}"
        return losses.measured(KEYS, VERSION, signature=signature)

    def foresee_corpus(self, corpus: Corpus) -> list[Measured]:
        """What `measure_corpus` will give, in kind and number, without a model; raises what it raises for the file."""
        return foreseen(KEYS, len(self._rows(corpus)[0]), VERSION)

    def _rows(self, corpus: Corpus) -> tuple[list[Conversation], int]:
        path = corpus.root / Path(self.options.path).expanduser()
        rows, without = read_conversations(path, where=f"{_WHERE}.path")
        return drawn(rows, self.options.rows, seed=corpus.seed), without
