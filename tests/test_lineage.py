"""Finding a row in sources, artifacts, caches and models; purging it without leaving its text behind."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tunewright.core import files, runs
from tunewright.core.erasures import Erasures
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.data.sources import locate_sources
from tunewright.lineage import purge as purge_module
from tunewright.lineage.find import find
from tunewright.lineage.purge import purge
from tunewright.lineage.query import Query, normal
from tunewright.lineage.rows import source_files
from tunewright.rating.config import RateConfig
from tunewright.rating.store import Store
from tunewright.rating.study import Item, Pool, Turn

PHONE = "138-0013-8000"
NAME = "Zhang Wei"
SOURCE = [
    ("Where is my card?", "On its way.", "c1"),
    (f"I am {NAME}, call me on {PHONE} about the transfer.", "I will call you, sir.", "c2"),
    ("How high is the fee for a transfer abroad?", "Ten euros.", "c3"),
    (f"I am {NAME}, call me on {PHONE} about the transfer.", "I will call you, sir.", "c9"),
    ("What are your opening hours on Sunday?", "We are closed.", "c5"),
    ("My PIN does not work any more.", "Please ask for a new one.", "c6"),
]
BROKEN = '{"messages": [{"role": "user", "content": "\\u5f20\\u4f1f wrote this'


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def sealed_row(number: int, *, row_id: str = "", masked: bool = True, **metadata: object) -> dict[str, object]:
    question, answer, customer = SOURCE[number - 1]
    question = question.replace(PHONE, "<PHONE_1>") if masked else question
    return {
        "id": row_id or f"raw/a.jsonl:{number}",
        "conversation": turns(question, answer),
        "metadata": {"customer": customer, **metadata},
    }


@dataclass
class Project:
    workspace: Workspace
    data: Artifact

    def sources(self):
        found = locate_sources(self.workspace.root, (("shared", ("raw/a.jsonl",)),), max_chars=10_000, encoding="auto")
        return source_files(found, max_chars=10_000)

    def find(self, word, **options):
        return find(self.workspace, self.sources(), word, **options)

    def purge(self, word, **options):
        return purge(self.workspace, self.sources(), word, **options)

    def path(self, name):
        return self.workspace.root / name


def seal(workspace: Workspace, stage: str, contents: dict[str, object], inputs, **settings: object) -> Artifact:
    output = begin(workspace, stage, settings, tuple(inputs))
    assert isinstance(output, Output)
    for name, content in contents.items():
        path = output.path / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".jsonl"):
            files.write_jsonl(path, content)
        elif name.endswith(".json"):
            files.write_json(path, content)
        else:
            files.write_text(path, content)
        if name.startswith("pii"):
            path.chmod(0o600)
    output.facts |= {"read": 7, "splits": {"train": 4, "validation": 1, "test": 1}}
    return output.seal()


def data_files(*, masked: bool = True) -> dict[str, object]:
    """What the stage would make of the source: row 4 is a duplicate, the broken line is quarantined."""
    variant = sealed_row(2, row_id="raw/a.jsonl:2+synonyms1", augmented={"parent": "raw/a.jsonl:2"}, masked=masked)
    variant["conversation"] = turns("I was told of a payment.", "I will ring you.")
    question = SOURCE[3][0]
    raw = json.dumps({"messages": turns(question, SOURCE[3][1]), "metadata": {"customer": "c9"}})
    bad = {"source": "raw/a.jsonl", "byte_offset": 0, "other_codes": []}
    return {
        "train.jsonl": [sealed_row(1), sealed_row(2, masked=masked), variant, sealed_row(6, row_id="raw/a.jsonl:6~1")],
        "validation.jsonl": [sealed_row(3)],
        "test.jsonl": [sealed_row(5)],
        "quarantine.jsonl": [
            {"id": "raw/a.jsonl:4", "line": 4, "code": "DUPLICATE", "reason": "the same messages as raw/a.jsonl:2",
             "excerpt": SOURCE[3][1], "raw": raw, **bad},
            {"id": "raw/a.jsonl:7", "line": 7, "code": "JSON_SYNTAX", "reason": "cut", "excerpt": "", "raw": BROKEN,
             **bad},
        ],
        "pii_mapping.jsonl": [
            {"id": "raw/a.jsonl:2", "kind": "phone", "placeholder": "<PHONE_1>", "original": PHONE},
            {"id": "raw/a.jsonl:5", "kind": "phone", "placeholder": "<PHONE_1>", "original": "+49 30 1234567"},
        ],
        "report.json": {
            "read": 7,
            "splits": {"train": 4, "validation": 1, "test": 1},
            "by_code": {
                "PII": {"count": 1, "example": {"source": "raw/a.jsonl", "line": 2, "byte_offset": 9, "reason":
                        "masked 1 phone in turn 1", "excerpt": f"I am {NAME}, call me"}},
                "ROLE_ALIAS": {"count": 2, "example": {"source": "raw/a.jsonl", "line": 6, "byte_offset": 30,
                               "reason": "role", "excerpt": "My PIN"}},
            },
            "leakage": {"near": {"rows": 1, "examples": [
                {"id": "raw/a.jsonl:5", "excerpt": "What are", "train_id": "raw/a.jsonl:2", "train_excerpt": "I am"}
            ]}},
            "words": ["transfer", f"i am {NAME.lower()}, call", "me on <PHONE_1> about the"],
        },
        "report.html": f"<p>I am <b>Zhang</b> Wei, call me on &lt;PHONE_1&gt; about</p><p>{NAME}</p>",
    }  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Project:
    workspace = Workspace(tmp_path, "p")
    (tmp_path / "raw").mkdir()
    lines = [json.dumps({"messages": turns(q, a), "metadata": {"customer": c}}) for q, a, c in SOURCE]
    (tmp_path / "raw" / "a.jsonl").write_text("\n".join([*lines, BROKEN]) + "\n")
    data = seal(workspace, "data", data_files(), [workspace.source(tmp_path / "raw" / "a.jsonl")], seed=7)
    return Project(workspace, data)


def later_stages(project: Project, data: Artifact, seed: int = 7) -> dict[str, Artifact]:
    """train, evaluate, quantize, serve and report, chained as the stages chain them."""
    of = project.workspace.reference
    train = seal(project.workspace, "train", {"adapter/weights.bin": "w"}, [of(data)], seed=seed)
    test = data.jsonl("test.jsonl")[0]
    sample = {"id": test["id"], "prompt": "x", "reference": "y", "base": "", "tuned": f"{NAME} again", "metadata": {}}
    evaluate = seal(project.workspace, "evaluate", {"samples.jsonl": [sample]}, [of(data), of(train)], seed=seed)
    quantize = seal(project.workspace, "quantize", {"table.json": []}, [of(data), of(train)], seed=seed)
    serve = seal(project.workspace, "serve", {"measurement.json": {}}, [of(data), of(train), of(quantize)], seed=seed)
    every = (data, train, evaluate, quantize, serve)
    page = {"report.html": "<p>Please ask for a new one.</p>"}
    report = seal(project.workspace, "report", page, [of(one) for one in every], seed=seed)
    return {"train": train, "evaluate": evaluate, "quantize": quantize, "serve": serve, "report": report}


def lines_of(holder) -> set[tuple[str, int]]:
    return {(hit.place, hit.line) for hit in holder.hits}


def holder_of(result, path):
    return next(holder for holder in result.artifacts if holder.path == path)


def test_by_id_with_all_that_is_the_same_row(project: Project) -> None:
    """The row itself, its variant, its masked mapping, and the duplicate line with the same messages."""
    found = project.find("raw/a.jsonl:2")
    assert found.matched_by == "id"
    assert [(hit.id, hit.why) for hit in found.sources] == [
        ("raw/a.jsonl:2", ("id",)),
        ("raw/a.jsonl:4", ("same messages",)),
    ]
    holder = holder_of(found, "runs/p/data/0001")
    assert lines_of(holder) == {
        ("train.jsonl", 2),
        ("train.jsonl", 3),
        ("pii_mapping.jsonl", 1),
        ("quarantine.jsonl", 1),
    }
    assert next(hit for hit in holder.hits if hit.line == 3).why == ("variant of raw/a.jsonl:2",)
    assert holder.splits == ("train", "quarantine", "pii_mapping")
    assert set(holder.pages) == {"report.html", "report.json"}


def test_a_word_that_could_be_both_is_said_to_be_taken_as_one(project: Project) -> None:
    """`12:30` has the form of an id and is none here; an id that a row says in its text is still an id."""
    told = SOURCE[0][0].replace("card", "card of 12:30")
    said = json.dumps({"messages": turns(told, "Quoted from raw/a.jsonl:3.")})
    project.path("raw/a.jsonl").open("a").write(said + "\n")
    as_id = project.find("raw/a.jsonl:3")
    assert as_id.matched_by == "id"
    assert as_id.notes[0].startswith("'raw/a.jsonl:3' is the id of a row here and was taken as one; --text looks")
    as_text = project.find("raw/a.jsonl:3", kind="text")
    assert [hit.id for hit in as_text.sources] == ["raw/a.jsonl:8"]
    assert not any("--text" in note for note in as_text.notes)
    clock = project.find("12:30")
    assert (clock.matched_by, clock.notes[0]) == (
        "text",
        "no row has the id '12:30': it was looked for as a text",
    )
    assert [hit.id for hit in clock.sources] == ["raw/a.jsonl:8"]
    assert project.find("raw/a.jsonl:99", kind="id").is_empty
    assert not any("looked for as" in note for note in project.find(NAME).notes)


def test_an_id_in_no_form_of_one_is_refused(project: Project) -> None:
    with pytest.raises(ConfigError, match="this is no row id") as caught:
        project.purge(NAME, kind="id")
    assert "--text" in caught.value.fix
    assert not project.path("runs/p/erased.json").exists()


def test_samples_of_a_row_are_the_row(project: Project) -> None:
    for word in ("raw/a.jsonl:6", "raw/a.jsonl:6~1"):
        found = project.find(word)
        assert lines_of(holder_of(found, "runs/p/data/0001")) == {("train.jsonl", 4)}
        assert [hit.id for hit in found.sources] == ["raw/a.jsonl:6"]


@pytest.mark.parametrize(
    "word", [NAME, "zhang  wei", "ＺＨＡＮＧ Wei", PHONE, "13800138000", "138 0013 8000", "(138) 0013-8000"]
)
def test_by_text_in_any_spelling(project: Project, word: str) -> None:
    """The sealed row is masked: it is found through its source and its mapping."""
    found = project.find(word)
    assert found.matched_by == "text"
    assert {hit.id for hit in found.sources} == {"raw/a.jsonl:2", "raw/a.jsonl:4"}
    assert found.sources[0].why == ("turn 1",)
    assert ("train.jsonl", 2) in lines_of(holder_of(found, "runs/p/data/0001"))
    assert ("pii_mapping.jsonl", 1) in lines_of(holder_of(found, "runs/p/data/0001"))
    assert "pii_mapping.jsonl" in found.text()


def test_a_masked_number_is_found_without_its_source(project: Project) -> None:
    """Through the mapping alone; without that too, nothing can find it, and the note says so."""
    project.path("raw/a.jsonl").write_text('{"messages": [{"role": "user", "content": "new"}]}\n')
    found = project.find(PHONE)
    assert ("train.jsonl", 2) in lines_of(holder_of(found, "runs/p/data/0001"))
    assert any("is not the file that runs/p/data/0001 was made from" in note for note in found.notes)
    assert any("text that a rule replaced" in note for note in found.notes)


def test_metadata_and_escapes_and_longer_numbers(project: Project) -> None:
    assert [hit.why for hit in project.find("c3").sources] == [("metadata.customer",)]
    broken = project.find("张伟")
    assert [hit.id for hit in broken.sources] == ["raw/a.jsonl:7"]
    assert lines_of(holder_of(broken, "runs/p/data/0001")) == {("quarantine.jsonl", 2)}
    assert project.find("3800138").is_empty  # part of a longer number is another number
    assert project.find("assistant").is_empty  # a role is no text
    with pytest.raises(ConfigError, match="match nearly every row"):
        project.find("a")


def test_nothing_found_is_said(project: Project) -> None:
    found = project.find("no such words anywhere")
    assert found.is_empty
    assert "nothing in this project holds such a row" in found.text()
    assert project.find("raw/a.jsonl:99", kind="id").is_empty


def test_what_derives_from_the_row(project: Project) -> None:
    later = later_stages(project, project.data)
    found = project.find("raw/a.jsonl:2")
    derives = {holder.path: holder.derives for holder in found.artifacts}
    assert derives["runs/p/train/0001"] == "its weights were trained with the row"
    for stage in ("evaluate", "quantize", "serve"):
        assert derives[f"runs/p/{stage}/0001"] == "its model was trained with the row (train split)"
    assert "runs/p/report/0001" in derives
    assert [holder.path for holder in found.models] == ["runs/p/train/0001", "runs/p/quantize/0001"]
    other = seal(project.workspace, "data", data_files(), [], seed=8)
    later_stages(project, other, seed=8)
    assert later["train"].path.name == "0001"
    assert "runs/p/train/0002" in {holder.path for holder in project.find(NAME).artifacts}


def test_a_test_row_is_measured_not_trained(project: Project) -> None:
    later_stages(project, project.data)
    derives = {holder.path: holder for holder in project.find("raw/a.jsonl:5").artifacts}
    assert "runs/p/train/0001" not in derives
    assert derives["runs/p/evaluate/0001"].derives == "its scores count the row"
    assert lines_of(derives["runs/p/evaluate/0001"]) == {("samples.jsonl", 1)}
    validation = project.find("raw/a.jsonl:3")
    assert holder_of(validation, "runs/p/train/0001").derives.startswith("the row was in its validation loss")


def test_a_model_that_repeats_the_text_is_found(project: Project) -> None:
    """The answer of a model in evaluate's samples, and a page that shows an answer of the row."""
    later_stages(project, project.data)
    assert lines_of(holder_of(project.find(NAME), "runs/p/evaluate/0001")) == {("samples.jsonl", 1)}
    assert holder_of(project.find("raw/a.jsonl:6"), "runs/p/report/0001").pages == ("report.html",)


def test_an_unfinished_run_is_looked_into(project: Project) -> None:
    output = begin(project.workspace, "data", {"seed": 9}, ())
    assert isinstance(output, Output)
    (output.path / ".usable.jsonl").write_text(json.dumps(sealed_row(2, masked=False)) + "\n")
    output.release()
    holder = holder_of(project.find(NAME), "runs/p/data/0002")
    assert (holder.state, lines_of(holder)) == ("unfinished", {(".usable.jsonl", 1)})


def test_an_id_means_one_row_not_one_line_number(project: Project) -> None:
    """After a line is deleted from the source, `:2` is another customer's row: it must not be taken for the first."""
    lines = project.path("raw/a.jsonl").read_text().split("\n")
    project.path("raw/a.jsonl").write_text("\n".join([lines[0], *lines[2:]]))
    moved = {"train.jsonl": [sealed_row(1), sealed_row(3, row_id="raw/a.jsonl:2")], "validation.jsonl": [],
             "test.jsonl": [], "report.json": {}}  # fmt: skip
    seal(project.workspace, "data", moved, [project.workspace.source(project.path("raw/a.jsonl"))], seed=7)
    found = project.find("raw/a.jsonl:2")
    assert lines_of(holder_of(found, "runs/p/data/0002")) == {("train.jsonl", 2)}
    assert lines_of(holder_of(found, "runs/p/data/0001")) == {("validation.jsonl", 1)}  # the same fee question
    assert any("runs/p/data/0001: the id raw/a.jsonl:2 is another row there" in note for note in found.notes)


def test_token_caches(project: Project) -> None:
    folder = project.path("runs/p/.cache/tokens")
    folder.mkdir(parents=True)
    for name, ids in (("a", ["raw/a.jsonl:1", "raw/a.jsonl:2"]), ("b", ["raw/a.jsonl:5"])):
        np.savez(folder / f"{name}.npz", names=np.frombuffer(json.dumps(ids).encode(), dtype=np.uint8))
    (folder / "c.npz").write_bytes(b"damaged")
    assert project.find("raw/a.jsonl:2").caches == ("runs/p/.cache/tokens/a.npz", "runs/p/.cache/tokens/c.npz")


def all_text(folder: Path) -> str:
    return normal(" ".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file()))


def test_purge_leaves_no_word_of_it(project: Project) -> None:
    result = project.purge(NAME)
    assert result.artifact == "runs/p/data/0002"
    assert result.removed == {"pii_mapping.jsonl": 1, "quarantine.jsonl": 1, "train.jsonl": 2}
    new = project.workspace.newest("data")
    assert [row["id"] for row in new.jsonl("train.jsonl")] == ["raw/a.jsonl:1", "raw/a.jsonl:6~1"]
    assert [row["id"] for row in new.jsonl("quarantine.jsonl")] == ["raw/a.jsonl:7"]
    assert [row["id"] for row in new.jsonl("pii_mapping.jsonl")] == ["raw/a.jsonl:5"]
    for name in ("validation.jsonl", "test.jsonl"):
        assert new.file(name).read_bytes() == project.data.file(name).read_bytes()
    text = all_text(new.path) + all_text(project.path("runs/p/erased.json").parent / "data" / "0002")
    for word in (NAME, PHONE, "13800138000", "about the transfer", "I will call you", "told of a payment"):
        assert normal(word) not in text, word
    assert stat.S_IMODE(new.file("pii_mapping.jsonl").stat().st_mode) == 0o600
    assert result.left_behind == ("report.html",)
    assert NAME not in result.text() + json.dumps(result.dump())


def test_the_report_of_the_purged_artifact(project: Project) -> None:
    project.purge(NAME)
    new = project.workspace.newest("data")
    report = new.json("report.json")
    assert report["splits"] == {"train": 2, "validation": 1, "test": 1}
    assert new.manifest.facts["splits"] == report["splits"]
    assert report["read"] == 7
    assert report["purged"]["rows"] == {"train": 2, "quarantine": 1, "pii_mapping": 1}
    assert report["purged"]["ids"] == ["raw/a.jsonl:2", "raw/a.jsonl:2+synonyms1", "raw/a.jsonl:4"]
    assert report["by_code"]["PII"] == {
        "count": 1,
        "example": {"source": "raw/a.jsonl", "line": 2, "byte_offset": 9, "reason": "[purged]", "excerpt": "[purged]"},
    }
    assert report["by_code"]["ROLE_ALIAS"]["example"]["excerpt"] == "My PIN"
    assert report["leakage"]["near"]["examples"][0]["train_excerpt"] == "[purged]"
    assert report["words"] == ["transfer", "[purged]", "[purged]"]
    assert new.manifest.facts["purged"]["from"] == "runs/p/data/0001"


def test_the_purged_artifact_is_none_of_the_stage(project: Project) -> None:
    """Its fingerprint is its own; the source stays its input, the old artifact does not, so that this can be pruned."""
    project.purge(NAME)
    new = project.workspace.newest("data")
    assert new.manifest.fingerprint != project.data.manifest.fingerprint
    assert [reference.path for reference in new.manifest.inputs] == ["raw/a.jsonl"]
    assert new.manifest.config["erased"] == Erasures.load(project.workspace).sha256
    assert runs.verify(project.workspace) == []
    assert project.data.path in runs.prunable(project.workspace, 1)


def test_the_erasure_list_knows_the_row_raw_and_masked(project: Project) -> None:
    """So that it stays out whatever the rules are next time."""
    from tunewright.core.chat import Conversation
    from tunewright.core.erasures import raw_digest
    from tunewright.data.splits.assign import message_digest

    assert Erasures.load(project.workspace).sha256 == ""
    result = project.purge("raw/a.jsonl:2")
    listed = Erasures.load(project.workspace)
    for masked in (True, False):
        assert listed.is_erased(message_digest(Conversation.from_row(sealed_row(2, masked=masked))))
    assert not listed.is_erased(message_digest(Conversation.from_row(sealed_row(1))))
    assert result.erased == len(listed.digests) == 3  # as the source has it, masked, and the variant
    assert listed.requests[0]["ids"] == ["raw/a.jsonl:2", "raw/a.jsonl:2+synonyms1", "raw/a.jsonl:4"]
    assert NAME not in listed.path.read_text()
    project.purge("张伟")
    assert Erasures.load(project.workspace).is_erased(raw_digest(BROKEN))


def test_a_second_purge_finds_nothing_left_in_the_newest(project: Project) -> None:
    first = project.purge(NAME)
    again = project.purge(NAME)
    assert (again.artifact, again.erased, dict(again.removed)) == ("", 0, {})
    assert first.artifact not in {h.path for h in again.found.artifacts if h.hits}
    assert again.prune_now == ("runs/p/data/0001",)


def test_dry_run_writes_nothing(project: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.workspace.root.rglob("*")}
    result = project.purge(NAME, dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in project.workspace.root.rglob("*")} == before
    assert result.removed == {"pii_mapping.jsonl": 1, "quarantine.jsonl": 1, "train.jsonl": 2}
    assert result.artifact == ""
    assert "not written: dry run" in result.text()


def test_what_is_left_to_do_by_hand(project: Project) -> None:
    later_stages(project, project.data)
    source = project.path("raw/a.jsonl").read_bytes()
    result = project.purge(NAME, project_file="bank.yaml")
    text = result.text()
    assert "still in your file raw/a.jsonl, line 2: delete it there" in text
    assert "train again: runs/p/train/0001 (its weights were trained with the row)" in text
    assert result.commands == ["tunewright run bank.yaml", "tunewright runs prune bank.yaml --keep 1"]
    assert "runs/p/data/0001" in result.prune_later  # the newest model was made from it
    assert project.path("raw/a.jsonl").read_bytes() == source
    assert project.data.path.exists()


def test_after_retraining_prune_takes_all_that_held_the_row(project: Project) -> None:
    later_stages(project, project.data)
    project.purge(NAME)
    purged = project.workspace.newest("data")
    later_stages(project, purged, seed=8)
    for path in runs.prunable(project.workspace, 1):
        for child in sorted(path.rglob("*"), reverse=True):
            child.rmdir() if child.is_dir() else child.unlink()
        path.rmdir()
    project.path("raw/a.jsonl").write_text("")
    found = find(project.workspace, [], "raw/a.jsonl:2")
    assert [holder.path for holder in found.artifacts] == []


@pytest.mark.parametrize("at", ["report", "rows"])
def test_a_kill_midway_leaves_the_row_erased_and_nothing_that_looks_whole(project: Project, monkeypatch, at) -> None:
    name = {"report": "_write_report", "rows": "_copy_without"}[at]
    whole = getattr(purge_module, name)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(purge_module, name, killed)
    with pytest.raises(KeyboardInterrupt):
        project.purge(NAME)
    assert project.workspace.newest("data").path == project.data.path
    assert Erasures.load(project.workspace).digests
    monkeypatch.setattr(purge_module, name, whole)
    result = project.purge(NAME)
    assert result.artifact == "runs/p/data/0002"
    assert result.removed["train.jsonl"] == 2


def test_a_split_is_never_emptied(project: Project) -> None:
    result = project.purge("raw/a.jsonl:5")
    assert result.artifact == ""
    assert "its test split would be empty" in result.text()
    assert Erasures.load(project.workspace).digests
    assert result.commands[0].startswith("tunewright run ")


def test_a_changed_artifact_is_refused(project: Project) -> None:
    path = project.data.path / "train.jsonl"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ArtifactError, match="changed after its stage sealed it"):
        project.purge(NAME)


def test_a_damaged_erasure_list_is_no_empty_one(project: Project) -> None:
    project.path("runs/p/erased.json").write_text('{"digests": ["zz"]}')
    with pytest.raises(ArtifactError, match="the erasure list is damaged"):
        project.purge(NAME)


def test_without_any_run_the_list_is_written_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.jsonl").write_text(json.dumps({"messages": turns("who am I", "Zhang Wei")}) + "\n")
    project = Project(Workspace(tmp_path, "p"), None)
    result = project.purge(NAME)
    assert (result.artifact, result.erased) == ("", 1)
    assert project.purge(NAME).erased == 0


def test_sources_of_other_shapes(tmp_path: Path) -> None:
    """Two rows on one line of an array; the cells of a table."""
    rows = [{"messages": turns("who is it", name)} for name in ("Zhang Wei", "Li Na")]
    (tmp_path / "a.json").write_text("\n[" + ", ".join(map(json.dumps, rows)) + "]")
    (tmp_path / "b.csv").write_text('question,answer\n"first, of all",Li Na\n"who\nis it",Zhang Wei\n')
    located = locate_sources(tmp_path, (("shared", ("a.json", "b.csv")),), max_chars=10_000, encoding="auto")
    found = find(Workspace(tmp_path, "p"), source_files(located, max_chars=10_000), "zhang wei")
    assert [(hit.place, hit.line, hit.id) for hit in found.sources] == [
        ("a.json", 2, "a.json#1"),
        ("b.csv", 3, "b.csv:3"),
    ]


def test_rows_that_cannot_be_looked_into_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "' + b"x" * 500 + b' Zhang Wei"}\n{"a": "\xff"}\n{"a": "Zhang Wei"}\n')
    located = locate_sources(tmp_path, (("shared", ("a.jsonl",)),), max_chars=100, encoding="auto")
    found = find(Workspace(tmp_path, "p"), source_files(located, max_chars=100), NAME)
    assert [hit.id for hit in found.sources] == ["a.jsonl:3"]
    assert any(note.startswith("a.jsonl: 2 row(s) that cannot be read") for note in found.notes)


def test_numbers_of_fewer_digits_are_texts() -> None:
    assert Query("12345").is_in("no. 1123456")
    assert Query("+49 30 1234567").is_in("49301234567")
    assert not Query("1234567").is_in("12345678")
    assert Query("1234567").is_in("(12) 34-56.7!")


def rated(project: Project, question: str, name: str = "0001.sqlite") -> Store:
    """A store of `rate` with one question that two systems answered; open until it is closed."""
    item = Item(id="x", turns=(Turn(role="user", content=question),), answers={"a": "One answer.", "b": "Another."})
    path = project.path(f"runs/p/rating/{name}")
    return Store.create(path, Pool(systems=("a", "b"), items=(item,), sources=()), RateConfig())


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("word", ["raw/a.jsonl:2", NAME, "(138) 0013 8000"])
def test_a_rating_store_that_shows_the_row_is_named(project: Project, word: str, is_open: bool) -> None:
    """An open store has its rows in the write-ahead log beside the file."""
    stores = [rated(project, f'{SOURCE[1][0]}\n"Please"'), rated(project, SOURCE[4][0], "0002.sqlite")]
    if not is_open:
        for store in stores:
            store.close()
    before = sorted(project.path("runs/p/rating").iterdir())
    found = project.find(word)
    assert found.ratings == ("runs/p/rating/0001.sqlite",)
    assert found.dump()["ratings"] == ["runs/p/rating/0001.sqlite"]
    assert "rating store runs/p/rating/0001.sqlite: shows text of the row" in found.text()
    assert "still in the rating store runs/p/rating/0001.sqlite: delete it" in project.purge(word, dry_run=True).text()
    assert sorted(project.path("runs/p/rating").iterdir()) == before, "nothing is written"
    for store in stores:
        store.close()


def test_what_only_a_rater_wrote_is_found_and_a_damaged_store_is_said(project: Project) -> None:
    store = rated(project, SOURCE[4][0])
    store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("INSERT INTO draft VALUES (0, 0, ?)", [json.dumps({"note": "ask M\u00fcller of Oslo"})])
    project.path("runs/p/rating/0002.sqlite").write_bytes(b"no database, but long enough to look like one" * 9)
    found = project.find("m\u00fcller of oslo")
    assert not found.is_empty and not found.sources and not found.artifacts
    assert found.ratings == ("runs/p/rating/0001.sqlite",)
    assert "runs/p/rating/0002.sqlite cannot be read and was not looked into" in found.notes
