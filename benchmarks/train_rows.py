"""Rows of the training benchmark: public data, tokenized once for all systems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunewright.core.chat import Conversation, Message
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.tokens import IGNORED, ChatTokenizer

SYSTEM = "Name the intent of the bank customer."
"""As in examples/finance/banking77.yaml."""
LONGEST = 1024


def mixed_rows(data: Path, count: int) -> list[dict[str, Any]]:
    """Half banking77 (train, in order), the rest dialogues, so that every batch has rows of many lengths."""
    half = count // 2
    pairs = zip(_banking(data, half), _dialogues(data, count - half), strict=True)
    return [row for pair in pairs for row in pair]


def uniform_rows(data: Path, count: int) -> list[dict[str, Any]]:
    """banking77 alone: rows of about one length."""
    return _banking(data, count)


def _banking(data: Path, count: int) -> list[dict[str, Any]]:
    rows = _read(data / "banking77" / "train.jsonl")[:count]
    talks = [[("system", SYSTEM), *((turn["role"], turn["content"]) for turn in row["conversation"])] for row in rows]
    return [_row(f"b{number}", talk) for number, talk in enumerate(talks)]


def _dialogues(data: Path, count: int) -> list[dict[str, Any]]:
    """Dialogues of both sets in turn."""
    sets = [_talks(data / "crosswoz_zh" / "train.jsonl"), _talks(data / "messy_irc" / "test.jsonl")]
    talks = [talk for pair in zip(*sets, strict=False) for talk in pair][:count]
    return [_row(f"t{number}", talk) for number, talk in enumerate(talks)]


def _talks(path: Path) -> list[list[tuple[str, str]]]:
    """Turns that alternate, the user's first: what one side says in several messages is one turn."""
    found = []
    for row in _read(path):
        turns: list[tuple[str, str]] = []
        for turn in row["conversation"]:
            role, text = turn["role"], turn["content"]
            if turns and turns[-1][0] == role:
                turns[-1] = (role, f"{turns[-1][1]}\n{text}")
            elif role in ("user", "assistant"):
                turns.append((role, text))
        if len(turns) > 1 and turns[0][0] == "user":
            found.append(turns if turns[-1][0] == "assistant" else turns[:-1])
    return found


def _row(name: str, turns: list[tuple[str, str]]) -> dict[str, Any]:
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    example = _tokenizer().examples(Conversation(id=name, messages=messages), max_length=LONGEST)[0]
    labels = [label if label != IGNORED else -100 for label in example.labels]
    return {"input_ids": list(example.input_ids), "labels": labels}


def _tokenizer(known: list[ChatTokenizer] = []) -> ChatTokenizer:  # noqa: B006 (read once a process)
    if not known:
        known.append(ChatTokenizer.load(source.resolve(ModelConfig(), Path())))
    return known[0]


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
