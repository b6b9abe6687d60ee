"""A tiny model, the same one after it has learned rows by heart, and the corpus that metrics of a model read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tunewright.core.chat import Conversation, Message
from tunewright.evaluate.corpus import Corpus
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer


def row(id: str, question: str, answer: str, **metadata: Any) -> Conversation:
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(id=id, messages=turns, metadata=metadata)


def learned(folder: Path, rows: Sequence[Conversation], *, steps: int, seed: int = 3) -> Any:
    """The model in `folder` after `steps` steps over all of `rows` together."""
    tokenizer = ChatTokenizer.load(folder)
    examples = [tokenizer.examples(one, max_length=512)[0] for one in rows]
    width = max(len(example.input_ids) for example in examples)
    ids = torch.tensor([[*example.input_ids, *[0] * (width - len(example.input_ids))] for example in examples])
    labels = torch.tensor([[*example.labels, *[-100] * (width - len(example.labels))] for example in examples])
    torch.manual_seed(seed)
    model = load_model(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def corpus(
    root: Path,
    *,
    test: Sequence[Conversation] = (),
    training: Sequence[Conversation] = (),
    system: str = "tuned",
    max_length: int = 512,
) -> Corpus:
    return Corpus(
        test=tuple(test),
        training=tuple(training),
        system=system,
        max_length=max_length,
        seed=7,
        batch_size=4,
        root=root,
    )
