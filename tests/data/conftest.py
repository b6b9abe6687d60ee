"""Short ways into the data room: bytes to outcomes, rows to a sealed artifact."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tunewright.core.runs import Workspace
from tunewright.data import stage
from tunewright.data.config import DataConfig
from tunewright.data.duplicates.exact import Seen
from tunewright.data.prepare import Preparation, Selection, rules_of
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.tokens.check import TokenCheck
from tunewright.models import tiny
from tunewright.models.config import ModelConfig
from tunewright.models.source import cache_directory
from tunewright.models.tokens import ChatTokenizer


class Gate:
    """Reads a file with the default rules and gives an outcome a row."""

    def __init__(self, folder, tokenizer) -> None:
        self.folder, self.tokenizer = folder, tokenizer

    def rows(self, data, *, max_chars=1_000_000, wanted="auto"):
        path = self.folder / "input.jsonl"
        path.write_bytes(data)
        layout = inspect(path, max_chars=max_chars, wanted=wanted)
        return list(read_rows(path, source="input.jsonl", layout=layout, max_chars=max_chars))

    def outcomes(self, data, *, max_chars=1_000_000, max_length=10**6, **settings):
        check = TokenCheck(self.tokenizer, max_length=max_length) if self.tokenizer else None
        config = DataConfig(sources=("input.jsonl",))
        preparation = Preparation(rules_of(config.rules), tokens=check, selection=Selection(**settings))
        seen = Seen()
        return [
            seen.settle(row.id, row.place, preparation.prepare(row), pool="shared")
            for row in self.rows(data, max_chars=max_chars)
        ]

    def one(self, *turns, **row):
        """The outcome of a single row with these turns, (role, content) each or dicts."""
        named = [turn if isinstance(turn, dict) else {"role": turn[0], "content": turn[1]} for turn in turns]
        (outcome,) = self.outcomes(json.dumps({"conversation": named, **row}, ensure_ascii=False).encode())
        return outcome


@pytest.fixture(scope="session")
def byte_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(folder)
    return ChatTokenizer.load(folder)


@pytest.fixture
def read_file(tmp_path):
    """(layout, rows) of bytes in a file of this name."""

    def rows(data, name="input.jsonl", **settings):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        layout = inspect(path, max_chars=settings.setdefault("max_chars", 10_000))
        return layout, list(read_rows(path, source=name, layout=layout, **settings))

    return rows


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path, None)


@pytest.fixture
def proven_gate(tmp_path, byte_tokenizer):
    return Gate(tmp_path, byte_tokenizer)


def run_stage(folder, files=None, *, seed=7, max_length=None, **config):
    """Runs the stage on a project in `folder`; returns (artifact, report)."""
    tiny.folder(cache_directory())
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else rows_bytes(data))
    model = ModelConfig(path="builtin:tiny", max_length=max_length)
    artifact = stage.run(Workspace(folder, "p"), DataConfig.model_validate(config), model=model, seed=seed)
    return artifact, artifact.json("report.json")


@pytest.fixture
def run_data(tmp_path):
    """`run_stage` in the test's own folder, or in `root`."""
    return lambda files=None, *, root=None, **settings: run_stage(root or tmp_path, files, **settings)


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    """(artifact, report) of the built-in data, split by customer."""
    folder = tmp_path_factory.mktemp("bank")
    return run_stage(folder, sources=["builtin:bank"], split={"group_by": "metadata.customer"})


def rows_bytes(rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


@pytest.fixture
def bank_like():
    """n rows with distinct questions, three rows a customer."""

    def rows(n):
        return [
            {
                "conversation": [
                    {"role": "user", "content": f"question number {i}"},
                    {"role": "assistant", "content": f"answer {i % 4}"},
                ],
                "metadata": {"intent": f"intent_{i % 4}", "customer": f"c{i // 3}"},
            }
            for i in range(n)
        ]

    return rows


def check_books(report) -> None:
    """The accounting that must hold for every report."""
    assert report["kept"] + report["repaired"] + report["quarantined"] + report["filtered"] == report["read"]
    totals = Counter()
    for source in report["sources"]:
        parts = {action: source[action] for action in ("kept", "repaired", "quarantined", "filtered")}
        assert sum(parts.values()) == source["read"]
        totals.update(parts, read=source["read"])
    assert all(totals[name] == report[name] for name in totals)
    assert report["kept"] + report["repaired"] == sum(report["splits"].values()) + report["left_out"]


@pytest.fixture
def books():
    return check_books


@pytest.fixture
def found():
    """{code: (action, reason)} of an outcome."""
    return lambda outcome: {f.code: (f.action, f.reason) for f in outcome.findings}
