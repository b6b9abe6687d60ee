"""Votes as training rows and preference pairs: read back by the data stage, and traced back to the votes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from rating_kit import make_pool, said, vote

from tunewright.data.findings import Rejection
from tunewright.data.formats.recognise import recognise
from tunewright.rating import export
from tunewright.rating.study import Vote

POOL = make_pool()
STUDY = export.Study(POOL.items, POOL.sources, "f" * 64)


def corrected(item: int, rater: str, text: str, side: str = "left", **given: Any) -> Vote:
    judgement = said("tie", corrected={side: text})
    return dataclasses.replace(vote(item, rater, "tie", **given), judgement=judgement)


def rows(cast: list[Vote]) -> list[dict[str, Any]]:
    return export.rows(cast, STUDY)


def test_a_correction_becomes_a_row_the_data_stage_reads() -> None:
    (row,) = rows([corrected(2, "lin", "改正后的回答")])
    found = recognise(json.loads(export.as_jsonl([row])))
    assert not isinstance(found, Rejection)
    assert found.format == "conversation"
    assert found.turns == [
        {"role": "user", "content": "question 2"},
        {"role": "assistant", "content": "改正后的回答"},
    ]
    assert found.metadata["domain"] == "bank", "the row's own metadata stays"
    lineage = found.metadata["rating"]
    assert lineage["item"] == "q2" and lineage["study"] == "f" * 64
    assert lineage["sources"] == [{"path": "a.jsonl", "sha256": "0" * 64}]
    assert lineage["votes"] == [{"vote": 3, "rater": "lin", "about": "base", "cast": "2026-11-26T00:00:00.000+00:00"}]


def test_the_same_correction_by_two_raters_is_one_row_and_a_different_one_two() -> None:
    found = rows(
        [corrected(0, "lin", "x"), corrected(0, "wu", "x", "right", number=2), corrected(0, "mara", "y", number=3)]
    )
    assert [row["conversation"][-1]["content"] for row in found] == ["x", "y"]
    assert [one["rater"] for one in found[0]["metadata"]["rating"]["votes"]] == ["lin", "wu"]
    assert len({row["id"] for row in found}) == 2


def test_votes_become_pairs_by_majority() -> None:
    cast = [
        *(vote(0, rater, "tuned", number=number) for number, rater in enumerate("lw", 1)),
        *(vote(1, rater, outcome) for rater, outcome in zip("lw", ("base", "tuned"), strict=True)),
        vote(2, "l", "both_bad"),
        vote(3, "l", "base"),
        vote(3, "w", "tie"),
        vote(4, "l", "skip"),
        vote(5, "l", "tuned", repeat_of=1, position=9),
    ]
    found, left_out = export.preferences(cast, STUDY)
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found] == [
        ("answer 0 of denut", "answer 0 of esab"),
        ("answer 3 of esab", "answer 3 of denut"),
    ]
    assert left_out == {"no side has more votes": 2}
    lineage = found[0]["metadata"]["rating"]
    assert (lineage["chosen"], lineage["rejected"], lineage["kind"]) == ("tuned", "base", "votes")
    assert lineage["outcomes"] == {"tuned": 2}
    assert [one["vote"] for one in lineage["votes"]] == [1, 2]


def test_a_correction_is_preferred_to_what_it_corrects() -> None:
    found, _ = export.preferences([corrected(4, "lin", "better", "right")], STUDY)
    (pair,) = found
    assert pair["chosen"] == [{"role": "assistant", "content": "better"}]
    assert pair["rejected"] == [{"role": "assistant", "content": "answer 4 of denut"}]
    assert pair["metadata"]["rating"]["chosen"] == "correction by lin"


def test_pairs_are_read_by_the_data_stage_as_preferences() -> None:
    found, _ = export.preferences([vote(0, "l", "tuned")], STUDY)
    read = recognise(json.loads(export.as_jsonl(found)))
    assert not isinstance(read, Rejection)
    assert read.format == "dpo"
    assert [turn["content"] for turn in read.turns] == ["question 0", "answer 0 of denut"]
    assert read.turns[-1].get("train") is not False and read.turns[0]["role"] == "user"


def test_empty_and_equal_answers_make_no_pair() -> None:
    items = [
        item.model_copy(update={"answers": answers})
        for item, answers in zip(POOL.items, ({"base": " ", "tuned": "t"}, {"base": "t", "tuned": "t"}), strict=False)
    ]
    study = export.Study(items, POOL.sources, "")
    empty_corrected = corrected(0, "l", "now there is one")
    found, left_out = export.preferences([vote(0, "l", "tuned"), vote(1, "l", "tuned"), empty_corrected], study)
    assert found == []
    assert left_out == {
        "one of the answers is empty": 1,
        "both answers are the same text": 1,
        "the corrected answer is empty": 1,
    }


def test_votes_as_csv_are_whole_and_run_no_formula() -> None:
    cast = [
        dataclasses.replace(vote(0, "lin", "tuned"), judgement=said("right", 0, 2, note="=1+1, 逗号\n第二行")),
        vote(1, "lin", "skip"),
    ]
    text = export.as_csv(export.votes(cast))
    assert text.startswith("\ufeffvote,rater,item,")
    first, second = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert first["note"] == "'=1+1, 逗号\n第二行"
    assert (first["outcome"], first["left_correctness"], first["right_correctness"]) == ("tuned", "0", "2")
    assert (second["preference"], second["left_correctness"]) == ("skip", "")
    assert export.as_csv([]) == "\ufeffvote\n"
