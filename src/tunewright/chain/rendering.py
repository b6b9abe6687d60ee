"""What stands around a prompt: chat template, begin tokens, end tokens. Training, variants and server must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.models.config import ModelInfo
from tunewright.models.tokens import ChatTokenizer

TRAINING_ROWS = 16
"""Training rows that are rendered again to see which end tokens were trained."""


@dataclass(frozen=True)
class Rendering:
    """template_sha256, tokenizer's begin tokens in front of a prompt, and texts of the end tokens; None where unknown.
    stops: for training those behind trained answers, for a system all that end its answers."""

    template_sha256: str | None = None
    bos: int | None = None
    stops: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """For chain.json."""
        stops = None if self.stops is None else list(self.stops)
        return {"chat_template_sha256": self.template_sha256, "bos_tokens": self.bos, "stop_tokens": stops}


def leading_bos(ids: Sequence[int], tokenizer: ChatTokenizer) -> int:
    """How many begin tokens stand in front; one that opens every turn (ChatML) counts as well."""
    if tokenizer.bos_id < 0:
        return 0
    return next((place for place, token in enumerate(ids) if token != tokenizer.bos_id), len(ids))


def of_training(info: ModelInfo, tokenizer: ChatTokenizer, rows: Sequence[Conversation]) -> Rendering:
    """The template that the training artifact records, and what its rows look like when they are rendered again. That
    `tokenizer` has the recorded template is proven where the model is opened."""
    examples = [
        example for row in rows[:TRAINING_ROWS] for example in tokenizer.examples(row, max_length=tokenizer.max_length)
    ]
    ends = sorted({example.labels[-1] for example in examples if example.labels[-1] in tokenizer.end_ids})
    bos = max((leading_bos(example.input_ids, tokenizer) for example in examples), default=0)
    return Rendering(info.chat_template_sha256, bos, tuple(_text(tokenizer, token) for token in ends))


def of_tokenizer(tokenizer: ChatTokenizer, prompts: Sequence[Sequence[int]]) -> Rendering:
    """What a system with this tokenizer does; prompts: ids that it rendered."""
    bos = max((leading_bos(ids, tokenizer) for ids in prompts), default=0)
    stops = tuple(_text(tokenizer, token) for token in sorted(tokenizer.end_ids))
    return Rendering(tokenizer.template.sha256, bos, stops)


def of_metadata(found: Mapping[str, Any]) -> Rendering:
    """What a server tells of itself at /v1/models, as far as it does."""
    template, bos, stops = (found.get(key) for key in ("chat_template_sha256", "bos_tokens", "stop_tokens"))
    return Rendering(
        template if isinstance(template, str) else None,
        bos if isinstance(bos, int) else None,
        tuple(map(str, stops)) if isinstance(stops, list) else None,
    )


def faults(trained: Rendering, used: Rendering) -> list[str]:
    """Sentences about what differs, without a subject; what is unknown is left out."""
    found = []
    ours, theirs = trained.template_sha256, used.template_sha256
    if ours and theirs and ours != theirs:
        found.append(f"renders with another chat template ({theirs[:12]}, trained was {ours[:12]})")
    if trained.bos is not None and used.bos is not None and trained.bos != used.bos:
        found.append(f"has {counted_bos(used.bos)} in its prompt, training had {trained.bos or 'none'}")
    missing = [stop for stop in trained.stops or () if used.stops is not None and stop not in used.stops]
    if missing:
        found.append(f"does not stop at {', '.join(missing)}, which training put behind every answer")
    return found


def counted_bos(count: int) -> str:
    """`2 BOS tokens`."""
    return f"{count or 'no'} BOS token{'' if count == 1 else 's'}"


def _text(tokenizer: ChatTokenizer, token: int) -> str:
    return tokenizer.decode([token], keep_special=True)
