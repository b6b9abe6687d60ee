"""Handling time in minutes: of people as recorded, of a bot by its turns, the user's own time apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from log_rows import at, contact, turn

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample, to_score
from tunewright.evaluate.metrics.handling_time import HandlingTime
from tunewright.evaluate.metrics.resolution_options import HandlingTimeOptions


def measured(rows: list[Sample], **options: Any) -> dict[str, Measured]:
    return {one.metric: one for one in HandlingTime(HandlingTimeOptions(**options)).measure(rows)}


def talk(name: str, *moves: tuple[str, float], **metadata: Any) -> Sample:
    """moves: (role, minutes after nine)."""
    return contact(name, [turn(role, at(1, minute)) for role, minute in moves], **metadata)


def people(name: str, **seconds: float) -> Sample:
    return Sample(id=name, prompt="", reference="", prediction="", metadata=seconds)


def test_the_users_own_time_stands_apart() -> None:
    """0 user, 1 bot, 4 user (thought for 3), 6 bot: span 6, thinking 3, handling 3."""
    found = measured([talk("a", ("user", 0), ("assistant", 1), ("user", 4), ("assistant", 6))])
    assert {key: one.value for key, one in found.items()} == pytest.approx({
        "handling_time": 3, "handling_time.p50": 3, "handling_time.p95": 3,
        "handling_time.user_think": 3, "handling_time.span": 6,
    })  # fmt: skip
    assert all(one.unit == "min" and not one.higher_is_better for one in found.values())


def test_the_clock_runs_from_the_first_question_to_the_last_answer() -> None:
    """The greeting before and the thanks after are no work on the contact."""
    found = measured([talk("a", ("assistant", 0), ("user", 5), ("assistant", 7), ("user", 60))])
    assert found["handling_time"].value == found["handling_time.span"].value == pytest.approx(2)
    assert found["handling_time.user_think"].value == 0


def test_a_second_message_of_a_waiting_user_does_not_stop_the_clock() -> None:
    found = measured([talk("a", ("user", 0), ("user", 3), ("assistant", 4))])
    assert found["handling_time"].value == pytest.approx(4)


def test_people_are_counted_as_recorded() -> None:
    rows = [people("a", talk_s=120, hold_s=30, wrap_s=30), people("b", talk_s=60), people("c", talk_s=0)]
    found = measured(rows)
    assert found["handling_time"].value == pytest.approx((3 + 1 + 0) / 3)
    assert set(found) == {"handling_time", "handling_time.p50", "handling_time.p95"}
    assert "minutes|talk+hold+wrap:3|" in found["handling_time"].signature


def test_percentiles_and_their_intervals() -> None:
    minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 30]
    found = measured([people(str(n), talk_s=60 * n) for n in minutes])
    assert found["handling_time.p50"].value == pytest.approx(5.5)
    assert found["handling_time.p95"].value == pytest.approx(float(np.percentile(minutes, 95)))
    score = to_score(found["handling_time"], seed=7)
    assert score.n == 10 and score.low < 7.5 == score.value < score.high
    resampled = found["handling_time.p95"].aggregate(np.full((3, 10, 1), 4.0))
    assert resampled.tolist() == [4, 4, 4]


def test_what_cannot_be_counted_is_named_with_its_reason() -> None:
    rows = [
        talk("good", ("user", 0), ("assistant", 1)),
        talk("nobody answered", ("user", 0), ("user", 2)),
        talk("disorder", ("user", 5), ("assistant", 1)),
        contact("a hole", [turn("user", at(1)), turn("assistant")]),
        contact("no times", [turn("user"), turn("assistant")]),
    ]
    found = measured(rows)
    assert found["handling_time"].value == pytest.approx(1) and len(found["handling_time"].statistics) == 1
    signature = found["handling_time"].signature
    assert "left out:not answered:1|times in disorder:1|without all times:1" in signature
    explained = HandlingTime(HandlingTimeOptions()).explain(rows)
    assert explained[0] == {"minutes": 1, "user_think": 0, "span": 1}
    assert explained[2] == {"left_out": "times in disorder"} and explained[4] is None


def test_nothing_that_applies_gives_nothing() -> None:
    assert measured([people("a", seconds=3)]) == {}
    assert measured([talk("a", ("user", 0), ("assistant", 1), channel="mail")], where={"channel": "chat"}) == {}
    assert measured([people("a", duration=90)], talk="metadata.duration")["handling_time"].value == 1.5


def test_new_answers_have_no_recorded_times() -> None:
    with pytest.raises(ConfigError, match="'handling_time' cannot score a model: it counts recorded"):
        measured([people("a", talk_s=3).model_copy(update={"new_tokens": 1})])
