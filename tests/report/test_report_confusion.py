"""The confusion of labels on the page: the pairs mixed up most and the matrix."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from tunewright.report.confusion import MOST_LABELS, matrix, mixed_up
from tunewright.report.svg import text_width

FOUND = {"labels": ["fee", "pin", "(no label)"], "counts": [[1, 1, 0], [2, 0, 1], [0, 0, 0]]}


def forty_labels() -> dict[str, Any]:
    """All right but one question about label 39, which was answered with label 38."""
    counts = [[int(i == j) for j in range(40)] for i in range(40)]
    counts[39][38] = 1
    return {"labels": [f"label <{i:02d}>" for i in range(40)], "counts": counts}


def test_the_commonest_mistakes_stand_first() -> None:
    assert mixed_up(FOUND) == [("pin", "fee", 2), ("fee", "pin", 1), ("pin", "(no label)", 1)]


def test_the_matrix_shows_the_labels_mixed_up_most() -> None:
    picture = ElementTree.fromstring(matrix(forty_labels()))
    titles = [title.text or "" for rect in picture.iter("rect") for title in rect]
    assert len(titles) == MOST_LABELS * MOST_LABELS
    assert "label <39> answered with label <38>: 1 of 2" in titles
    assert not any("label <30>" in title for title in titles), "labels without a mistake make room"


def test_long_labels_are_cut_to_their_room_in_both_scripts() -> None:
    names = ["银行卡丢失以后如何挂失并且补办新的卡片", "a_label_that_is_longer_than_its_room_is_wide", "短"]
    picture = matrix({"labels": names, "counts": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]})
    shown = {str(text.text) for text in ElementTree.fromstring(picture).iter("text")} - {"1"}
    assert "短" in shown and len(shown) == 3
    assert all(text.endswith("…") and text_width(text) <= 200 for text in shown - {"短"})
