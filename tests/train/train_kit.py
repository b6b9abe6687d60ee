"""A workspace with a small sealed data artifact, made by hand."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.core.scoring import Measured, Sample, mean_of_rows
from tunewright.models.tokens import IGNORED, Example
from tunewright.train.generated import GeneratedExam

LENGTH = 64
"""Tokens of each of `rows`."""
LABELS = ("fee", "card", "loan")


def conversations(count: int, start: int = 0, *, by_chance: bool = False) -> list[Conversation]:
    """Questions whose first word gives the answer away: a tiny model can learn them. by_chance: the answer is any."""
    found = []
    chance = random.Random(start)
    for number in range(start, start + count):
        label = LABELS[number % 3]
        answer = chance.choice(LABELS) if by_chance else label
        turns = (Message(role="user", content=f"{label} {number}"), Message(role="assistant", content=answer))
        found.append(Conversation(id=f"made:{number}", messages=turns, metadata={"intent": label}))
    return found


def data_artifact(workspace: Workspace, rows: int = 24, *, by_chance: bool = False, held_out: int = 6) -> Artifact:
    """train, validation and test splits of `rows`, `held_out` and 6 rows."""
    output = begin(workspace, "data", {"made": rows}, ())
    assert isinstance(output, Output)
    for split, part in (
        ("train", conversations(rows, by_chance=by_chance)),
        ("validation", conversations(held_out, 100, by_chance=by_chance)),
        ("test", conversations(6, 200)),
    ):
        files.write_jsonl(output.path / f"{split}.jsonl", [conversation.to_row() for conversation in part])
    return output.seal()


def interrupting_exam(at: int) -> GeneratedExam:
    """An exam whose grading sends SIGTERM to this process at evaluation number `at` (never: 0), as a scheduler does."""
    graded: list[int] = []

    def grade(samples: Sequence[Sample]) -> list[Measured]:
        graded.append(len(samples))
        if at and len(graded) == at + 1:  # the first time is with empty answers, to see which keys there are
            signal.raise_signal(signal.SIGTERM)
        right = np.array([[float(sample.prediction == sample.reference)] for sample in samples])
        return [Measured("right", 1, right, mean_of_rows, yes_no=True)]

    return GeneratedExam(
        grade=grade,
        applies=lambda row: "intent" in row.metadata,
        ask=lambda row: row.prompt,
        batch_size=8,
        settings={"metrics": ["right"]},
    )


def workspace_at(root: Path) -> Workspace:
    """The workspace of a project named "made"."""
    return Workspace(root, "made")


def rows(count: int, *, first: int = 0) -> list[Example]:
    """Rows of LENGTH tokens with 3 to 12 trained ones, so that the weighting by trained tokens matters."""
    generator = torch.Generator().manual_seed(first + 1)
    found = []
    for number in range(first, first + count):
        ids = torch.randint(0, 250, (LENGTH,), generator=generator).tolist()
        trained = 3 + number % 10
        labels = (IGNORED,) * (LENGTH - trained) + tuple(ids[-trained:])
        found.append(Example(tuple(ids), labels, f"row:{number}"))
    return found
