"""`init`: every kind gives a folder that validates, with rows that pass the rules, and overwrites nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright import project, scaffold
from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_every_kind_is_whole(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / kind
    written = scaffold.create(kind, target)
    names = {path.relative_to(target).as_posix() for path in written}
    assert names == {"README.md", "data/train.jsonl", "project.yaml"}
    assert written[-1].name == "project.yaml"
    config = project.load(target / "project.yaml", [])
    assert all((target / source).is_file() for source in config.data.sources)
    assert "data/train.jsonl" in (target / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_rows_are_rows_that_need_no_repair(kind: str, tmp_path: Path) -> None:
    scaffold.create(kind, tmp_path)
    config = project.load(tmp_path / "project.yaml", [])
    lines = (tmp_path / "data/train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    conversations = [Conversation.from_row({"id": str(index), **row}) for index, row in enumerate(rows)]
    assert len(rows) == 12
    assert {row["metadata"]["lang"] for row in rows} == {"zh", "en"}
    assert len({conversation.messages for conversation in conversations}) == 12
    for conversation in conversations:
        roles = [message.role for message in conversation.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message.content and message.content == message.content.strip() for message in conversation.messages)
    group = config.data.split.group_by
    if group:
        assert all(row["metadata"].get(group.removeprefix("metadata.")) for row in rows)


def test_finance_labels_are_the_answers(tmp_path: Path) -> None:
    scaffold.create("finance", tmp_path)
    for line in (tmp_path / "data/train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert row["conversation"][-1]["content"] == row["metadata"]["intent"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"not empty \(it holds project.yaml\)"):
        scaffold.create("finance", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["project.yaml"]
    assert (tmp_path / "project.yaml").read_text() == "mine"
    with pytest.raises(ConfigError, match="this is a file"):
        scaffold.create("blank", tmp_path / "project.yaml")


def test_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'finance'"):
        scaffold.create("finnance", tmp_path / "x")
    with pytest.raises(ConfigError, match="known: finance, education, medical, blank"):
        scaffold.create("zzz", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_folders_of_templates_are_the_kinds() -> None:
    folders = {path.name for path in Path(scaffold.__file__).with_name("init_templates").iterdir() if path.is_dir()}
    assert folders == set(scaffold.KINDS)
