"""Stored answers are personal data: who looks for a row, or purges it, is told of their files."""

from __future__ import annotations

from pathlib import Path

from tunewright.core import files
from tunewright.core.runs import Output, Workspace, begin
from tunewright.evaluate.systems.cache import answer_cache
from tunewright.evaluate.systems.protocol import Answer
from tunewright.lineage.find import find
from tunewright.lineage.purge import purge


def test_find_and_purge_name_the_files_of_answers(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "demo")
    output = begin(workspace, "data", {}, ())
    assert isinstance(output, Output)
    turns = [{"role": "user", "content": "I am Zhang Wei"}, {"role": "assistant", "content": "Hello, Zhang Wei."}]
    kept = [{"role": "user", "content": "A fee?"}, {"role": "assistant", "content": "No."}]
    rows = [{"id": f"raw/a.jsonl:{n + 1}", "conversation": c, "metadata": {}} for n, c in enumerate((turns, kept))]
    for split in ("train", "validation", "test"):
        files.write_jsonl(output.path / f"{split}.jsonl", rows if split == "train" else [])
    files.write_json(output.path / "report.json", {})
    output.seal()
    book = answer_cache(workspace, on=True).book({"system": "x"})
    book.keep_answer("k", "raw/b.jsonl:9", Answer("As Zhang Wei told me.", 5, "stop"))
    assert book.path is not None
    place = workspace.relative(book.path)
    assert place.startswith("runs/demo/.cache/answers/")
    assert find(workspace, (), "Zhang Wei").caches == (place,), "the answer is to another row"
    assert find(workspace, (), "Li Na").is_empty
    assert f"rm {place}" in purge(workspace, (), "Zhang Wei").commands
    assert not list(tmp_path.rglob("*.tmp")) and answer_cache(workspace, on=False).folder is None
