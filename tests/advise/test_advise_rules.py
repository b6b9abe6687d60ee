"""Each rule says the right thing for the right reason, and cites who says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from advise_kit import DEEPSEEK, SMOLLM, facts

from tunewright.advise.history import PastRun, best_of
from tunewright.advise.length import at_share, length_of
from tunewright.advise.proposal import Line, Proposal
from tunewright.advise.rules import batch_for, chosen_method, propose, rank_for, rate_for
from tunewright.advise.sources import SOURCES
from tunewright.core.registry import PluginOptions
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import FullOptions, LoraOptions

METHODS = frozenset({"lora", "full", "ia3", "prefix"})
BANKING = TrainConfig(method=LoraOptions(), epochs=3, learning_rate=1e-3, rows_per_step=4)


def line(proposal: Proposal, key: str) -> Line:
    return next(line for line in proposal.lines if line.key == key)


def run(losses: list[float], train: TrainConfig = BANKING, path: str = "train/0001") -> PastRun:
    points = tuple((10 * number, loss) for number, loss in enumerate(losses, start=1))
    best = min(points, key=lambda point: point[1])
    steps = points[-1][0]
    return PastRun(path, train, best[1], steps, best[0] / steps, points)


def test_a_good_project_is_left_alone() -> None:
    """examples/finance/banking77.yaml's settings: every line says keep."""
    proposal = propose(facts(), BANKING, ())
    assert proposal.train == BANKING
    assert [line.key for line in proposal.lines if line.changes] == []
    assert all(line.why and line.sources for line in proposal.lines)


def test_every_cited_source_is_known_and_every_source_is_cited_somewhere() -> None:
    proposal = propose(facts(), BANKING, ())
    assert {name for line in proposal.lines for name in line.sources} <= set(SOURCES)
    assert all(source.place and len(source.says) > 20 for source in SOURCES.values())


@pytest.mark.parametrize(
    ("model", "method", "steps", "rate", "source"),
    [
        (SMOLLM, "lora", 375, 1.3e-3, "tinker-lr"),  # 5e-5 * 10 * (2000 / 576) ** 0.781 = 1.32e-3
        (SMOLLM, "lora", 99, 2.0e-3, "tinker-lr"),  # 15 x instead of 10 x: 1.98e-3
        (DEEPSEEK, "lora", 1000, 2.9e-4, "tinker-lr"),  # 5e-4 * (2000 / 4096) ** 0.781 = 2.86e-4
        (DEEPSEEK, "full", 1000, 2.9e-5, "tinker-lr"),  # near the article's 3e-5
        (DEEPSEEK, "ia3", 1000, 3e-3, "liu"),
        (DEEPSEEK, "prefix", 1000, 1e-2, "peft-prefix"),
    ],
)
def test_learning_rate(model: Any, method: str, steps: int, rate: float, source: str) -> None:
    found, why, sources = rate_for(facts(model), method, steps)
    assert found == pytest.approx(rate)
    assert source in sources
    if method == "lora":
        assert f"{steps} steps" in why


def test_a_family_that_nobody_fitted_is_said() -> None:
    other = replace(SMOLLM, family="gemma2")
    assert "not on gemma2" in rate_for(facts(other), "lora", 500)[1]
    assert "not on" not in rate_for(facts(), "lora", 500)[1]


def test_a_rate_near_the_rule_stays_and_one_far_off_does_not() -> None:
    near = propose(facts(), BANKING.model_copy(update={"learning_rate": 1e-3}), ())
    far = propose(facts(), BANKING.model_copy(update={"learning_rate": 2e-4}), ())
    assert near.train.learning_rate == 1e-3
    assert far.train.learning_rate == pytest.approx(1.3e-3)
    assert line(far, "train.learning_rate").now == 2e-4


@pytest.mark.parametrize(("tokens", "rank"), [(3_581, 16), (4_884_480, 16), (4_884_481, 32), (60_000_000, 256)])
def test_rank_holds_the_trained_tokens(tokens: int, rank: int) -> None:
    """16 x 305,280 = 4,884,480 weights: one token more needs the next rank."""
    assert rank_for(facts(trained_tokens=tokens))[0] == rank


def test_a_higher_rank_of_the_user_stays_and_alpha_and_targets_follow_the_sources() -> None:
    now = BANKING.model_copy(update={"method": LoraOptions(rank=64, alpha=128, targets=("q_proj", "v_proj"))})
    proposal = propose(facts(), now, ())
    assert proposal.train.method == LoraOptions(rank=64, alpha=32, targets="all-linear")
    assert line(proposal, "train.method.targets").now == ["q_proj", "v_proj"]
    assert "attention alone" in line(proposal, "train.method.targets").why


@pytest.mark.parametrize(
    ("now", "known", "wanted", "reason", "source"),
    [
        ("full", {"model": DEEPSEEK, "memory_gb": 24}, "lora", "110.6 GB", "zero"),
        ("full", {"model": DEEPSEEK, "memory_gb": 200}, "lora", "keeps more of the base", "biderman"),
        ("full", {"trained_tokens": 90_000_000}, "full", "more than LoRA of rank 256", "schulman"),
        ("lora", {"trained_tokens": 90_000_000}, "full", "more than LoRA of rank 256", "schulman"),
        ("lora", {"model": DEEPSEEK, "trained_tokens": 10**9, "memory_gb": 24}, "lora", "110.6 GB", "zero"),
        ("lora", {"model": DEEPSEEK, "rows": 50}, "ia3", "50 rows", "liu"),
        ("lora", {"rows": 50}, "lora", "with less memory", "schulman"),
        ("ia3", {"rows": 50}, "lora", "135 M weights", "liu"),
        ("ia3", {"model": DEEPSEEK}, "lora", "500 rows", "liu"),
        ("prefix", {}, "lora", "from a prefix", "prefix-limits"),
        ("strange", {}, "strange", "no rule", "house"),
    ],
)
def test_method(now: str, known: dict[str, Any], wanted: str, reason: str, source: str) -> None:
    name, why, sources = chosen_method(facts(**known), now, METHODS)
    assert name == wanted
    assert reason in why
    assert source in sources


def test_a_method_that_is_not_installed_is_not_proposed() -> None:
    assert chosen_method(facts(DEEPSEEK, rows=50), "lora", frozenset({"lora", "full"}))[0] == "lora"


def test_full_that_does_not_fit_becomes_lora_with_its_own_rate() -> None:
    now = TrainConfig(method=FullOptions(), epochs=3, learning_rate=3e-5, rows_per_step=32)
    proposal = propose(facts(DEEPSEEK, rows=20_000, memory_gb=24), now, ())
    assert proposal.train.method.name == "lora"
    assert proposal.train.learning_rate == pytest.approx(2.9e-4)


@pytest.mark.parametrize(("rows", "batch"), [(20, 4), (500, 4), (1000, 8), (2305, 16), (50_000, 32)])
def test_batch(rows: int, batch: int) -> None:
    assert batch_for(rows) == batch


def test_a_batch_above_32_is_cut_and_tokens_per_step_too() -> None:
    large = propose(facts(rows=50_000, tokens=50_000 * 40), BANKING.model_copy(update={"rows_per_step": 256}), ())
    assert large.train.rows_per_step == 32
    by_tokens = BANKING.model_copy(update={"rows_per_step": None, "tokens_per_step": 8192})
    assert propose(facts(), by_tokens, ()).train.tokens_per_step == round(32 * 21_376 / 500)


@pytest.mark.parametrize(
    ("rows", "now", "epochs"),
    [(500, 3, 3), (500, 1, 3), (500, 20, 3), (500, 2, 2), (40, 3, 10), (120, 3, 4), (200_000, 10, 4)],
)
def test_epochs_from_the_number_of_rows(rows: int, now: float, epochs: float) -> None:
    proposal = propose(facts(rows=rows), BANKING.model_copy(update={"epochs": now}), ())
    assert proposal.train.epochs == epochs


def test_a_length_in_steps_stays_where_it_is_right_and_becomes_epochs_where_not() -> None:
    right = propose(facts(), BANKING.model_copy(update={"epochs": None, "steps": 375}), ())
    assert (right.train.epochs, right.train.steps) == (None, 375)
    short = propose(facts(), BANKING.model_copy(update={"epochs": None, "steps": 30}), ())
    assert (short.train.epochs, short.train.steps) == (3, None)


def test_a_run_that_overfitted_is_shortened_and_regularized() -> None:
    proposal = propose(facts(), BANKING, (run([1.0, 0.5, 0.6, 0.8]),))
    assert proposal.train.epochs == 1.5  # best at half of 3 epochs
    assert proposal.train.weight_decay == 0.1
    assert "best at 50% of the run, then 60% worse" in line(proposal, "train.epochs").why
    assert "article" in line(proposal, "train.weight_decay").sources


def test_a_run_that_was_still_falling_is_prolonged_and_a_flat_one_is_not() -> None:
    assert propose(facts(), BANKING, (run([1.0, 0.8, 0.6]),)).train.epochs == 5
    assert propose(facts(), BANKING, (run([1.0, 0.6, 0.599]),)).train.epochs == 3


def test_one_run_is_no_best_run_and_of_two_settings_the_lower_loss_is() -> None:
    other = BANKING.model_copy(update={"learning_rate": 5e-3})
    alone, worse = run([0.5]), run([0.7], other, "train/0002")
    assert best_of([alone]) is None
    assert best_of([alone, run([0.4])]) is None  # the same settings twice
    assert best_of([alone, worse]) is alone


@pytest.mark.parametrize(("rows", "stops"), [(200, True), (5, False)])
def test_early_stopping_needs_enough_validation_rows(rows: int, stops: bool) -> None:
    proposal = propose(facts(validation_rows=rows), BANKING, ())
    assert (proposal.train.early_stopping is not None) is stops
    off = propose(facts(validation_rows=rows), BANKING.model_copy(update={"early_stopping": None}), ())
    assert (off.train.early_stopping is not None) is stops


def test_memory_asks_for_checkpointing_then_for_smaller_micro_batches_then_gives_up() -> None:
    """7B LoRA: 13.8 GB + 0.6 GB; 2,048 tokens of activations are 49.5 x 2048 x 30 x 4096 = 12.5 GB."""
    known = {"rows": 5000, "tokens": 500_000, "longest_tokens": 500}
    roomy = propose(facts(DEEPSEEK, memory_gb=40, **known), BANKING, ())
    tight = propose(facts(DEEPSEEK, memory_gb=24, **known), BANKING, ())
    tighter = propose(facts(DEEPSEEK, memory_gb=16.6, **known), BANKING, ())
    small = propose(facts(DEEPSEEK, memory_gb=4, **known), BANKING, ())
    assert (roomy.train.gradient_checkpointing, roomy.train.micro_batch_tokens) == (False, 2048)
    assert (tight.train.gradient_checkpointing, tight.train.micro_batch_tokens) == (True, 2048)
    assert tighter.train.gradient_checkpointing and tighter.train.micro_batch_tokens < 2048
    assert "12.5 GB" in line(tight, "train.gradient_checkpointing").why
    assert not any("do not fit" in note for note in tight.notes)
    assert any("do not fit into 4.0 GB" in note for note in small.notes)


def test_a_base_that_does_not_fit_is_held_in_4_bits() -> None:
    """The facts page: 14.42 GB in 16 bits with rank 16 on all linear layers; 5.41 GB in 4 bits."""
    proposal = propose(facts(DEEPSEEK, memory_gb=12), BANKING, ())
    assert isinstance(proposal.train.method, LoraOptions)
    assert proposal.train.method.base_bits == 4
    assert "in 16 bits 14.4 GB" in line(proposal, "train.method.base_bits").why
    assert "in 4 bits 5.4" in line(proposal, "train.method.base_bits").why
    kept = propose(facts(DEEPSEEK, memory_gb=40), BANKING, ())
    assert isinstance(kept.train.method, LoraOptions)
    assert kept.train.method.base_bits is None


def test_a_method_without_a_rule_keeps_its_rate() -> None:
    class Strange(PluginOptions):
        name: str = "strange"

    proposal = propose(facts(), BANKING.model_copy(update={"method": Strange(), "learning_rate": 0.3}), ())
    assert proposal.train.learning_rate == 0.3
    assert line(proposal, "train.learning_rate").why == "no rule knows this method"


def test_variants_that_scale_otherwise_keep_their_alpha() -> None:
    now = BANKING.model_copy(update={"method": LoraOptions(rank=64, alpha=16, variant="rslora")})
    proposal = propose(facts(), now, ())
    assert isinstance(proposal.train.method, LoraOptions)
    assert proposal.train.method.alpha == 16
    assert not any(line.key == "train.method.alpha" for line in proposal.lines)


def test_notes_name_what_no_setting_mends() -> None:
    notes = " ".join(propose(facts(rows=50, fewest_rows_of_a_label=1, rows_cut=3, duplicates=20), BANKING, ()).notes)
    assert "50 training rows are few" in notes
    assert "only 1 training rows" in notes
    assert "3 rows are longer" in notes
    assert "20 duplicates" in notes
    assert propose(facts(), BANKING, ()).notes == ()


def test_length_and_its_shares() -> None:
    data = facts().data
    assert length_of(BANKING, data).steps == 375
    assert length_of(BANKING.model_copy(update={"epochs": None, "steps": 50}), data).epochs == pytest.approx(0.4)
    third = at_share(BANKING, data, 1 / 3)
    assert (third.steps, third.epochs, third.early_stopping) == (125, None, None)
    assert third.learning_rate == BANKING.learning_rate
    assert at_share(BANKING, data, 1) is BANKING
