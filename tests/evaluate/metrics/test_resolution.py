"""Resolution: who was helped by one answer, who at the first contact, and what only a proxy says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from log_rows import at, contact, short, turn

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.scoring import Measured, Sample, to_score, wilson
from tunewright.evaluate.compare import wrong_answer_floors
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.metrics.exact import Exact
from tunewright.evaluate.metrics.handling_time import HandlingTime
from tunewright.evaluate.metrics.options import ExactOptions
from tunewright.evaluate.metrics.resolution import Resolution, answer_labels, answers_needed
from tunewright.evaluate.metrics.resolution_log import as_score_row, label_of, refuse_recordings, seconds_of, turns_of
from tunewright.evaluate.metrics.resolution_options import HandlingTimeOptions, ResolutionOptions
from tunewright.evaluate.scorer import check_keys

CROSSWOZ = Path(__file__).resolve().parents[4] / "shared" / "data" / "crosswoz_zh" / "test.jsonl"
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "logs.md"
LATE = short("late", 31, customer="someone else", resolved=None)
"""A contact at the end of the month, so that the windows of the others are over."""


def measured(rows: list[Sample], **options: Any) -> dict[str, Measured]:
    return {one.metric: one for one in Resolution(ResolutionOptions(**options)).measure(rows)}


def value(rows: list[Sample], part: str, **options: Any) -> Any:
    """(the rate, its n)."""
    found = measured(rows, **options)[f"resolution.{part}"]
    return found.value, len(found.statistics)


def long(name: str, *labels: bool | None, **metadata: Any) -> Sample:
    """As many questions and answers as there are labels of answers."""
    turns = [one for label in labels for one in (turn("user"), turn("assistant", resolved=label))]
    return contact(name, turns, **metadata)


def test_one_answer_is_enough_only_when_it_was_the_only_one() -> None:
    rows = [
        long("one answer", None, resolved=True),
        long("two answers", None, None, resolved=True),
        long("not helped", None, resolved=False),
        long("unknown", None),
    ]
    assert value(rows, "single_turn") == (pytest.approx(1 / 3), 3)
    assert "unlabelled:1" in measured(rows)["resolution.single_turn"].signature


def test_a_label_on_the_first_answer_counts_although_the_customer_says_thanks() -> None:
    rows = [long("thanks", True, None, resolved=True), long("second", False, True, resolved=True), long("no", False)]
    assert value(rows, "single_turn") == (pytest.approx(1 / 3), 3)


def test_a_customer_who_says_no_outweighs_the_label_of_the_answer() -> None:
    assert value([long("a", True, resolved=False)], "single_turn") == (0, 1)


def test_a_row_without_turns_is_one_question_and_one_answer() -> None:
    rows = [Sample(id=n, prompt="?", reference="", prediction="!", metadata={"resolved": n != "c"}) for n in "abc"]
    assert value(rows, "single_turn") == (pytest.approx(2 / 3), 3)


def test_turns_of_the_assistant_in_a_row_are_one_answer() -> None:
    greeting = [turn("assistant"), turn("user"), turn("assistant"), turn("assistant", resolved=True)]
    labels = answer_labels(turns_of(contact("a", greeting), "metadata.turns"))
    assert labels == [True], "the greeting answers nothing"
    assert (answers_needed([None, None]), answers_needed([False, True]), answers_needed([False])) == (2, 2, None)
    assert answers_needed([]) is None


def test_the_first_contact_counts_when_the_customer_is_not_back() -> None:
    rows = [
        short("a", 1, customer="helped"),
        short("b", 1, customer="back"),
        short("c", 6, customer="back"),
        short("d", 1, customer="not helped", resolved=False),
        short("e", 1, customer="back later"),
        short("f", 20, customer="back later"),
        LATE,
    ]
    # First contacts: a (kept), b (back within 7 days), d (not resolved), e and f (19 days apart).
    assert value(rows, "first_contact") == (pytest.approx(3 / 5), 5)
    signature = measured(rows)["resolution.first_contact"].signature
    assert "window:7 days" in signature and "no first contact:1" in signature and "unlabelled:1" in signature
    explained = Resolution(ResolutionOptions()).explain(rows)
    assert [row and row["reason"] for row in explained] == [
        "resolved", "the customer was back", "no first contact", "not resolved", "resolved", "resolved", None,
    ]  # fmt: skip


def test_the_window_is_an_option() -> None:
    rows = [short("a", 1), short("b", 6), LATE]
    assert value(rows, "first_contact") == (0, 1)
    assert value(rows, "first_contact", window_days=3) == (1, 2)
    assert "window:3 days" in measured(rows, window_days=3)["resolution.first_contact"].signature


def test_another_intent_or_another_customer_is_no_return() -> None:
    rows = [short("a", 1), short("b", 2, intent="fee"), short("c", 2, customer="c2"), LATE]
    assert value(rows, "first_contact") == (1, 3)


def test_a_return_without_label_is_a_return() -> None:
    assert value([short("a", 1), short("b", 2, resolved=None), LATE], "first_contact") == (0, 1)


def test_a_chain_of_returns_has_one_first_contact() -> None:
    """Days 1, 6 and 11: the third is back within seven days of the second."""
    rows = [short("c", 11), short("a", 1), short("b", 6), LATE]
    assert value(rows, "first_contact") == (0, 1)


def test_contacts_whose_window_is_not_over_are_not_decided() -> None:
    rows = [short("a", 1, customer="a"), short("b", 9, customer="b"), short("c", 10, customer="c", resolved=False)]
    # The log ends on the 10th: b may still come back, c was not helped whatever happens.
    assert value(rows, "first_contact") == (pytest.approx(1 / 2), 2)
    assert "window not over:1" in measured(rows)["resolution.first_contact"].signature
    assert value(rows, "first_contact", observed_until="2026-03-20T00:00:00+08:00") == (pytest.approx(2 / 3), 3)
    with pytest.raises(ConfigError, match="'soon' is no time"):
        measured(rows, observed_until="soon")


def test_contacts_without_customer_are_counted_and_left_out() -> None:
    rows = [short("a", 1), short("b", 1, customer=None), LATE]
    assert value(rows, "first_contact") == (1, 1)
    assert "without customer or time:1" in measured(rows)["resolution.first_contact"].signature
    alone = measured([short("b", 1, customer=None)])
    assert set(alone) == {"resolution.single_turn"}
    assert alone["resolution.single_turn"].signature.endswith("no first contact is decided:without customer or time:1")


def test_raters_decide_by_majority_and_a_tie_is_no() -> None:
    assert label_of([True, True, False], "r") is True and label_of({"ann": "yes", "bo": "no"}, "r") is False
    assert label_of([], "r") is None and label_of(None, "r") is None and label_of([None, True], "r") is True
    assert label_of("已解决", "r") is True and label_of("ＮＯ", "r") is False and label_of(1, "r") is True
    with pytest.raises(ArtifactError, match=r"row r: .*'perhaps' is neither yes nor no"):
        label_of("perhaps", "r")


def test_times_in_several_forms() -> None:
    nine = 1772326800.0  # 2026-03-01 01:00:00 UTC: `date -u -d @1772326800`
    for said in ("2026-03-01T09:00:00+08:00", "2026-03-01T01:00:00Z", nine, int(nine * 1000)):
        assert seconds_of(said) == (nine, True), said
    assert seconds_of("2026/03/01 01:00:00") == (nine, False)
    assert seconds_of("soon") == seconds_of(None) == seconds_of(True) == (None, False)


def test_times_with_and_without_zone_cannot_be_ordered() -> None:
    rows = [short("a", 1), contact("b", [turn("user", "2026-03-01 09:00"), turn("assistant")], resolved=True)]
    with pytest.raises(ConfigError, match="some do not"):
        measured(rows)


def test_a_turn_of_an_unknown_role_is_named() -> None:
    with pytest.raises(ArtifactError, match="row x: a turn has the role 'agent'"):
        measured([contact("x", [turn("user"), turn("agent")], resolved=True)])


def test_new_answers_have_no_labels() -> None:
    rows = [short("a", 1).model_copy(update={"new_tokens": 5})]
    with pytest.raises(ConfigError, match="do not belong to new answers"):
        measured(rows)


def test_an_evaluation_refuses_it_before_anything_is_answered() -> None:
    with pytest.raises(ConfigError, match="'resolution' cannot score a model") as caught:
        refuse_recordings([Exact(ExactOptions()), Resolution(ResolutionOptions())])
    assert "tunewright score LOG.jsonl --metrics resolution" in caught.value.fix
    refuse_recordings([Exact(ExactOptions())])
    chosen = {"metrics": [{"name": "resolution"}, {"name": "exact"}], "primary": "resolution.single_turn"}
    with pytest.raises(ConfigError, match=r"'resolution.single_turn': it counts recorded conversations"):
        check_keys(EvaluateConfig.model_validate(chosen))


def test_a_recording_has_no_wrong_answer_floor() -> None:
    rows = [short("a", 1), short("b", 2, customer="c2", resolved=False), LATE]
    assert wrong_answer_floors(Resolution(ResolutionOptions()), rows, seed=7) == {}


def test_where_and_other_keys() -> None:
    rows = [short("a", 1, channel="chat"), short("b", 1, channel="mail", resolved=False)]
    assert value(rows, "single_turn", where={"metadata.channel": "chat"}) == (1, 1)
    other = [contact("a", [turn("user"), turn("assistant")], csat={"solved": "yes"})]
    assert value(other, "single_turn", resolved="metadata.csat.solved") == (1, 1)
    explained = Resolution(ResolutionOptions(where={"metadata.channel": "chat"})).explain(rows)
    assert explained[0] is not None and explained[1] is None


def test_only_whole_numbers_of_goal_slots_make_the_proxy() -> None:
    def with_slots(wanted: Any, done: Any) -> Sample:
        return contact("a", [turn("user"), turn("assistant")], goal_slots=wanted, goal_slots_done=done)

    found = measured([with_slots(3, 3), with_slots(4, 3), with_slots(0, 0), with_slots("3", 3)])
    assert set(found) == {"resolution.proxy_goal_slots"}
    proxy = found["resolution.proxy_goal_slots"]
    assert proxy.value == 0.5 and len(proxy.statistics) == 2
    assert "proxy, no label of a customer or rater" in proxy.signature and f"{6 / 7:.4f}" in proxy.signature


@pytest.mark.skipif(not CROSSWOZ.exists(), reason="the crosswoz_zh dialogues are not on this machine")
def test_crosswoz_gives_the_proxy_and_never_the_articles_measure() -> None:
    """119 of 120 dialogues and 1,797 of 1,798 slots, counted apart from this code:
    grep -o '"goal_slots":[0-9]*,"goal_slots_done":[0-9]*' test.jsonl |
    awk -F'[:,]' '{n++; if($2==$4) d++; w+=$2; g+=$4} END {print n, d, w, g}'."""
    lines = CROSSWOZ.read_text(encoding="utf-8").splitlines()
    rows = [
        Sample.model_validate({"id": str(number), **_without_id(as_score_row(json.loads(line)))})
        for number, line in enumerate(lines)
    ]
    found = measured(rows)
    assert set(found) == {"resolution.proxy_goal_slots"}, "no label says that a customer was helped"
    score = to_score(found["resolution.proxy_goal_slots"], seed=7)
    assert score.n == 120 and score.value == pytest.approx(119 / 120)
    assert (score.low, score.high) == pytest.approx(wilson(119, 120))
    assert f"slots given:{1797 / 1798:.4f}" in score.signature


def _without_id(row: dict[str, Any]) -> dict[str, Any]:
    return {key: found for key, found in row.items() if key != "id"}


def test_the_rows_of_the_guide_are_read_as_it_says() -> None:
    """c-1041: one answer, four seconds. c-1042: the second answer resolved it; 4 + 6 seconds, the user took 60."""
    blocks = re.findall(r"```json\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    rows = [Sample.model_validate(as_score_row(json.loads(block))) for block in blocks]
    said = Resolution(ResolutionOptions()).explain(rows)
    assert [row and row["single_turn"] for row in said] == [True, False]
    assert [row and row["answers_needed"] for row in said] == [1, 2] and all(row and row["resolved"] for row in said)
    minutes = HandlingTime(HandlingTimeOptions()).explain(rows)
    assert minutes[0] == pytest.approx({"minutes": 4 / 60, "user_think": 0, "span": 4 / 60})
    assert minutes[1] == pytest.approx({"minutes": 10 / 60, "user_think": 1, "span": 70 / 60})


def test_a_log_row_becomes_a_row_of_score() -> None:
    log = {"id": "7", "conversation": [turn("user", at(1)), turn("assistant", at(1, 1))], "metadata": {"resolved": 1}}
    row = as_score_row(log)
    assert (row["prompt"], row["prediction"], row["reference"]) == ("user says", "assistant says", "")
    assert row["metadata"] == {"resolved": 1, "turns": log["conversation"]}
    plain = {"prediction": "x", "reference": "y"}
    assert as_score_row(plain) == plain
    with pytest.raises(ValueError, match="must be a list of turns"):
        as_score_row({"conversation": "hello"})
    with pytest.raises(ValueError, match="must be an object"):
        as_score_row({"conversation": [], "metadata": 3})
