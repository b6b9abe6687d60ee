"""The token cache gives what tokenizing gives, and is never trusted when damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Workspace
from tunewright.models import tiny, token_cache
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example

ROWS = [
    Conversation(
        id=f"行 {number}\n\ud800" if number == 3 else f"row:{number}",
        messages=(
            Message(role="user", content="q" * number),
            Message(role="assistant", content="first", train=number % 2 == 0),
            Message(role="user", content="再见 <|im_end|>"),
            Message(role="assistant", content=f"answer {number}"),
        ),
    )
    for number in range(60)
]


class Made:
    """A split on disk with its cache; counts how often it was tokenized."""

    def __init__(self, root: Path, *, max_length: int = 90) -> None:
        self.split = root / "train.jsonl"
        self.split.write_text(json.dumps([row.to_row() for row in ROWS]))
        self.folder = root / "model"
        self.folder.mkdir(exist_ok=True)
        tiny.write_tokenizer(self.folder)
        self.root, self.max_length, self.times = root, max_length, 0

    def cache(self) -> token_cache.TokenCache:
        tokenizer = ChatTokenizer.load(self.folder)
        workspace = Workspace(self.root, "p")
        return token_cache.token_cache(workspace, tokenizer, self.folder, max_length=self.max_length, label="train")

    def fresh(self) -> list[Example]:
        self.times += 1
        tokenizer = ChatTokenizer.load(self.folder)
        return [e for row in ROWS for e in tokenizer.examples(row, max_length=self.max_length)]

    def examples(self) -> list[Example]:
        return self.cache().examples(self.split, self.fresh)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_the_second_time_is_read_and_is_the_same(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    first, said = made.examples(), capsys.readouterr().err
    again, said_again = made.examples(), capsys.readouterr().err
    assert made.times == 1
    assert again == first == made.fresh()
    assert any(example.cut_prompt_tokens for example in first)
    assert max(sum(label == IGNORED for label in example.labels[-20:]) for example in first) > 0
    assert said == ""
    (path,) = made.cache().folder.glob("*")
    assert path.parent == made.root / "runs" / "p" / ".cache" / "tokens"
    assert said_again == f"train: 60 rows tokenized before, read from {path}\n"


def test_sequences_with_many_trained_parts_and_none_come_back(made: Made) -> None:
    odd = [
        Example((5, 6, 7, 8, 9), (5, IGNORED, 7, 8, IGNORED), "a"),
        Example((5, 6), (IGNORED, IGNORED), "b", 3),
        Example((5, 6), (5, 6), "c"),
        Example((), (), "d"),
        Example((70000, 2**31 - 1), (IGNORED, 2**31 - 1), "e"),
    ]
    cache = made.cache()
    assert cache.examples(made.split, lambda: odd) == odd
    assert cache.examples(made.split, list) == odd
    empty = made.root / "empty.jsonl"
    empty.write_text("")
    assert cache.examples(empty, list) == cache.examples(empty, lambda: odd) == []


@pytest.mark.parametrize("fault", ["cut", "flipped", "empty", "other", "pickle", "lengths"])
def test_a_damaged_file_is_said_and_made_again(made: Made, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = made.examples()
    (path,) = made.cache().folder.glob("*")
    data = path.read_bytes()
    middle = data.index(b"\x93NUMPY") + 300
    damage = {"cut": data[:-50], "empty": b"", "other": b"no archive"}
    damage["flipped"] = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    if fault in damage:
        path.write_bytes(damage[fault])
    else:
        stored = dict(np.load(path))
        stored["sizes"] = np.array([object()]) if fault == "pickle" else stored["sizes"][:-1]
        with path.open("wb") as handle:
            np.savez(handle, **stored)
    capsys.readouterr()
    assert made.examples() == first
    assert made.times == 2
    assert "cannot be read" in capsys.readouterr().err
    assert made.examples() == first
    assert made.times == 2
    assert "tokenized before" in capsys.readouterr().err


def test_the_key_is_content_tokenizer_template_and_limit(made: Made) -> None:
    keys = {made.cache().key(made.split)}
    made.max_length = 91
    keys.add(made.cache().key(made.split))
    made.split.write_text(made.split.read_text() + " ")
    keys.add(made.cache().key(made.split))
    settings = made.folder / "tokenizer_config.json"
    changed = json.loads(settings.read_text())
    for update in (
        {"chat_template": tiny.TEMPLATE + " "},
        {"add_bos_token": True},
        {"eos_token": "<|endoftext|>"},
        {"unk_token": "x"},
    ):
        changed |= update
        settings.write_text(json.dumps(changed))
        keys.add(made.cache().key(made.split))
    document = json.loads((made.folder / "tokenizer.json").read_text())
    (made.folder / "tokenizer.json").write_text(json.dumps(document, indent=3))
    keys.add(made.cache().key(made.split))
    assert len(keys) == 8


def test_a_template_with_a_date_is_read_on_that_day_only(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made.folder / "tokenizer_config.json"
    template = "{{ strftime_now('%Y') }}" + tiny.TEMPLATE
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": template}))
    before = made.cache().key(made.split)

    class Tomorrow:
        @staticmethod
        def today() -> Tomorrow:
            return Tomorrow()

        @staticmethod
        def isoformat() -> str:
            return "2999-01-01"

    monkeypatch.setattr(token_cache, "date", Tomorrow)
    assert made.cache().key(made.split) != before


def test_a_kill_while_writing_leaves_nothing_that_is_read(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "fsync_handle", killed)
    with pytest.raises(KeyboardInterrupt):
        made.examples()
    assert list(made.cache().folder.glob("*")) == []


def test_old_files_go(made: Made) -> None:
    cache = made.cache()
    for number in range(30):
        split = made.root / f"{number}.jsonl"
        split.write_text(str(number))
        cache.examples(split, list)
        os.utime(cache.folder / f"{cache.key(split)}.npz", (number, number))
    kept = {path.stem for path in cache.folder.glob("*.npz")}
    assert len(kept) == 24
    assert {cache.key(made.root / f"{number}.jsonl") for number in range(6, 30)} == kept
