"""What so many rows can show: formulas against published values, simulation and the tests themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Z_95, mcnemar
from tunewright.evaluate.config import Gate
from tunewright.evaluate.multiplicity import holm
from tunewright.evaluate.power import POWER, Known, check, margin_of, needed, smallest, statement


def test_rows_for_a_difference_are_those_of_connors_formula() -> None:
    """Discordance 0.5, difference 0.05: (1.96 sqrt(0.5) + 0.8416 sqrt(0.4975))^2 / 0.0025 = 1567.6, by hand."""
    assert needed(Known("m", "yes/no", 84), 0.05) == 1568
    assert needed(Known("m", "yes/no", 84, lost=0.05), 0.05) == math.ceil(
        ((Z_95 * math.sqrt(0.15) + 0.8416212335729143 * math.sqrt(0.1475)) / 0.05) ** 2
    )


@pytest.mark.parametrize("n", [12, 70, 84, 800, 3080])
def test_the_smallest_difference_needs_just_these_rows(n: int) -> None:
    known = Known("m", "yes/no", n)
    found = smallest(known)
    assert found is not None
    assert needed(known, found + 1e-9) == n
    assert (needed(known, found * 0.9) or 0) > n


@pytest.mark.parametrize(("n", "lost"), [(84, None), (400, None), (400, 0.05)])
def test_the_test_shows_that_difference_four_times_in_five(n: int, lost: float | None) -> None:
    """Drawn pairs with the assumed discordance and the smallest difference. The exact test is a little stricter than
    the normal approximation, so a few points less than 80 % are right."""
    known = Known("m", "yes/no", n, lost=lost)
    margin = smallest(known)
    assert margin is not None
    discordance = 0.5 if lost is None else 2 * lost + margin
    gain, loss = (discordance + margin) / 2, (discordance - margin) / 2
    generator, shown, draws = np.random.default_rng(7), 0, 400
    for _ in range(draws):
        gained, dropped, _ = generator.multinomial(n, [gain, loss, 1 - gain - loss])
        tuned = [True] * gained + [False] * dropped
        shown += mcnemar(tuned, [not value for value in tuned]) < 0.05
    assert POWER - 0.09 < shown / draws < POWER + 0.06


def test_fewer_than_six_discordant_rows_never_show_anything() -> None:
    """2 / 2^5 = 0.0625 and 2 / 2^6 = 0.031 in the exact test."""
    assert mcnemar([True] * 5, [False] * 5) > 0.05 > mcnemar([True] * 6, [False] * 6)
    assert smallest(Known("m", "yes/no", 5)) == math.inf
    assert (smallest(Known("m", "yes/no", 1000, lost=0.0)) or 0) >= 6 / 1000


def test_means_go_by_the_spread_of_an_earlier_run_else_by_the_worst_one() -> None:
    """Worst: both systems have the variance 100^2 / 4 and are independent, so the difference has sd 70.7."""
    worst = smallest(Known("bleu", "mean", 100, scale=100.0))
    assert worst == pytest.approx((1.959964 + 0.841621) * 70.7107 / 10, rel=1e-4)
    earlier = Known("bleu", "mean", 100, scale=100.0, sd=20.0)
    assert smallest(earlier) == pytest.approx(5.6032, rel=1e-4)
    assert needed(earlier, 5.0) == 126
    assert smallest(Known("x", "mean", 100, scale=math.inf)) is None, "seconds have no largest difference"


def test_three_repeats_of_a_timing_never_show_a_difference() -> None:
    """2 / C(6, 3) = 0.1, 2 / C(8, 4) = 0.029."""
    assert smallest(Known("latency.p50_s", "unpaired", 3)) == math.inf
    assert smallest(Known("latency.p50_s", "unpaired", 4)) is None
    assert needed(Known("latency.p50_s", "unpaired", 3), 0.1) == 4


@pytest.mark.parametrize(
    ("when", "base", "margin"),
    [
        (">= base + 0.05", None, 0.05),
        ("<= base - 0.02", None, 0.02),
        (">= promoted + 0.05", None, 0.05),
        (">= base", None, None),
        (">= base - 0.05", None, None),
        ("<= base + 0.05", None, None),
        (">= base * 1.1", None, 0.1),  # at most: the base may have 1
        (">= base * 1.1", 0.5, 0.05),
        ("<= base * 0.8", 0.5, 0.1),
        ("<= base * 1.1", 0.5, None),
        (">= 0.8", None, None),
        (">= 0.8", 0.7, 0.1),
    ],
)
def test_the_margin_a_gate_names(when: str, base: float | None, margin: float | None) -> None:
    found = margin_of(Gate(metric="m", when=when, significant=True), Known("m", "yes/no", 84, base=base))
    assert found == (None if margin is None else pytest.approx(margin))


def test_an_undecidable_gate_is_refused_with_the_rows_it_needs() -> None:
    gates = [
        Gate(metric="m", when=">= base + 0.05", significant=True),
        Gate(metric="m", when=">= base + 0.3", significant=True),
        Gate(metric="m", when=">= base + 0.05"),
        Gate(metric="t", when="<= base - 1", significant=True),
    ]
    known = [Known("m", "yes/no", 84), Known("t", "unpaired", 2, scale=math.inf)]
    with pytest.raises(ConfigError) as caught:
        check(gates, known, on="tuned")
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert "evaluate.gates.0: `m >= base + 0.05` cannot be decided: 84 rows can show a difference of 0.213" in text
    assert "a margin of 0.05 needs 1,568 rows" in text
    assert "gates.1" not in text and "gates.2" not in text
    assert "evaluate.gates.3: `t <= base - 1` cannot be decided: 2 measurements never show a difference, 4 can" in text


def test_undecidable_can_be_a_warning_and_counts_where_the_gate_is() -> None:
    gate = Gate(metric="m", when=">= base + 0.05", significant=True, undecidable="warn")
    assert "needs 1,568 rows" in check([gate], [Known("m", "yes/no", 84)], on="tuned")[0]
    assert check([gate], [Known("m", "yes/no", 84)], on="quantized") == []
    assert check([gate], [Known("m", "yes/no", 2000)], on="tuned") == []


def test_statements_in_words() -> None:
    assert statement(Known("m", "yes/no", 84)).text() == (
        "m: 84 rows can show a difference of 0.213 or more (80% power at p < 0.05, assuming the worst: the systems "
        "differ on 50% of the answers)"
    )
    earlier = statement(Known("m", "mean", 84, sd=0.2, source="runs/p/evaluate/0001"))
    assert "spread as in runs/p/evaluate/0001" in earlier.text()
    never = statement(Known("t", "unpaired", 3))
    assert never.never and never.smallest is None and "can never show a difference" in never.text()
    assert "not known before a first run" in statement(Known("x", "mean", 9, scale=math.inf)).text()


def test_holm_by_hand() -> None:
    """0.01 x 3 = 0.03, 0.02 x 2 = 0.04, 0.9 x 1; the published order of the procedure, never falling."""
    assert holm({"a": 0.02, "b": 0.01, "c": 0.9}) == pytest.approx({"b": 0.03, "a": 0.04, "c": 0.9})
    assert holm({"a": 0.03, "b": 0.02}) == pytest.approx({"b": 0.04, "a": 0.04})
    assert holm({"a": 0.7, "b": 0.6}) == {"b": 1.0, "a": 1.0} and holm({}) == {}
