"""Where a server keeps what is no artifact: below `runs/<project>/served/`."""

from __future__ import annotations

from pathlib import Path

from tunewright.core.runs import Workspace


def served_folder(workspace: Workspace) -> Path:
    """All of it."""
    return workspace.root / "runs" / workspace.project / "served"


def cache_folder(workspace: Workspace) -> Path:
    """Kept answers."""
    return served_folder(workspace) / "answers"


def questions_file(workspace: Workspace) -> Path:
    """The log of questions."""
    return served_folder(workspace) / "questions.jsonl"
