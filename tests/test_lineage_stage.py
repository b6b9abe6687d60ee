"""Find and purge on artifacts that the data stage itself made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.core.erasures import Erasures
from tunewright.core.runs import Workspace
from tunewright.data import stage
from tunewright.data.config import DataConfig
from tunewright.data.prepare import Preparation, Selection, rules_of
from tunewright.data.sources import locate_sources
from tunewright.lineage.find import find
from tunewright.lineage.purge import purge
from tunewright.lineage.rows import SourceFile, source_files
from tunewright.models import tiny
from tunewright.models.config import ModelConfig
from tunewright.models.source import cache_directory

PHONE = "13800138000"
ROWS = 40


@pytest.fixture(scope="module")
def config() -> DataConfig:
    rules = [{"name": "roles"}, {"name": "text"}, {"name": "redact", "mapping": True}]
    return DataConfig.model_validate({"sources": ["a.jsonl"], "rules": rules})


@pytest.fixture
def workspace(tmp_path: Path, config: DataConfig) -> Workspace:
    tiny.folder(cache_directory())
    rows = [(f"Question number {i} of mine", f"Answer number {i}") for i in range(ROWS)]
    rows[11] = (f"Zhang  Wei here, my number is {PHONE}, where is the card?", "On its way to you.")
    rows[30] = rows[11]
    lines = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in rows]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    workspace = Workspace(tmp_path, "p")
    stage.run(workspace, config, model=ModelConfig(path="builtin:tiny"), seed=7)
    return workspace


def sources_of(workspace: Workspace) -> list[SourceFile]:
    located = locate_sources(workspace.root, (("shared", ("a.jsonl",)),), max_chars=10_000, encoding="auto")
    return source_files(located, max_chars=10_000)


def test_a_masked_number_is_followed_into_the_artifact(workspace: Workspace) -> None:
    found = find(workspace, sources_of(workspace), PHONE)
    assert [hit.id for hit in found.sources] == ["a.jsonl:12", "a.jsonl:31"]
    (holder,) = found.artifacts
    assert {hit.id for hit in holder.hits} == {"a.jsonl:12", "a.jsonl:31"}
    assert {"pii_mapping.jsonl", "quarantine.jsonl"} < {hit.place for hit in holder.hits}


def test_purge_of_a_real_artifact(workspace: Workspace) -> None:
    old = workspace.newest("data")
    result = purge(workspace, sources_of(workspace), "a.jsonl:12")
    new = workspace.newest("data")
    assert workspace.relative(new.path) == result.artifact
    for folder in (new.path, workspace.root / "runs" / "p" / "erased.json"):
        for path in folder.rglob("*") if folder.is_dir() else [folder]:
            text = path.read_text(errors="replace")
            assert PHONE not in text, path
            assert "where is the card" not in text, path
    kept = sum(len(new.jsonl(f"{name}.jsonl")) for name in ("train", "validation", "test"))
    assert kept == ROWS - 2
    assert new.json("report.json")["splits"] == {
        name: len(new.jsonl(f"{name}.jsonl")) for name in ("train", "validation", "test")
    }
    assert new.json("report.json")["read"] == old.json("report.json")["read"] == ROWS


def test_the_stage_would_leave_the_row_out(workspace: Workspace, config: DataConfig) -> None:
    """The digests of the list are those that a row is checked against while it is prepared."""
    purge(workspace, sources_of(workspace), PHONE)
    erased = Erasures.load(workspace).digests
    preparation = Preparation(rules_of(config.rules), selection=Selection(erased=erased))
    outcomes = {row.id: preparation.prepare(row) for source in sources_of(workspace) for row in source.rows()}
    out = [row_id for row_id, outcome in outcomes.items() if outcome.usable is None]
    assert out == ["a.jsonl:12", "a.jsonl:31"]
    assert {finding.code for row_id in out for finding in outcomes[row_id].findings} >= {"ERASED"}
    assert all(outcome.usable for row_id, outcome in outcomes.items() if row_id not in out)
