"""Numbers from votes that were made by hand, so that each can be checked on paper."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from rating_kit import vote

from tunewright.core.agreement import NO_PAIRS
from tunewright.core.scoring import wilson
from tunewright.rating import table
from tunewright.rating.preference import MOST_MORE, items_needed, pairs
from tunewright.rating.results import Rate, results
from tunewright.rating.store import Progress

SYSTEMS = ("base", "tuned")


def test_win_rate_counts_items_not_votes() -> None:
    """Item 0 goes to tuned 2:0, item 1 to base 2:1, item 2 is split, item 3 a tie, item 4 to tuned 1:0 over a tie."""
    cast = [
        *(vote(0, rater, "tuned") for rater in "lw"),
        *(vote(1, rater, outcome) for rater, outcome in zip("lwm", ("base", "base", "tuned"), strict=True)),
        *(vote(2, rater, outcome) for rater, outcome in zip("lw", SYSTEMS, strict=True)),
        *(vote(3, rater, outcome) for rater, outcome in zip("lw", ("tie", "both_bad"), strict=True)),
        *(vote(4, rater, outcome) for rater, outcome in zip("lw", ("tie", "tuned"), strict=True)),
    ]
    (pair,) = pairs(cast, SYSTEMS)
    assert (pair.items, pair.items_first, pair.items_second, pair.decided) == (5, 1, 2, 3)
    assert dict(pair.votes) == {"tuned": 5, "base": 3, "tie": 2, "both_bad": 1}
    assert pair.rate == pytest.approx(2 / 3)
    assert pair.interval == wilson(2, 3)


def test_a_clear_lead_is_a_verdict_and_a_small_one_says_how_many_votes_are_missing() -> None:
    (clear,) = pairs([vote(item, "l", "tuned" if item else "base") for item in range(20)], SYSTEMS)
    assert clear.p == pytest.approx(2 * (1 + 20) / 2**20), "exact sign test: 19 of 20"
    assert clear.verdict.startswith("tuned is preferred")
    assert clear.more_votes == 0
    outcomes = ["tuned"] * 6 + ["base"] * 4 + ["tie"] * 10
    (small,) = pairs([vote(item, "l", outcome) for item, outcome in enumerate(outcomes)], SYSTEMS)
    assert small.more_items == 97 - 10, "(1.96 / 0.2)^2 = 96.04, so 97 decided items at 60 %"
    assert small.more_votes == 2 * 87, "every second vote decides an item"
    assert "no difference shown" in small.verdict and "about 174 more votes" in small.verdict


def test_items_needed_follows_the_interval() -> None:
    for wins, decided in ((6, 10), (55, 100), (4, 5)):
        more = items_needed(wins, decided)
        assert more is not None
        rate, total = wins / decided, decided + more
        assert abs(rate - 0.5) >= 1.959 * 0.5 / math.sqrt(total), "the interval leaves one half out"
        assert abs(rate - 0.5) < 1.961 * 0.5 / math.sqrt(total - 1) or more == 1, "and one item less does not"
    assert items_needed(5, 10) is None
    assert items_needed(0, 0) is None
    assert items_needed(50_001, 100_000) is None, f"beyond {MOST_MORE}"


def test_an_even_vote_never_promises_a_number() -> None:
    (even,) = pairs([vote(item, "l", SYSTEMS[item % 2]) for item in range(10)], SYSTEMS)
    assert "more than 10,000 more items" in even.verdict
    (none,) = pairs([vote(item, "l", "tie") for item in range(4)], SYSTEMS)
    assert none.verdict == "no verdict yet: no item is decided"
    assert none.rate is None


def test_repeats_and_skips_change_no_result() -> None:
    cast = [vote(item, "l", "tuned", tuned=2) for item in range(6)]
    more = [
        *cast,
        vote(0, "l", "base", base=2, position=6, repeat_of=0),
        vote(7, "l", "skip", position=7),
    ]
    one, two = results(cast, SYSTEMS, seed=1), results(more, SYSTEMS, seed=1)
    assert (one.pairs, one.levels, one.alpha) == (two.pairs, two.levels, two.alpha)
    assert two.raters[0].skipped == 1
    assert two.raters[0].preference == Rate(0, 1)


def test_consistency_compares_a_repeat_with_its_first_showing() -> None:
    cast = [
        vote(0, "l", "tuned", base=0, tuned=2),
        vote(1, "l", "tie"),
        vote(0, "l", "tuned", base=0, tuned=1, position=6, repeat_of=0),
        vote(1, "l", "skip", position=7, repeat_of=1),
    ]
    (rater,) = results(cast, SYSTEMS, seed=1).raters
    assert rater.preference == Rate(1, 1), "a skipped repeat compares with nothing"
    assert rater.levels == Rate(3, 6), "three of base are the same, three of tuned are not"
    assert rater.left == Rate(0, 1), "tuned stood on the right"


def test_ordinal_alpha_is_krippendorffs() -> None:
    """Two raters on 2 answers each of 4 items: equal but for one answer, usable against good.

    Coincidences: bad-bad 4, usable-usable 6, good-good 4, usable-good 1 each way; n = 4, 7, 5. Observed distances:
    2 x 6^2 = 72 with d(usable, good) = 7/2 + 5/2. Expected: 2 (4 x 7 x 5.5^2 + 4 x 5 x 11.5^2 + 7 x 5 x 6^2) / 15.
    """
    levels = [(0, 1), (0, 1), (1, 2), (2, 1)]
    cast = [
        vote(item, rater, "tie", base=base, tuned=tuned if (rater, item) != ("w", 3) else 2)
        for item, (base, tuned) in enumerate(levels)
        for rater in "lw"
    ]
    found = results(cast, SYSTEMS, seed=1)
    expected = 2 * (4 * 7 * 5.5**2 + 4 * 5 * 11.5**2 + 7 * 5 * 6**2) / 15
    assert found.alpha["correctness"].value == pytest.approx(1 - 72 / expected)
    assert found.raw["correctness"].value == pytest.approx(7 / 8)
    assert found.alpha["correctness"].n == 8


def test_one_rater_has_no_agreement_and_says_so() -> None:
    found = results([vote(0, "l", "tie")], SYSTEMS, seed=1)
    assert found.alpha["correctness"].text == NO_PAIRS


def test_levels_show_the_distribution_and_the_difference() -> None:
    cast = [vote(item, rater, "tuned", base=item % 2, tuned=2) for item in range(10) for rater in "lw"]
    found = results(cast, SYSTEMS, seed=1)
    base, tuned = (one for one in found.levels if one.dimension == "interaction")
    assert (base.counts, base.mean, base.items) == ((10, 10, 0), 0.5, 10)
    assert (tuned.counts, tuned.mean, tuned.low, tuned.high) == ((0, 0, 20), 2.0, 2.0, 2.0)
    gap = found.gaps[0]
    assert (gap.difference, gap.items) == (1.5, 10)
    assert gap.verdict.startswith("tuned is better")
    assert 1.0 < gap.low < 1.5 < gap.high < 2.0


def test_equal_levels_show_no_difference() -> None:
    found = results([vote(item, "l", "tie") for item in range(5)], SYSTEMS, seed=1)
    assert all(gap.verdict.startswith("no difference shown") for gap in found.gaps)


def test_three_systems_are_ranked_and_two_are_not() -> None:
    cast = []
    for item in range(60):
        left, right = [("a", "b"), ("b", "c"), ("a", "c")][item % 3]
        outcome = "base" if item % 10 else "tuned"
        cast.append(dataclasses.replace(vote(item, "l", outcome), left=left, right=right))
    found = results(cast, ("a", "b", "c"), seed=1)
    assert [one.system for one in found.ranking] == ["a", "b", "c"]
    best, _, last = found.ranking
    assert best.low <= best.value <= best.high
    assert best.value > last.value + 1 and best.chance > 0.5 > last.chance
    assert results([vote(0, "l", "tie")], SYSTEMS, seed=1).ranking == ()


def test_dump_and_text_hold_the_same_verdict() -> None:
    cast = [vote(item, rater, "tuned", tuned=2) for item in range(10) for rater in ("lin", "wu")]
    found = results(cast, SYSTEMS, seed=1)
    dumped = json.loads(json.dumps(found.dump(), allow_nan=False))
    text = table.text(found, {"lin": Progress(10, 11), "wu": Progress(10, 11), "mara": Progress(0, 11)})
    assert dumped["pairs"][0]["verdict"] in text
    assert dumped["pairs"][0]["votes"] == {"base": 0, "tuned": 20, "tie": 0, "both_bad": 0}
    assert "mara" in text and "0 of 11" in text
    assert "alpha (Krippendorff)" in text
    assert "no votes yet" in table.text(results([], SYSTEMS, seed=1), {})


def test_the_example_of_the_guide_is_what_is_printed() -> None:
    """Two raters on 22 items: 12 go to after, 5 to before, 2 are split, 2 equal, 1 bad on both sides."""
    outcomes = ["tuned"] * 12 + ["base"] * 5 + ["split"] * 2 + ["tie"] * 2 + ["both_bad"]
    both = {"split": ("base", "tuned")}
    cast = [
        dataclasses.replace(vote(item, rater, said), left="before", right="after")
        for item, outcome in enumerate(outcomes)
        for rater, said in zip("lw", both.get(outcome, (outcome, outcome)), strict=True)
    ]
    printed = table.text(results(cast, ("before", "after"), seed=7), {}).split("\n\n")[0]
    guide = Path(__file__).resolve().parents[2] / "docs" / "guides" / "rating.md"
    assert f"```text\n{printed}\n```" in guide.read_text(encoding="utf-8"), printed
