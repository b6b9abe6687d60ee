"""`data --dry-run`: everything that will happen is said, and nothing is written."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest

from tunewright.cli import main
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.runs import Workspace
from tunewright.data import plan, stage
from tunewright.data.config import DataConfig
from tunewright.models import tiny
from tunewright.models.config import ModelConfig
from tunewright.models.source import cache_directory

TABLE = "问题,回答\n银行卡丢了怎么办,请立即挂失\n如何开户,带上身份证\n".encode("gb18030")


@pytest.fixture
def planned(tmp_path, bank_like):
    """(plan, its text) of a project with these settings."""
    tiny.folder(cache_directory())
    (tmp_path / "raw").mkdir()
    rows = b"".join(json.dumps(row).encode() + b"\n" for row in bank_like(230))
    (tmp_path / "raw" / "a.jsonl.gz").write_bytes(gzip.compress(rows))
    (tmp_path / "raw" / "b.csv").write_bytes(TABLE)
    (tmp_path / "bench.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')

    def make(*, path="builtin:tiny", **settings):
        before = sorted(tmp_path.rglob("*"))
        config = DataConfig.model_validate({"sources": ["raw/*"], **settings})
        found = plan.plan(Workspace(tmp_path, "p"), config, model=ModelConfig(path=path), seed=7)
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        return found, found.text()

    return make


def test_every_source_with_what_it_is_and_what_becomes_of_its_first_rows(planned):
    found, text = planned()
    packed, table = found.sources
    assert (packed.name, packed.compression, packed.encoding, packed.shape) == (
        "raw/a.jsonl.gz",
        "gzip",
        "utf-8",
        "jsonl",
    )
    assert (packed.sampled, packed.is_whole) == (plan.SAMPLED, False)
    assert (packed.formats, packed.outcomes) == ({"conversation": 200}, {"kept": 200})
    assert (table.encoding, table.shape, table.formats) == ("gb18030", "csv", {"question_answer": 2})
    assert (table.outcomes, table.codes) == ({"repaired": 2}, {"ENCODING": 2})
    assert f"raw/b.csv: csv, gb18030, {len(TABLE)} B; divided\n" in text
    assert f"{packed.path}\n    its first 200 rows: 200 kept; read as conversation\n" in text
    assert "all its 2 rows: 2 repaired; read as question_answer\n    findings in them: 2 ENCODING\n" in text
    assert f"packed with gzip; divided\n    {packed.path}\n" in text


def test_rules_in_order_with_their_settings_splits_checks_and_place(planned):
    found, text = planned(
        rules=[{"name": "text"}, {"name": "length", "max_chars": 500}, {"name": "redact", "kinds": ["phone"]}],
        split={"validation": 0.1, "test": 0, "test_sources": ["bench.jsonl"], "group_by": "metadata.customer"},
        max_leakage={"near": 3},
        keep={"metadata.intent": ["intent_1"]},
        max_train_rows=50,
        workers=2,
        augment=[{"name": "synonyms", "rate": 0.25}],
        annotation={},
    )
    rules = text[text.index("rules, in this order") : text.index("splits")].splitlines()
    assert rules[1:4] == [
        "  text: preset standard",
        "  length: max_chars 500",
        '  redact: kinds ["phone"], keys [], mapping false',
    ]
    for line in (
        "validation: 10% of the rows",
        "test: bench.jsonl",
        "train: the rest, at most 50 rows",
        "kept together: duplicates, and rows with the same metadata.customer",
        "only rows whose metadata.intent is one of: intent_1",
        "quarantine: at most 5.0% of the rows, duplicates apart",
        "leakage: train against validation, test; at most 0 exact, at most 3 near",
        "annotation: agreement on metadata.labels; alpha at least 0.8",
        "tokens: builtin:tiny, max_length 512",
        "synonyms: copies 1, share 1.0, ",
    ):
        assert f"\n  {line}" in text, line
    assert "\nworkers  2\noutput   runs/p/data/0001/" in text
    assert found.sources[-1].use == "all of it test"
    assert found.sources[0].outcomes == {"filtered": 150, "kept": 50}


def test_secrets_of_a_backend_are_not_shown(planned, monkeypatch):
    monkeypatch.setenv("PLAN_KEY", "sk-very-secret")
    server = {"api_key": "${PLAN_KEY}"}
    found, text = planned(augment=[{"name": "paraphrase", "server": server}])
    assert "sk-very-secret" not in text + json.dumps(found.dump())
    assert "augmenters are not asked" in text


def test_the_place_is_the_one_the_stage_takes(planned, tmp_path):
    config = DataConfig(sources=("raw/*",))
    model, workspace = ModelConfig(path="builtin:tiny"), Workspace(tmp_path, "p")
    artifact = stage.run(workspace, config, model=model, seed=7)
    assert planned()[0].output == "runs/p/data/0001, which has these settings and files already: nothing to do"
    assert planned(max_quarantined=0.5)[0].output == "runs/p/data/0002/"
    (artifact.path / "manifest.json").unlink()
    assert planned()[0].output == "runs/p/data/0001/, begun before and made anew"


def test_a_model_that_is_not_here_is_said_and_nothing_is_fetched(planned):
    found, text = planned(path="nobody/no-such-model")
    assert "tokens: nobody/no-such-model; it is not on this machine yet" in text
    assert found.output == "runs/p/data/0001/"


def test_what_the_run_would_refuse_the_plan_refuses(planned):
    with pytest.raises(ArtifactError, match="there is no such data source"):
        planned(sources=["raw/none.jsonl"])
    with pytest.raises(ConfigError):
        planned(augment=[{"name": "synonyms", "dictionary": ["none.tsv"]}])


SMOL = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are Smol.<|im_end|>\n' }}{% endif %}"
    + tiny.TEMPLATE
)


def test_the_system_text_of_a_template_is_said_where_no_row_has_one(planned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smol") / "model"
    shutil.copytree(tiny.folder(cache_directory()), folder)
    (folder / "chat_template.jinja").write_text(SMOL)
    note = "rows without a system turn get the template's own: 'You are Smol.'; data.system sets another"
    assert note in planned(path=str(folder))[0].notes
    assert planned(path=str(folder), system="Be brief.")[0].notes == ()
    assert planned()[0].notes == (), "a template without a text of its own"


def test_the_verb_prints_the_plan_and_makes_no_folder(planned, tmp_path, capsys):
    file = tmp_path / "project.yaml"
    file.write_text("name: p\nmodel: {path: 'builtin:tiny'}\ndata: {sources: [raw/b.csv]}\n")
    assert main(["data", str(file), "--dry-run", "--json"]) == 0
    (source,) = json.loads(capsys.readouterr().out)["sources"]
    assert (source["name"], source["encoding"], source["bytes"]) == ("raw/b.csv", "gb18030", len(TABLE))
    assert main(["data", str(file), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("plan of `data`; nothing is written\n")
    assert not (tmp_path / "runs").exists()


def test_a_failed_artifact_of_the_same_settings_is_said_to_have_failed(planned, tmp_path, capsys):
    (tmp_path / "raw" / "b.csv").unlink()
    (tmp_path / "bad.jsonl").write_text('{"text": "只有一段文字"}\n' + '{"question": "q", "answer": "a"}\n' * 2)
    file = tmp_path / "project.yaml"
    file.write_text("name: p\nmodel: {path: 'builtin:tiny'}\ndata: {sources: [bad.jsonl]}\n")
    assert main(["data", str(file)]) == 5
    shown = capsys.readouterr()
    assert "quarantined  MISSING" in shown.out, "the rows are shown although the gate did not pass"
    assert "runs/p/data/0001/report.html shows more" in shown.err
    assert planned(sources=["bad.jsonl"])[0].output.endswith("settings and files already: it did not pass its checks")


def test_a_leak_shows_the_table_of_its_artifact_and_no_other_report(planned, tmp_path, capsys, monkeypatch):
    """The error names the setting; a file report.json of the user's in the current folder has nothing to do with it."""
    (tmp_path / "report.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"question": "What is {n} and {n}?", "answer": "It is {2 * n}."}}\n' for n in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(rows))
    (tmp_path / "t.jsonl").write_text(rows[3])
    file = tmp_path / "project.yaml"
    file.write_text(
        "name: p\nmodel: {path: 'builtin:tiny'}\n"
        "data: {sources: [a.jsonl], split: {test: 0, test_sources: [t.jsonl], validation: 0.01}}\n"
    )
    for _ in range(2):  # made, and found again
        assert main(["data", str(file)]) == 5
        shown = capsys.readouterr()
        assert "leakage test: of 1 rows 1 ask a training question" in shown.out
        assert "runs/p/data/0001/report.html shows more" in shown.err
        assert "data.max_leakage.exact" in shown.err
