"""A workspace with a small sealed data artifact, made by hand."""

from __future__ import annotations

from pathlib import Path

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Artifact, Output, Workspace, begin

LABELS = ("fee", "card", "loan")


def conversations(count: int, start: int = 0) -> list[Conversation]:
    """Questions whose first word gives the answer away: a tiny model can learn them."""
    found = []
    for number in range(start, start + count):
        label = LABELS[number % 3]
        turns = (Message(role="user", content=f"{label} {number}"), Message(role="assistant", content=label))
        found.append(Conversation(id=f"made:{number}", messages=turns, metadata={"intent": label}))
    return found


def data_artifact(workspace: Workspace, rows: int = 24) -> Artifact:
    """train, validation and test splits of `rows`, 6 and 6 rows."""
    output = begin(workspace, "data", {"made": rows}, ())
    assert isinstance(output, Output)
    for split, part in (
        ("train", conversations(rows)),
        ("validation", conversations(6, 100)),
        ("test", conversations(6, 200)),
    ):
        files.write_jsonl(output.path / f"{split}.jsonl", [conversation.to_row() for conversation in part])
    return output.seal()


def workspace_at(root: Path) -> Workspace:
    """The workspace of a project named "made"."""
    return Workspace(root, "made")
