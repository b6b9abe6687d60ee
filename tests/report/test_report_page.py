"""The page says what the artifacts say, loudly in both directions, and needs nothing from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_artifacts import data_report, everything, paired, sample, samples, score, scores, seal, table

from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact
from tunewright.report import samples as sample_view
from tunewright.report.accounting import token_table
from tunewright.report.comparison import who_sees_labels
from tunewright.report.numbers import readable, scale_of
from tunewright.report.stage import run
from tunewright.report.verdict import gates_line, verdict

VOID = {"meta", "link", "br", "hr", "img", "input", "circle", "line", "path", "polygon", "rect"}


class Checker(HTMLParser):
    """Collects unbalanced tags, addresses, ids and the page's visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(root: Path, **replaced: Any) -> tuple[str, Checker]:
    workspace, artifacts = everything(root, **replaced)
    return checked(run(workspace, project_file_name="bank.yaml", **artifacts))


def checked(artifact: Artifact) -> tuple[str, Checker]:
    html = artifact.file("report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    checker.text = re.sub(r"\s+", " ", checker.text)
    return html, checker


def test_page_is_whole_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    html, checker = page_of(tmp_path)
    assert checker.faults == [] and checker.open == []
    assert all(address.startswith("#") for address in checker.addresses)
    assert {address[1:] for address in checker.addresses} <= set(checker.ids)
    assert len(checker.ids) == len(set(checker.ids))
    assert "script" not in checker.tags and "url(" not in html and "@import" not in html
    assert len(html.encode()) < 3_000_000


def test_page_says_what_the_artifacts_say(tmp_path: Path) -> None:
    _, checker = page_of(tmp_path)
    for words in (
        "▲ Better",
        "intent.accuracy went from 41.6 % (base) to 93.3 % (tuned, 95 % interval 89.5 to 97.1 %): "
        "+51.7 points (+43.7 to +59.7), McNemar p < 0.001, n = 178 test rows. The one gate passed.",
        "868 kept + 20 repaired + 18 quarantined = 906 rows read: the sum holds.",
        "转‹U+200B›账失败 <b>怎么办</b>",
        "best: step 40, 0.513",
        "<script>alert('x')</script> & my card is gone",
        "awq (refused)",
        "loses 11.0 points, the limit is 5.0",
        "tunewright evaluate bank.yaml",
        "The base model was shown the list of labels",
        "0.081 s",
        "Labels mixed up",
        "fee answered with card <lost>: 9 of 95",
    ):
        assert words in checker.text, words


def test_evaluations_older_than_the_confusion_have_a_page_without_it(tmp_path: Path) -> None:
    _, checker = page_of(tmp_path, confusion=None)
    assert "Gates" in checker.text and "Labels mixed up" not in checker.text


def test_lineage_names_every_hash(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    report = run(workspace, project_file_name="bank.yaml", **artifacts)
    _, checker = checked(report)
    for artifact in artifacts.values():
        assert artifact.manifest_sha256 in checker.text
        assert workspace.relative(artifact.path) in checker.text
    assert "Mixed lineage" not in checker.text
    assert [reference.sha256 for reference in report.manifest.inputs] == [
        artifact.manifest_sha256 for artifact in artifacts.values()
    ]


def test_mixed_lineage_is_said(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    other = seal(workspace, "data", [], {"report.json": data_report()}, config={"other": True})
    _, checker = checked(run(workspace, project_file_name="bank.yaml", **{**artifacts, "data": other}))
    assert "Mixed lineage" in checker.text
    assert "train (runs/demo/train/0001) was made from runs/demo/data/0001, which is not the artifact" in checker.text


def test_same_inputs_give_the_same_artifact(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    first = run(workspace, project_file_name="bank.yaml", **artifacts)
    assert run(workspace, project_file_name="bank.yaml", **artifacts).path == first.path


def test_missing_stages_are_said_and_not_invented(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    nothing = dict.fromkeys(("train", "evaluate", "quantize", "serve"))
    _, checker = checked(run(workspace, project_file_name="b.yaml", data=artifacts["data"], **nothing))
    assert checker.faults == []
    assert "? Not measured" in checker.text
    for stage in nothing:
        assert f"tunewright {stage} has not run" in checker.text
    assert "93.3 %" not in checker.text


def test_a_changed_input_is_refused(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    (artifacts["evaluate"].path / "scores.json").write_text("{}")
    with pytest.raises(ArtifactError, match="changed after its stage sealed it"):
        run(workspace, project_file_name="bank.yaml", **artifacts)
    assert workspace.finished("report") == []


def test_rows_that_do_not_add_up_are_shouted(tmp_path: Path) -> None:
    _, checker = page_of(tmp_path, data={**data_report(), "kept": 867})
    assert "The rows do not add up" in checker.text and "≠ 906" in checker.text


def test_filtered_rows_and_actions_of_one_code_stand_apart(tmp_path: Path) -> None:
    example = {"source": "raw/a.jsonl", "line": 4, "byte_offset": 9, "reason": "cut off", "excerpt": "{"}
    worst, mild = {"count": 2, "example": example}, {"count": 5, "example": {**example, "reason": "comma left out"}}
    code = {"action": "quarantined", **worst, "count": 7, "by_action": {"quarantined": worst, "repaired": mild}}
    changed_report = {**data_report(), "read": 916, "filtered": 10, "by_code": {"JSON_SYNTAX": code}}
    _, checker = page_of(tmp_path, data=changed_report)
    assert "868 kept + 20 repaired + 10 filtered + 18 quarantined = 916 rows read: the sum holds." in checker.text
    assert re.search(r"JSON_SYNTAX ?quarantined ?2 cut off .*JSON_SYNTAX ?repaired ?5 comma left out", checker.text)


def test_token_table_has_a_column_a_split(tmp_path: Path) -> None:
    counted = data_report()["tokens"] | {"histogram": {"edges": [0, 4, 9], "counts": [5, 1]}}
    table = token_table(counted)
    assert not any("edges" in value for _, value in table.plain)
    assert table.columns == ("train", "test")
    assert dict(table.rows)["trained tokens"] == ("4,105", "1,180")
    assert dict(table.rows)["breaches: end"] == ("0", "3")
    assert table.plain == (("max length", "8,192"),)


def test_huge_and_hostile_samples_keep_the_page_small(tmp_path: Path) -> None:
    rows = [sample(f"r{i}", True, False, base="丧" * 200_000, tuned="\x00\u202e<img src=x>") for i in range(200)]
    html, checker = page_of(tmp_path, samples=rows)
    assert len(html.encode()) < 3_000_000
    assert "img" not in checker.tags and "\x00" not in html and "\u202e" not in html
    assert "(198,000 more characters)" in checker.text
    assert "30 of 200 shown" in checker.text


def changed(difference: float, p: float, **more: Any) -> dict[str, Any]:
    base = scores()
    base["paired"]["intent.accuracy"] = paired("intent.accuracy", difference, 0.05, p)
    return {**base, **more}


def test_verdict_is_as_loud_for_nothing_as_for_success(tmp_path: Path) -> None:
    assert verdict(changed(0.02, 0.31)).outcome == "no difference shown"
    assert verdict(changed(-0.2, 0.001)).outcome == "worse"
    assert verdict(changed(0.2, 0.0499)).outcome == "better"
    html, checker = page_of(tmp_path, scores=changed(0.02, 0.31))
    assert "<strong>＝ No difference shown" in html and "p = 0.310" in checker.text


def test_lower_is_better_turns_the_verdict() -> None:
    late = {"unit": "s", "higher_is_better": False}
    found = {
        "base": {"latency.p50_s": score("latency.p50_s", 4, 0.1, **late)},
        "tuned": {"latency.p50_s": score("latency.p50_s", 3, 0.1, **late)},
        "paired": {"latency.p50_s": paired("latency.p50_s", -1, 0.1, 0.001)},
        "gates": [],
        "primary": "latency.p50_s",
    }
    assert verdict(found).outcome == "better"
    assert "−1.000 s (−1.100 to −0.900)" in verdict(found).sentence
    assert "sets no gates" in verdict(found).gates


def test_a_failed_gate_stands_in_the_headline(tmp_path: Path) -> None:
    gate = {**scores()["gates"][0], "passed": False, "reason": "0.433 is below 0.466"}
    html, checker = page_of(tmp_path, scores=changed(0.2, 0.001, gates=[gate]))
    assert 'class="verdict worse"' in html
    assert "Better, gates failed" in checker.text and "1 of 1 gates failed: intent.accuracy." in checker.text


def test_unmeasured_primary_is_no_success() -> None:
    assert verdict({**scores(), "primary": "chrf"}).outcome == "not measured"
    assert gates_line(2, []) == "All 2 gates passed."


def test_worse_rows_first_then_gained_and_gained_keep_room() -> None:
    shown, counts = sample_view.chosen(samples())
    assert [row.kind for row in shown] == ["lost", "gained", "wrong", "open", "right"]
    many = [sample(f"g{i}", False, True) for i in range(50)] + [sample(f"l{i}", True, False) for i in range(50)]
    shown, counts = sample_view.chosen(many)
    assert [row.kind for row in shown] == ["lost"] * 20 + ["gained"] * 10
    assert counts == {"lost": (20, 50), "gained": (10, 50)}


def test_who_was_shown_labels() -> None:
    assert "Both models" in who_sees_labels({"evaluate": {"metrics": [{"labels_in_prompt": "all"}]}})
    assert who_sees_labels({"metrics": [{"name": "bleu"}]}) == ""


def test_a_variant_without_scores_is_listed_but_not_drawn(tmp_path: Path) -> None:
    missing = dict.fromkeys(("task_score", "task_low", "task_high", "task_change", "task_p", "agreement", "perplexity"))
    rows = [*table(), {**table()[0], "scheme": "fp16", **missing, "note": "no engine here runs it"}]
    html, checker = page_of(tmp_path, table=rows)
    assert "no engine here runs it" in checker.text
    assert "fp16" not in "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))


def test_numbers_are_written_in_the_metrics_own_unit() -> None:
    assert scale_of("intent.accuracy").show(0.913) == "91.3 %"
    assert scale_of("bleu").show(41.74) == "41.7"
    assert scale_of("latency.p50_s").show(0.0812) == "0.081 s"
    assert scale_of("x", "kB").show(3) == "3.00 kB"
    assert readable("a\u200bb\ud800👨\u200d👩") == "a‹U+200B›b‹U+D800›👨\u200d👩"
