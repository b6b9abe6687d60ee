"""The page of a data artifact says what the report says, and nothing in a row breaks it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tunewright.data.page import charts
from tunewright.data.page.page import MOST_CHARS, clipped, page
from tunewright.data.page.tables import any_tables, value
from tunewright.data.show import Segment, ShownSequence, View, sample_views

VOID = {"meta", "rect", "line", "br"}
HOSTILE = "</td><script>alert('x')</script>\u202e\x1b[2J\u200b" + "丧" * 5000 + "W" * 5000


class Checker(HTMLParser):
    """Collects unbalanced tags, addresses, ids and the text that is seen."""

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.addresses, self.ids, self.tags, self.text = [], [], [], [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.text += " "
        self.addresses += [found for name, found in attrs if name in ("src", "href", "srcset")]
        self.ids += [found for name, found in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data


def checked(html):
    checker = Checker()
    checker.feed(html)
    assert checker.faults == [] and checker.open == []
    assert all(address.startswith("#") for address in checker.addresses)
    assert {address[1:] for address in checker.addresses} <= set(checker.ids)
    assert len(checker.ids) == len(set(checker.ids))
    assert "script" not in checker.tags and "url(" not in html and "@import" not in html
    assert len(html.encode()) < 1_000_000
    checker.text = re.sub(r"\s+", " ", checker.text)
    return checker


def finding(code_action="quarantined", **example):
    base = {"source": "raw/客服.jsonl", "line": 4, "byte_offset": 9, "reason": "cut off", "excerpt": "{"}
    found = {"count": 2, "example": base | example}
    return {"action": code_action, **found, "by_action": {code_action: found}}


def report(**more):
    """Numbers of the page's own making."""
    source = {"path": "raw/客服.jsonl", "encoding": "utf-8", "format": "jsonl", "read": 20}
    counts = {"kept": 15, "repaired": 3, "quarantined": 2, "filtered": 0}
    return {
        "read": 20,
        **counts,
        "duplicates": 0,
        "quarantined_share": 0.1,
        "by_code": {"JSON_SYNTAX": finding()},
        "sources": [{**source, **counts}],
        "splits": {"train": 12, "validation": 2, "test": 4},
        "left_out": 0,
        "leakage": {"exact": 1, "groups": 0, "validation_exact": 0, "validation_groups": 0},
        "tokens": {"max_length": 512, "splits": {"train": {"rows": 12, "tokens": 1234, "breaches": {"bos": 0}}}},
    } | more


def view(text="hello", row_id="a:1"):
    parts = (Segment("<s>", False, True, 1), Segment(text, True, False, 5), Segment("</s>", True, True, 1))
    return View(row_id, "train", "longest", 2, (ShownSequence(parts, 7, 6, 0),))


def test_the_built_in_bank_has_a_whole_page(bank, byte_tokenizer):
    artifact, found = bank
    views = sample_views(artifact.jsonl("train.jsonl"), byte_tokenizer, split="train", count=6, max_length=512, seed=7)
    html = page(found, views, title="bank")
    checker = checked(html)
    total = f"{found['kept']} kept + {found['repaired']} repaired + {found['quarantined']} quarantined"
    assert f"{total} = {found['read']} rows read: the sum holds." in checker.text
    for code, entry in found["by_code"].items():
        assert code in checker.text
        assert f"{entry['example']['source']}:{entry['example']['line']}" in checker.text
    for shown in views:
        assert shown.id in checker.text
        assert shown.sequences[0].counts in checker.text
    assert '<span class="trained special">&lt;|im_end|&gt;</span>' in html
    assert "如" in html or "银行" in html
    assert page(found, views, title="bank") == html


def test_words_of_the_report_stand_on_the_page():
    text = checked(page(report(), [view()], title="客服")).text
    for words in (
        "18 of 20 rows can be used: 12 train, 2 validation, 4 test.",
        "15 kept + 3 repaired + 2 quarantined = 20 rows read: the sum holds.",
        "kept 15 (75.0 %)",
        "raw/客服.jsonl:4",
        "The row is no valid JSON;",
        "Mend the row at the line and column",
        "train 12 66.7 %",
        "exact 1",
        "tokens 1,234",
        "breaches: bos 0",
        "Sequences hold at most 512 tokens",
        "7 tokens, 6 trained",
    ):
        assert words in text, words


def test_a_sum_that_does_not_hold_is_shouted():
    text = checked(page(report(kept=14), [])).text
    assert "14 kept + 3 repaired + 2 quarantined ≠ 20 rows read." in text
    assert "The rows do not add up." in text


def test_filtered_rows_and_rows_left_out_are_said():
    text = checked(page(report(read=25, filtered=5, left_out=3, duplicates=1), [])).text
    assert "15 kept + 3 repaired + 2 quarantined + 5 filtered = 25 rows read" in text
    assert "3 usable rows are in no split" in text
    assert "1 of the quarantined are duplicates." in text


def test_samples_stand_beside_rows_where_they_differ():
    text = checked(page(report(samples={"train": 30, "validation": 2, "test": 4}), [])).text
    assert re.search(r"split rows share samples train 12 66.7 % 30 .* sum 18 36", text)
    assert "samples" not in checked(page(report(samples={"train": 12, "validation": 2, "test": 4}), [])).text


def test_actions_of_one_code_stand_apart_worst_first_and_only_an_open_one_has_a_next_step():
    entry = finding()
    entry["by_action"]["repaired"] = {"count": 5, "example": entry["example"] | {"reason": "comma left out"}}
    text = checked(page(report(by_code={"JSON_SYNTAX": entry, "OF_ANOTHER_PACKAGE": finding("kept")}), [])).text
    assert re.search(r"JSON_SYNTAX quarantined 2 .*Mend the row.* cut off .*JSON_SYNTAX repaired 5 ", text)
    assert text.count("Mend the row") == 1
    assert re.search(r"OF_ANOTHER_PACKAGE kept 2 cut off", text)


def test_hostile_text_anywhere_stays_text():
    rows = report(
        by_code={HOSTILE[:60]: finding(reason=HOSTILE, excerpt=HOSTILE, source=HOSTILE)},
        sources=[{**report()["sources"][0], "path": HOSTILE}],
        tallies={f"pii.{HOSTILE}": 1},
        annotation={HOSTILE: {HOSTILE: 1}, "list": [{HOSTILE: HOSTILE}]},
        near_duplicates={"clusters": 1, "rows": 2, "largest": [{"size": 2, "ids": [HOSTILE] * 9, "excerpt": HOSTILE}]},
        leakage={HOSTILE: {"rows": 1, "exact": 1, "examples": [{"kind": HOSTILE, "id": HOSTILE, "excerpt": HOSTILE}]}},
        extra_key={HOSTILE: [HOSTILE]},
    )
    html = page(rows, [view(HOSTILE, HOSTILE)], title=HOSTILE)
    checker = checked(html)
    assert not set(html) & set("\u202e\u200b\x1b")
    assert "‹U+202E›" in checker.text
    assert "more characters)" in checker.text


def test_a_million_rows_of_everything_make_no_heavier_page():
    many = report(
        sources=[{**report()["sources"][0], "path": f"part-{n}.jsonl"} for n in range(3000)],
        by_code={f"CODE_{n}": finding(reason="r" * 9999, excerpt="e" * 9999) for n in range(500)},
        tallies={f"pii.kind_{n}": n for n in range(3000)},
        near_duplicates={
            "clusters": 900,
            "largest": [{"size": 3, "ids": ["a" * 99] * 500, "excerpt": "x" * 9999}] * 500,
        },
        annotation={"confusion": {f"a{n}": {f"l{m}": m for m in range(50)} for n in range(300)}},
    )
    text = checked(page(many, [view("w" * 200_000, f"r{n}") for n in range(300)])).text
    assert "2,940 more rows of this table stand in report.json." in text
    assert text.count("characters are not shown") == 12


def test_new_keys_are_shown_when_they_are_there():
    leaked = {"id": "t:9", "train_id": "b:3", "excerpt": "Why declined?", "train_excerpt": "Why was it declined?"}
    kinds = {
        "exact": {"rows": 0, "examples": []},
        "near": {"rows": 1, "examples": [leaked | {"jaccard": 0.8}]},
        "overlap": {"rows": 2, "examples": [leaked | {"shared": "why was"}]},
    }
    sets = {"test": {"rows": 4, **kinds}}
    cluster = {
        "rows": 6,
        "first": "b:12",
        "second": "b:77",
        "jaccard": 0.834,
        "first_excerpt": "I lost",
        "second_excerpt": "He lost",
    }
    text = checked(
        page(
            report(
                leakage={"train_rows": 12, "threshold": 0.7, "sets": sets},
                near_duplicates={"clusters": 3, "largest": [cluster]},
                tallies={"pii.phone": 3, "pii.id_card": 1, "domain.rows": 8, "domain.element.advice": 2},
                annotation={"alpha": 0.8344, "confusion": {"anna": {"lost": 40, "stolen": 2}}},
                augment={"variants": 120, "dropped": {"numbers": 4}, "by": {"synonyms": 80}},
                cache={"hit": True},
            ),
            [],
        )
    ).text
    for words in (
        "test 4 0 1 2",
        "near test t:9 Why declined? b:3 Jaccard 0.80 Why was it declined?",
        "overlap test t:9 Why declined? b:3 shared: why was Why was it declined?",
        "b:12 I lost b:77 Jaccard 0.83 He lost 6",
        "Personal data that was masked id card 1 phone 3",
        "Relevance to the domain rows share element advice 2 25.0 % rows 8 100.0 %",
        "alpha 0.8344",
        "lost stolen anna 40 2",
        "variants 120 Dropped numbers 4 By synonyms 80",
        "hit yes",
    ):
        assert words in text, words
    assert "Near duplicates" not in checked(page(report(), [])).text


def test_older_shape_of_leakage_examples():
    example = {"kind": "near", "id": "t:1", "train_id": "b:2", "excerpt": "q", "train_excerpt": "Q"}
    text = checked(page(report(leakage={"test": {"rows": 4, "exact": 0, "near": 1, "examples": [example]}}), [])).text
    assert "test 4 0 1" in text
    assert "near test t:1 q b:2 Q" in text


def test_a_report_without_model_and_findings():
    text = checked(page(report(by_code={}, tokens={}, leakage={}), [])).text
    assert "Nothing was found: every row is clean." in text
    assert "Tokens" not in text and "Leakage" not in text and "Samples" not in text


def test_long_sequences_show_their_ends_and_say_what_is_left_out():
    parts = (Segment("a" * 9000, False, False, 90), Segment("b" * 50, True, False, 5), Segment("</s>", True, True, 1))
    whole = ShownSequence(parts, 96, 6, 0)
    short = clipped(whole, MOST_CHARS)
    texts = [part.text for part in short.segments]
    assert texts[0] == "a" * 2000
    assert texts[1] == "\n… 3,054 characters are not shown …\n"
    assert texts[2:] == ["a" * (4000 - 54), "b" * 50, "</s>"]
    assert [part.trained for part in short.segments] == [False, False, False, True, True]
    assert (short.tokens, short.trained) == (96, 6)
    assert clipped(whole, 9054) is whole


@pytest.mark.parametrize(
    ("given", "shown"), [(1234567, "1,234,567"), (0.5, "0.5"), (2.0, "2"), (True, "yes"), (None, "–")]
)
def test_values_as_they_are_written(given, shown):
    assert value(given).text == shown
    assert value([1, "a"]).text == "1, a"
    assert value({"a": 1000}).text == "a: 1,000"


def test_tables_of_any_part():
    tables = any_tables({"n": 1, "deep": {"x": 2, "grid": {"r": {"c": 3}}}, "rows": [{"k": 4}, {"l": 5}]})
    assert [(one.caption, [[cell.text for cell in row] for row in one.rows]) for one in tables] == [
        ("", [["n", "1"]]),
        ("Rows", [["4", "–"], ["–", "5"]]),
        ("Deep", [["x", "2"]]),
        ("Deep: grid", [["r", "3"]]),
    ]
    (first, second) = any_tables({"alpha": {"value": 0.5, "n": 3}, "raw": {"value": 1, "n": 4}, "rest": {"x": 1}})
    assert [[cell.text for cell in row] for row in first.rows] == [["alpha", "0.5", "3"], ["raw", "1", "4"]]
    assert [title for title, _ in first.columns] == ["", "value", "n"]
    assert (second.caption, second.rows[0][1].text) == ("Rest", "1")
    assert any_tables([]) == [] and any_tables(None) == []


def rects(svg, kind):
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" class="([^"]+)"', svg)
    return [tuple(float(number) for number in rect[:4]) for rect in found if rect[4] == kind]


def test_the_bar_is_divided_as_the_rows_are():
    svg = charts.rows_bar([("kept", 75), ("repaired", 0), ("quarantined", 25)], width=400)
    assert rects(svg, "part kept")[0] == (0.0, 0.0, 300.0, 26.0)
    assert rects(svg, "part quarantined")[0] == (300.0, 0.0, 100.0, 26.0)
    assert [rect[3] for rect in rects(svg, "part repaired")] == [11.0]  # its legend only
    assert "75 kept, 0 repaired, 25 quarantined" in svg
    assert "nan" not in charts.rows_bar([("kept", 0)], width=400)


def test_the_histogram_is_as_high_as_its_counts():
    svg = charts.histogram([0, 10, 20, 30], [4, 0, 2], width=400, limit=25)
    bars = rects(svg, "bar")
    assert [bar[3] for bar in bars] == [160.0, 0.0, 80.0]  # the axis ends at 4, 160 pixels high
    assert all(bar[1] + bar[3] == 190.0 for bar in bars)
    x = float(re.search(r'<line x1="([\d.]+)"[^>]*class="limit"', svg)[1])
    assert x == pytest.approx(bars[2][0] - 0.5 + (bars[2][2] + 1) / 2, abs=0.1)  # 25 is the middle of 20 to 30
    assert "6 sequences; most between 0 and 10 tokens." in svg


def test_many_bars_are_joined_and_no_sequence_is_lost():
    counts = [1] * 1000
    svg = charts.histogram(list(range(1001)), counts, width=340)
    joined = [int(number) for number in re.findall(r"tokens: (\d+)</title>", svg)]
    assert sum(joined) == 1000 and len(joined) == 40
    assert "975 to 1,000 tokens: 25" in svg
    assert charts.histogram([0, 1], [0], width=340).count("<rect") == 1
