"""The verb `score`: what it prints, what it refuses, that it needs no model, and that it is quick."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunewright.cli import main
from tunewright.core.scoring import wilson

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "3+4=?", "prediction": "3+4=7，答案是7。", "reference": "7", "metadata": {"task": "math"}},
    {"id": "b", "prompt": "95%?", "prediction": "答案是 12 或 13", "reference": "12", "metadata": {"task": "math"}},
    {"id": 3, "prompt": "hi", "prediction": "", "reference": "Hello there", "metadata": {"task": "talk"}},
    {"prediction": "the fee is waived", "reference": "the fee is waived"},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["score", *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "said.jsonl", ROWS)


def test_json_has_scores_with_intervals_and_a_row_for_each_row(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(file), "--metrics", "bleu,rouge,math", "--json")
    assert code == 0
    found = json.loads(out)
    scores, rows = found["scores"], found["rows"]
    assert {"bleu", "rouge1", "rouge2", "rougeL", "math.accuracy", "math.arithmetic_valid"} <= set(scores)
    for score in scores.values():
        assert score["n"] == 4 and score["low"] <= score["value"] <= score["high"] and score["signature"]
    assert scores["math.accuracy"]["value"] == 0.5
    assert (scores["math.accuracy"]["low"], scores["math.accuracy"]["high"]) == pytest.approx(wilson(2, 4))
    assert scores["math.accuracy"]["floor"] < 0.5
    assert [row["math"]["correct"] for row in rows] == [True, False, False, True]
    assert [row["math"]["answer"] for row in rows] == ["7", None, None, None]
    assert rows[0]["bleu"]["value"] < rows[3]["bleu"]["value"] == pytest.approx(100)
    assert rows[2]["rouge"] == {"rouge1": 0, "rouge2": 0, "rougeL": 0}
    assert found["seed"] == 7


def test_every_metric_by_name(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = "bleu,rouge,chrf,exact,contains,json_schema,math,refusal,compat,intent,toxicity"
    code, out, _ = run(capsys, str(file), "--metrics", named, "--json")
    assert code == 0
    found = json.loads(out)
    assert {"chrf", "exact", "contains", "json_schema.valid", "refusal.false_rate", "compat.bleu4"} <= set(
        found["scores"]
    )
    assert all(set(named.split(",")) == set(row) for row in found["rows"])
    assert found["rows"][3]["exact"] == {"value": 1}
    assert found["rows"][3]["intent"]["correct"] is True


def test_slots_and_intent_come_from_the_reference_where_metadata_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prediction": '{"date": "Monday"}', "reference": '{"slots": {"date": "monday"}}'},
        {"prediction": "{}", "reference": '{"date": "Monday"}', "metadata": {"slots": {}}},
    ]
    _, out, _ = run(capsys, str(write(tmp_path / "s.jsonl", rows)), "--metrics", "slots", "--json")
    assert json.loads(out)["scores"]["slots.exact"]["value"] == 1


def test_a_metric_that_skips_rows(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--metrics", "math,exact", "math.where={metadata.task: math}", "seed=3", "--json"]
    _, out, _ = run(capsys, str(file), *words)
    found = json.loads(out)
    assert found["scores"]["math.accuracy"]["n"] == 2 and found["scores"]["exact"]["n"] == 4
    assert ["math" in row for row in found["rows"]] == [True, True, False, False]
    assert found["seed"] == 3


def test_the_table(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(file), "--metrics", "math,bleu")
    assert code == 0
    assert "math.accuracy" in out and "0.500" in out and "[0.150, 0.850]" in out
    assert "seed 7" in out and "tok:13a" in out


GOOD = '{"prediction": "a", "reference": "b"}'
BROKEN = {
    "cut": ('{"prediction": "a", "refer', "line 2: this is not JSON"),
    "no object": ("[1, 2]", "line 2: a row is an object, not a list"),
    "no prediction": ('{"reference": "b"}', "line 2: the key 'prediction' is missing"),
    "no reference": ('{"prediction": "b"}', "line 2: the key 'reference' is missing"),
    "null": ('{"prediction": null, "reference": "b"}', "line 2: 'prediction' must be a text, not null"),
    "list": ('{"prediction": ["a"], "reference": "b"}', "line 2: 'prediction' must be a text, not a list"),
    "metadata": ('{"prediction": "a", "reference": "b", "metadata": 5}', "line 2: 'metadata' must be an object"),
    "twice": ('{"prediction": "a", "prediction": "c", "reference": "b"}', "line 2: the key 'prediction' stands twice"),
    "nan": ('{"prediction": "a", "reference": "b", "metadata": {"x": NaN}}', "line 2: NaN is no JSON"),
    "surrogate": ('{"prediction": "\\ud83d", "reference": "b"}', "line 2: 'prediction' holds half of a surrogate"),
    "deep": ("[" * 100_000, "line 2: this is"),
}


@pytest.mark.parametrize(("line", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n", encoding="utf-8")
    for words in ([], ["--json"]):
        code, out, err = run(capsys, str(path), "--metrics", "exact", *words)
        assert code == 3 and out == ""
        assert f"{path}: " in err and said in err and "next step:" in err


def test_bytes_that_are_no_utf_8_and_the_number_of_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bytes.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\n\n" + b'{"prediction": "\xff"}\n' * 7)
    code, _, err = run(capsys, str(path), "--metrics", "exact")
    assert code == 3
    assert "line 3: this is not UTF-8 (byte 16 of the line)" in err and "and 2 more" in err
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + GOOD.encode())
    assert run(capsys, str(path), "--metrics", "exact")[0] == 0


FAULTS = {
    "no file": ([], 2, "takes one file, not 0"),
    "two files": (["F", "F"], 2, "takes one file, not 2"),
    "no metrics": (["F"], 2, "no metric was named"),
    "unknown metric": (["F", "--metrics", "bluu"], 2, "did you mean 'bleu'?"),
    "model metric": (["F", "--metrics", "latency"], 2, "'latency' measures a model, not answers"),
    "unknown option": (["F", "--metrics", "math", "math.anwser=x"], 2, "did you mean 'answer'?"),
    "another section": (["F", "--metrics", "math", "data.split=x"], 2, "`score` has no option 'data'"),
    "bad seed": (["F", "--metrics", "math", "seed=x"], 2, "the seed must be a whole number"),
    "applies to none": (
        ["F", "--metrics", "math", "math.where={metadata.task: x}"],
        2,
        "applies to none of the 4 rows",
    ),
    "missing file": (["nowhere.jsonl", "--metrics", "math"], 3, "nowhere.jsonl: the file cannot be read"),
    "empty file": (["E", "--metrics", "math"], 3, "the file has no rows"),
}


@pytest.mark.parametrize(("words", "code", "said"), FAULTS.values(), ids=FAULTS)
def test_faults(file: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str) -> None:
    empty = file.with_name("empty.jsonl")
    empty.write_text("\n")
    found, out, err = run(capsys, *[{"F": str(file), "E": str(empty)}.get(word, word) for word in words])
    assert found == code and out == ""
    assert said in err


def test_numbers_as_references_are_taken_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "n.jsonl", [{"prediction": "It is 73.", "reference": 73}, {"prediction": 0.5, "reference": "1/2"}]
    )
    _, out, _ = run(capsys, str(path), "--metrics", "math", "--json")
    assert json.loads(out)["scores"]["math.accuracy"]["value"] == 1


def test_it_loads_no_torch(file: Path) -> None:
    code = (
        "import sys; from tunewright.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy; raise SystemExit(code)"
    )
    words = ["score", str(file), "--metrics", "bleu,rouge,chrf,math,refusal,intent,json_schema,toxicity", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]


def test_many_rows_keep_their_order_and_their_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "She sells 16 - 3 - {0} = 9 eggs a day, row {1}.\nShe makes 9 * 2 = $18 every day.\n#### {0}"
    right = [i % 7 == i % 5 for i in range(2_000)]
    rows = [
        {"prompt": "?", "prediction": said.format(i % 7, i), "reference": said.format(i % 5, i)}
        for i in range(len(right))
    ]
    path = write(tmp_path / "many.jsonl", rows)
    code, out, _ = run(capsys, str(path), "--metrics", "bleu,rouge,math", "--json")
    found = json.loads(out)
    assert code == 0 and [row["math"]["correct"] for row in found["rows"]] == right
    assert found["scores"]["math.accuracy"]["value"] == pytest.approx(sum(right) / len(right))
