# SPDX-License-Identifier: Apache-2.0
"""The built-in bank data: what the files promise, and that the generator still writes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "src" / "tunewright" / "builtin_data"
SCRIPT = ROOT / "tools" / "build_builtin_data.py"


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import build_builtin_data
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return build_builtin_data


@pytest.fixture(scope="module")
def lines(generator):
    """(kind, bytes) of every line as shipped; kind is None for a clean row."""
    shipped = (DATA / "bank.jsonl").read_bytes().split(b"\n")
    assert shipped.pop() == b""
    built = generator.build_lines()
    assert len(shipped) == len(built)
    return [(line.kind, data) for line, data in zip(built, shipped, strict=True)]


@pytest.fixture(scope="module")
def clean(lines):
    return [json.loads(data.decode("utf-8")) for kind, data in lines if kind is None]


@pytest.fixture(scope="module")
def labels():
    intents = json.loads((DATA / "intents.json").read_text(encoding="utf-8"))
    assert all(set(item) == {"intent", "en", "zh"} and all(item.values()) for item in intents)
    return [item["intent"] for item in intents]


def test_generator_check_passes():
    command = [sys.executable, str(SCRIPT), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_generator_check_sees_a_difference(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generator, "OUT", tmp_path)
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    with (tmp_path / "bank.jsonl").open("ab") as file:
        file.write(b"\n")
    assert generator.main(["--check"]) == 1
    assert "bank.jsonl differs" in capsys.readouterr().err


def test_size_and_counts(clean, labels):
    assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) < 1_000_000
    assert len(clean) >= 860
    assert len(labels) >= 20
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+){0,2}", label) for label in labels)


def test_every_intent_has_enough_rows(clean, labels):
    count = Counter((row["metadata"]["task"], row["metadata"]["intent"]) for row in clean)
    assert all(count["intent", label] >= 30 for label in labels)
    assert all(count["answer", label] >= 6 for label in labels)
    assert {intent for _, intent in count} == set(labels)


def test_no_user_question_twice(clean):
    turns = [turn for row in clean for turn in row["conversation"] if turn["role"] == "user"]
    questions = Counter(turn["content"].casefold().strip() for turn in turns)
    assert [question for question, times in questions.items() if times > 1] == []


def test_clean_rows_have_the_promised_form(clean, labels):
    for row in clean:
        turns = row["conversation"]
        meta = row["metadata"]
        assert set(meta) == {"task", "intent", "lang", "customer"}
        assert re.fullmatch(r"c\d{4}", meta["customer"])
        assert meta["intent"] in labels
        assert all(turn["content"].strip() == turn["content"] != "" for turn in turns)
        roles = [turn["role"] for turn in turns]
        if meta["task"] == "answer":
            assert roles.pop(0) == "system"
        assert len(roles) in (2, 4)
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assistants = [turn for turn in turns if turn["role"] == "assistant"]
        if meta["task"] == "intent":
            assert assistants[-1] == {"role": "assistant", "content": meta["intent"]}
            assert all(turn["train"] is False for turn in assistants[:-1])
        else:
            assert all("train" not in turn for turn in assistants)
            for turn in assistants:
                if meta["lang"] == "en":
                    assert len(turn["content"].split()) <= 22, turn["content"]
                else:
                    assert len(turn["content"]) <= 28, turn["content"]


def test_language_of_the_text_is_the_language_named(clean):
    for row in clean:
        for turn in row["conversation"]:
            if turn["role"] == "user":
                has_han = re.search("[\u4e00-\u9fff]", turn["content"]) is not None
                assert has_han == (row["metadata"]["lang"] == "zh"), turn["content"]


def test_languages_are_balanced(clean):
    count = Counter(row["metadata"]["lang"] for row in clean)
    assert set(count) == {"en", "zh"}
    assert min(count.values()) >= 0.4 * len(clean)


def test_multi_turn_rows(clean):
    count = Counter(
        row["metadata"]["task"] for row in clean if [turn["role"] for turn in row["conversation"]].count("user") == 2
    )
    assert count["intent"] >= 35
    assert count["answer"] >= 18


def test_customers(clean):
    rows = Counter(row["metadata"]["customer"] for row in clean)
    pairs = {(row["metadata"]["customer"], row["metadata"]["lang"]) for row in clean}
    assert len(pairs) == len(rows)
    assert set(rows.values()) == {1, 2, 3, 4}
    assert 550 <= len(rows) <= 650


def test_readme_counts_equal_the_list(generator, lines, clean):
    text = (DATA / "README.md").read_text(encoding="utf-8")
    rows_of_table = re.findall(r"^\| (\w+) \| (\d+) \| .* \| ([\d, ]+) \|$", text, re.M)
    table = {kind: (int(count), at) for kind, count, at in rows_of_table}
    where: dict[str, list[int]] = {}
    for number, (kind, _) in enumerate(lines, start=1):
        if kind is not None:
            where.setdefault(kind, []).append(number)
    assert list(table) == list(generator.KINDS)
    assert table == {kind: (len(at), ", ".join(map(str, at))) for kind, at in where.items()}
    rows = sum(1 for kind, data in lines if kind is not None and data.strip())
    assert 38 <= rows <= 45
    assert f"{len(clean)} clean conversations and {rows} broken rows" in text


def test_broken_rows_are_broken_as_named(lines):
    """The kinds that a plain reader stumbles over, and that duplicates are duplicates of earlier rows."""
    unreadable = {"bom", "invalid_utf8", "trailing_comma", "truncated", "comment", "blank"}
    seen: set[bytes] = set()
    for kind, data in lines:
        if kind in unreadable:
            with pytest.raises(ValueError):
                json.loads(data.decode("utf-8"))
        elif kind == "exact_duplicate":
            assert data in seen
        else:
            assert isinstance(json.loads(data.decode("utf-8")), dict)
            assert data not in seen
            seen.add(data)
        assert data.endswith(b"\r") == (kind == "crlf")
        assert (b"NaN" in data) == (kind == "nan_metadata")
        assert (b"\\ud" in data) == (kind == "lone_surrogate")
