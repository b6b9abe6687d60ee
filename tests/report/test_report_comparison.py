"""Rivals, groups, rows by their scores, and what came out of the training data, on the page and in parts."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from comparison_artifacts import BREAKDOWN, CHEAPER, MEMORIZATION, RIVALS, compared, label_groups, table
from report_artifacts import sample, score, scores
from test_report_page import page_of

from tunewright.report import samples
from tunewright.report.breakdown import SHOWN, GroupTable, change_chart, group_tables
from tunewright.report.memorization import leaks
from tunewright.report.numbers import money, scale_of
from tunewright.report.samples import Primary, chosen, kind_of, primary_of
from tunewright.report.svg import text_width
from tunewright.report.systems import system_table
from tunewright.report.verdict import verdict


def test_a_cheaper_rival_stands_first_in_the_verdict(tmp_path: Path) -> None:
    html, checker = page_of(tmp_path, scores=compared())
    assert checker.faults == [] and len(checker.ids) == len(set(checker.ids))
    box = html[html.index('id="verdict"') :]
    assert box.index(CHEAPER["sentence"].split("'")[0]) < box.index("<strong>")
    assert verdict(compared()).first == CHEAPER["sentence"]
    assert verdict(compared(cheaper_rival=None)).first == verdict(scores()).first == ""


def test_without_a_cheaper_rival_the_outcome_stands_first(tmp_path: Path) -> None:
    html, checker = page_of(tmp_path, scores=compared(cheaper_rival=None))
    assert 'class="first"' not in html and "Every system" in checker.text


def test_rivals_stand_in_one_table_with_base_and_tuned() -> None:
    found = system_table(compared())
    assert found is not None
    assert [row.name for row in found.rows] == ["base", "tuned", "base with 5 examples", "tfidf", "example-api-large"]
    base, tuned, shots, tfidf, api = found.rows
    assert [row.cells[0].value for row in found.rows] == ["41.6 %", "93.3 %", "60.0 %", "92.1 %", "95.5 %"]
    assert (base.difference, base.verdict) == ("+51.7 points", "better")
    assert (tuned.difference, tuned.p, tuned.verdict) == ("", "", "")
    assert (shots.verdict, tfidf.verdict, tfidf.p) == ("better", "no difference shown", "p = 0.810")
    assert (api.difference, api.verdict) == ("−2.2 points", "no difference shown")
    assert (base.seconds, tuned.seconds) == ("", "0.210 s")
    assert (tfidf.seconds, tfidf.cost, api.cost, shots.cost) == ("1.10 ms", "0.00 USD", "4.21 USD", "")


def test_the_verdict_goes_by_the_corrected_p_and_the_metrics_direction() -> None:
    rivals = copy.deepcopy(RIVALS[:1])
    rivals[0]["paired"]["intent.accuracy"] |= {"p": 0.03, "p_holm": 0.06}
    assert system_table(compared(rivals=rivals)).rows[2].verdict == "no difference shown"  # type: ignore[union-attr]
    late = {"unit": "s", "higher_is_better": False}
    slow = {**scores(), "primary": "latency.p50_s"}
    difference = {"difference": 1.0, "low": 0.5, "high": 1.5, "p": 0.001, "verdict": "worse (p 0.001)"}
    rival = {**RIVALS[1], "scores": {"latency.p50_s": score("latency.p50_s", 3.3, 0.1, **late)}}
    rival["paired"] = {"latency.p50_s": difference}
    row = system_table({**slow, "rivals": [rival]}).rows[-1]  # type: ignore[union-attr]
    assert (row.verdict, row.difference, row.cells[0].value) == ("worse", "+1.000 s", "3.300 s")


def test_a_rival_may_lack_the_primary_metric_and_share_others() -> None:
    rival = {**RIVALS[0], "scores": {"bleu": score("bleu", 33, 2)}, "paired": {}}
    found = system_table(compared(rivals=[rival]))
    assert found is not None and found.metrics == ("intent.accuracy", "bleu")
    assert [cell.value for cell in found.rows[-1].cells] == ["–", "33.0"]
    assert found.rows[0].cells[1].value == "12.4" and found.rows[-1].verdict == ""


def test_why_a_rival_is_cheaper_and_its_notes_stand_below_it() -> None:
    notes = {"rows": 178, "seconds": 3.2, "examples": 5, "prompts_cut_on_the_left": 0}
    rival = {**RIVALS[0], "why": "needs no training", "notes": notes}
    assert system_table(compared(rivals=[rival])).rows[-1].notes == "needs no training; examples: 5"  # type: ignore[union-attr]
    assert system_table(compared(rivals=[{**rival, "notes": None}])).rows[-1].notes == "needs no training"  # type: ignore[union-attr]


def test_no_rivals_no_table(tmp_path: Path) -> None:
    assert system_table(scores()) is None and system_table(None) is None
    _, checker = page_of(tmp_path)
    assert "Every system" not in checker.text and "By group" not in checker.text


def test_the_worst_group_stands_first_and_the_rest_is_folded() -> None:
    shuffled = {**BREAKDOWN[0], "groups": list(reversed(BREAKDOWN[0]["groups"]))}
    found = group_tables(compared(breakdown=[shuffled, BREAKDOWN[2]]))
    labels, lower = found
    assert labels.primary and not lower.primary
    assert labels.first[0].group == "卡片丢失_card_lost <b>" and labels.first[0].verdict == "worse"
    assert len(labels.first) == SHOWN and len(labels.rest) == 18 - SHOWN
    assert (labels.first[1].verdict, labels.first[1].p, labels.few) == ("too few rows to tell", "", 2)
    assert lower.first[0].difference == "+10.0 points", "less is better here: a rise is the worst change"


def test_the_page_shows_groups_and_escapes_them(tmp_path: Path) -> None:
    html, checker = page_of(tmp_path, scores=compared())
    assert checker.faults == []
    for words in (
        "intent.accuracy by intent: by intent. 2 of 18 groups have too few rows to tell.",
        "卡片丢失_card_lost <b>", "−40.0 points", "p = 0.012", "6 more groups",
        "groups of fewer than 10 rows have no verdict", "59 to 320 characters", "intent.unparseable by intent",
    ):  # fmt: skip
        assert words in checker.text, words
    assert html.index("卡片丢失_card_lost") < html.index("intent_00")


def first_table(**more: Any) -> GroupTable:
    return group_tables(compared(**more))[0]


@pytest.mark.parametrize("width", [720, 340])
def test_the_picture_puts_changes_left_and_right_of_zero(width: int) -> None:
    picture = ElementTree.fromstring(change_chart(first_table(), width=width))
    zero = next(float(line.get("x1") or 0) for line in picture.iter("line") if line.get("class") == "zero")
    lost = next(node for node in picture.iter("polygon") if node.get("class") == "mark loss")
    corners = [float(pair.split(",")[0]) for pair in (lost.get("points") or "").split()]
    assert max(corners) < zero
    gains = [node for node in picture.iter("polygon") if node.get("class") == "mark gain"]
    assert len(gains) == 2 and len(list(picture.iter("circle"))) == SHOWN - 3, "hollow: nothing shown or too few rows"
    names = [str(node.text) for node in picture.iter("text") if node.get("text-anchor") == "end"]
    assert all(text_width(name) <= width * 0.34 + 1 for name in names) and any(name.endswith("…") for name in names)
    assert "points" in "".join(picture.itertext())


def test_a_picture_of_one_group_without_a_change() -> None:
    same = [{**label_groups()[2], "group": "only"}]
    picture = change_chart(first_table(breakdown=[table("intent.accuracy", "intent", same)]), width=340)
    assert "nan" not in picture and "only" in picture


def scored(name: str, before: float | None, after: float | None, **more: Any) -> dict[str, Any]:
    return {**sample(name, None, None), "base_score": before, "tuned_score": after, **more}


def test_rows_got_worse_by_their_score_where_there_is_no_right_and_wrong() -> None:
    rows = [scored("a", 50, 40), scored("b", 10, 90), scored("c", 90, 5), scored("d", 7, 7), scored("e", None, 3)]
    shown, counts = chosen(rows, Primary(scale_of("bleu")))
    assert [(row.id, row.kind) for row in shown] == [
        ("c", "lower"), ("a", "lower"), ("b", "higher"), ("d", "equal"), ("e", "open"),
    ]  # fmt: skip
    assert (shown[0].base_score, shown[0].tuned_score, shown[4].base_score) == ("90.0", "5.0", "")
    assert counts["lower"] == (2, 2)


def test_less_may_be_better() -> None:
    rows = [scored("a", 0.0, 1.0, base_right=False, tuned_right=True), scored("b", 1.0, 0.0)]
    assert kind_of(rows[0], higher_is_better=False) == "lower", "the primary metric decides, not another's right"
    assert kind_of(rows[1], higher_is_better=False) == "higher"
    late = {"tuned": {"toxicity.rate": score("toxicity.rate", 0.1, 0.1, higher_is_better=False)}}
    assert primary_of({**late, "primary": "toxicity.rate"}).higher_is_better is False
    assert primary_of(None).higher_is_better and primary_of(scores()).scale.unit == "percent of rows"


def test_twenty_of_the_worst_stand_first_whatever_was_gained() -> None:
    many = [scored(f"g{i}", 1, 2) for i in range(50)] + [scored(f"l{i}", 50, i) for i in range(50)]
    shown, counts = chosen(many)
    assert [row.id for row in shown[:20]] == [f"l{i}" for i in range(20)], "the largest loss first"
    assert counts == {"lower": (20, 50), "higher": (10, 50)} and len(shown) == samples.MOST


def test_the_page_shows_the_rows_score(tmp_path: Path) -> None:
    found = {**scores(), "primary": "bleu"}
    _, checker = page_of(tmp_path, scores=found, samples=[scored("a", 50.5, 4)])
    assert "got worse: the tuned answer scores below the base's: 1 of 1 shown" in checker.text
    assert re.search(r"base, score 50\.5 ?.*tuned, score 4\.0", checker.text)


def test_what_comes_out_of_training_is_listed_masked(tmp_path: Path) -> None:
    found = leaks(MEMORIZATION)
    assert found is not None and (found.tuned, found.base) == (2, 1)
    assert [(leak.shown, leak.in_base) for leak in found.shown] == [("138****5678", False), ("s***@***.com", True)]
    _, checker = page_of(tmp_path, memorization=MEMORIZATION)
    assert "came out of the tuned model: 2 findings (base: 1)" in checker.text and "138****5678" in checker.text
    assert checker.faults == []


def test_nothing_came_out_is_said(tmp_path: Path) -> None:
    _, checker = page_of(tmp_path, memorization={"base": [], "tuned": []})
    assert "No personal data of training rows came out of the tuned model (base: 0)" in checker.text


def test_many_findings_are_counted_and_some_shown() -> None:
    many = [{"row": f"r{i}", "kind": "PHONE", "shown": "1***", "times": 1} for i in range(50)]
    found = leaks({"base": [], "tuned": many})
    assert found is not None and (len(found.shown), found.tuned) == (20, 50)
    assert leaks(None) is None


def test_units_and_money() -> None:
    assert money(0, "USD") == "0.00 USD" and money(4.2071, "USD") == "4.21 USD" and money(1234.5, "") == "1,234.50"
    assert money(0.00421, "CNY") == "0.0042 CNY"
    assert scale_of("handling_time", "min").show(2.8) == "2.80 min"
    assert (
        scale_of("perplexity", "perplexity").show(14.04) == "14.040"
        and scale_of("forgetting.loss", "nats").show(1.5) == "1.500"
    )
    assert scale_of("memorization.common_prefix", "tokens").show(3.26) == "3.3 tokens"
