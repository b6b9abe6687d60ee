"""The loss of rows as they are trained, which `perplexity` and `forgetting` turn into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.scoring import Floats, Measured
from tunewright.models.template import TemplateRefusal
from tunewright.models.tokens import ChatTokenizer, Example


@dataclass(frozen=True)
class RowLosses:
    """statistics: [n, 2] nats and trained tokens, one line a row, (0, 0) for one that was left out; left_out: rows
    whose answer is longer than max_length or that the template refuses; cut: rows whose prompt was cut on the left."""

    statistics: Floats
    left_out: int
    cut: int

    def measured(self, names: tuple[str, str], version: int, *, signature: str) -> list[Measured]:
        """The mean loss in nats a token and the perplexity, under these two metric keys; lower is better."""
        tokens = int(self.statistics[:, 1].sum())
        signature = f"{signature}|tokens:{tokens}|left out:{self.left_out}|cut on the left:{self.cut}"
        return [
            Measured(name, version, self.statistics, aggregate, unit=unit, higher_is_better=False, signature=signature)
            for name, aggregate, unit in zip(names, (loss_a_token, perplexity), ("nats", "perplexity"), strict=True)
        ]


def foreseen(names: tuple[str, str], rows: int, version: int) -> list[Measured]:
    """Losses of `rows` rows in kind and number: zeros."""
    return RowLosses(np.zeros((rows, 2)), 0, 0).measured(names, version, signature="foreseen")


def loss_a_token(statistics: Floats) -> Floats:
    """The aggregate of losses: [R, n, 2] -> [R], nats a token; every token has the same weight."""
    sums = statistics.sum(axis=1)
    means: Floats = sums[:, 0] / np.maximum(sums[:, 1], 1.0)
    return means


def perplexity(statistics: Floats) -> Floats:
    """[R, n, 2] -> [R]: e to the loss a token."""
    found: Floats = np.exp(loss_a_token(statistics))
    return found


def losses_of(
    model: Any, tokenizer: ChatTokenizer, rows: Sequence[Conversation], *, max_length: int, where: str
) -> RowLosses:
    """The loss of every row, rendered and masked as in training. where: the metric, for errors and progress.

    Raises ConfigError when no row fits, ArtifactError when a loss is not a number.
    """
    rendered = [_examples(tokenizer, row, max_length) for row in rows]
    if not any(rendered):
        raise ConfigError(
            f"none of the {len(rows)} rows can be rendered with an answer of at most {max_length} tokens",
            where=where,
            fix="use shorter rows, or raise model.max_length",
        )
    return RowLosses(
        sums_of(model, rendered, where=where),
        left_out=sum(not parts for parts in rendered),
        cut=sum(any(part.cut_prompt_tokens for part in parts) for parts in rendered),
    )


def sums_of(model: Any, rendered: Sequence[Sequence[Example]], *, where: str) -> Floats:
    """[n, 2] nats and trained tokens of rows that are one or more examples each."""
    from tunewright.models.row_loss import row_losses

    found = iter(row_losses(model, [part for parts in rendered for part in parts], label=where))
    lines = [(sum(next(found) for _ in parts), sum(part.trained for part in parts)) for parts in rendered]
    statistics: Floats = np.array(lines, dtype=np.float64)
    if not np.isfinite(statistics).all():
        row = int(np.flatnonzero(~np.isfinite(statistics).all(axis=1))[0])
        raise ArtifactError(
            f"the model's loss on row {row + 1} is not a number, so its weights or its number format are unusable",
            where=where,
            fix="try model.dtype: float32; if the loss stays so, train again with a lower learning rate",
        )
    return statistics


def _examples(tokenizer: ChatTokenizer, row: Conversation, max_length: int) -> list[Example]:
    """Nothing for a row that cannot be trained on at this length, which the caller counts."""
    try:
        return tokenizer.examples(row, max_length=max_length)
    except (ArtifactError, TemplateRefusal):
        return []
