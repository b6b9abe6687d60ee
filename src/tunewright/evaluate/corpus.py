"""What a metric of the model itself may read beside the model: rows, limits and places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunewright.core.chat import Conversation


@dataclass(frozen=True)
class Corpus:
    """test, training: rows of the data artifact; system: who is measured, `base`, `tuned` or `promoted`; max_length:
    tokens of a sequence as it is trained, the same for every system; batch_size: rows generated together; root: where
    relative paths of options start."""

    test: tuple[Conversation, ...]
    training: tuple[Conversation, ...]
    system: str
    max_length: int
    seed: int
    batch_size: int
    root: Path
