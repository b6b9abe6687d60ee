"""The token numbers of a row and of a split, and the refusal of a breach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.errors import ArtifactError

RULES = {
    "rendering": "the ids are those of the template's own rendering, encoded without added special tokens",
    "bos": "the begin token stands once, at position 0, where the template or the tokenizer sets it",
    "labels": "every sequence has a trained token",
    "end": "every trained turn has its end token trained",
    "control": "no control id comes from content",
    "round_trip": "content comes back from its tokens as it was",
}


@dataclass(slots=True)
class RowTokens:
    """One row's numbers. tokens, trained, cut: over its sequences; longest: tokens of the longest; bos: in one
    sequence, 0 where the begin token is a turn marker; breaches: names from RULES. Nothing changes one; see Draft."""

    sequences: int
    tokens: int
    trained: int
    longest: int
    bos: int
    end_tokens: int
    cut: int = 0
    control_texts: int = 0
    breaches: tuple[str, ...] = ()


def table(rows: Sequence[RowTokens]) -> dict[str, Any]:
    """The token table of one split; lengths in tokens, counts in rows unless named."""
    tokens = sum(row.tokens for row in rows)
    sequences = sum(row.sequences for row in rows)
    return {
        "rows": len(rows),
        "sequences": sequences,
        "tokens": tokens,
        "trained_tokens": sum(row.trained for row in rows),
        "mean_tokens": round(tokens / sequences, 2) if sequences else 0.0,
        "max_tokens": max((row.longest for row in rows), default=0),
        "bos_per_sequence": max((row.bos for row in rows), default=0),
        "trained_end_tokens": sum(row.end_tokens for row in rows),
        "rows_cut": sum(row.cut > 0 for row in rows),
        "prompt_tokens_cut": sum(row.cut for row in rows),
        "rows_by_turn": sum(row.sequences > 1 for row in rows),
        "control_texts_in_content": sum(row.control_texts for row in rows),
        "all_masked": sum("labels" in row.breaches for row in rows),
        "control_ids_from_content": sum("control" in row.breaches for row in rows),
        "breaches": {rule: sum(rule in row.breaches for row in rows) for rule in RULES},
    }


def refuse_breaches(rows: Iterable[tuple[str, RowTokens]]) -> None:
    """Raises ArtifactError that names the first row with a breach and the rule it breaks."""
    for row_id, row in rows:
        if row.breaches:
            raise ArtifactError(
                f"the model's tokens break the rule '{row.breaches[0]}': {RULES[row.breaches[0]]}",
                where=row_id,
                fix="the chat template or the tokenizer is at fault; use another one, or leave this row out",
            )
