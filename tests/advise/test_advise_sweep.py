"""Successive halving stops the losers, keeps the rules' proposal, ends in time; and a real sweep on the tiny model."""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from advise_kit import DEEPSEEK, facts, opened, write_project

from tunewright.advise import advice, picture, result, sweep
from tunewright.advise.sweep import Clock, Reached, Trial, halve, rungs_for
from tunewright.advise.trials import Candidate, candidates, other_methods
from tunewright.core.errors import ConfigError, Interrupted
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import Measured, mean_of_rows
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import LoraOptions

START = TrainConfig(method=LoraOptions(), epochs=3, learning_rate=1.3e-3, rows_per_step=4)


def trials(count: int) -> list[Trial]:
    return [Trial(Candidate(n, "rules" if n == 1 else "drawn", START)) for n in range(1, count + 1)]


def reached(value: float, share: float, loss: float = 1.0) -> Reached:
    right = np.array([[1.0]] * round(value * 100) + [[0.0]] * round(100 - value * 100))
    measured = Measured("intent.accuracy", 1, right, mean_of_rows, yes_no=True)
    return Reached(share, "", 1, loss, 0.0, measured)


def ever() -> Clock:
    return Clock(math.inf)


def test_candidates_are_the_rules_the_project_and_seeded_draws() -> None:
    now = START.model_copy(update={"learning_rate": 2e-4})
    found = candidates(START, now, facts(), count=8, seed=7)
    assert [c.number for c in found] == list(range(1, 9))
    assert [c.origin for c in found] == ["rules", "project", *["drawn"] * 6]
    assert (found[0].train, found[1].train) == (START, now)
    assert found == candidates(START, now, facts(), count=8, seed=7)
    assert found[2:] != candidates(START, now, facts(), count=8, seed=8)[2:]
    assert [c.origin for c in candidates(START, START, facts(), count=4, seed=7)] == ["rules", *["drawn"] * 3]


def test_learning_rates_are_spread_evenly_over_the_log_axis() -> None:
    """Each of the 7 draws has its own seventh of [center / 4, center x 4]; one draw in four takes another method."""
    drawn = [c.train for c in candidates(START, START, facts(), count=8, seed=7)[1:]]
    assert {train.method.name for train in drawn} == {"lora", "full"}
    centers = {"lora": 1.3e-3, "full": 1.3e-4}
    places = [math.log(t.learning_rate / centers[t.method.name], 4) / 2 + 0.5 for t in drawn]
    assert sorted(math.floor(place * 7) for place in places) == list(range(7))
    assert all(1 <= (t.rows_per_step or 0) <= 32 and t.epochs for t in drawn)
    assert all(TrainConfig.model_validate(t.model_dump()) == t for t in drawn)


def test_full_fine_tuning_is_tried_on_small_models_only() -> None:
    assert "full" in other_methods(START, facts())
    assert "full" not in other_methods(START, facts(memory_gb=2))  # 16 x 134.5 M = 2.15 GB
    assert "full" not in other_methods(START, facts(DEEPSEEK, memory_gb=200))


@pytest.mark.parametrize(
    ("steps", "shares"), [(375, (1 / 9, 1 / 3, 1)), (179, (1 / 3, 1)), (60, (1 / 3, 1)), (59, (1,)), (3, (1,))]
)
def test_rungs_have_at_least_20_steps(steps: int, shares: tuple[float, ...]) -> None:
    assert rungs_for(steps) == pytest.approx(shares)


def test_the_better_third_goes_on_and_the_rules_always_do() -> None:
    """Trial n scores n / 10: of 8 trials 8, 7, 6 go on beside the rules (1), then 8 and 7 of these four."""
    asked: list[tuple[int, float]] = []

    def train(candidate: Candidate, share: float) -> Reached:
        asked.append((candidate.number, share))
        return reached(candidate.number / 10, share)

    found = trials(8)
    assert halve(found, (1 / 9, 1 / 3, 1), train, ever())
    by_share = {share: [n for n, s in asked if s == share] for share in (1 / 9, 1 / 3, 1)}
    assert by_share == {1 / 9: [1, 2, 3, 4, 5, 6, 7, 8], 1 / 3: [8, 7, 6, 1], 1: [8, 7, 1]}
    assert sweep.Sweep(tuple(found), (1,), "m", True, 0, 7).best.candidate.number == 8


def test_equal_scores_are_told_apart_by_the_loss_and_a_loss_that_is_no_number_is_last() -> None:
    losses = {1: 0.9, 2: math.nan, 3: 0.2}
    found = trials(3)
    halve(found, (1 / 3, 1), lambda c, share: reached(0.5, share, losses[c.number]), ever())
    assert [len(trial.rungs) for trial in found] == [2, 1, 2]
    assert max(found, key=lambda trial: trial.order).candidate.number == 3


def test_a_metric_that_should_be_low_is_ranked_the_other_way() -> None:
    high, low = reached(0.9, 1), reached(0.1, 1)
    assert high.order > low.order
    for one in (high, low):
        assert one.measured
        one.measured = Measured("unparseable", 1, one.measured.statistics, mean_of_rows, higher_is_better=False)
    assert low.order > high.order


def test_a_setting_that_fails_ends_itself_only_and_a_signal_ends_everything() -> None:
    def train(candidate: Candidate, share: float) -> Reached:
        if candidate.number == 2:
            raise ConfigError("the loss is not finite")
        return reached(0.5, share)

    found = trials(4)
    assert halve(found, (1 / 3, 1), train, ever())
    assert (found[1].failed, found[1].rungs) == ("the loss is not finite", [])

    def stopped(candidate: Candidate, share: float) -> Reached:
        raise Interrupted("stopped", signal_number=15)

    with pytest.raises(Interrupted):
        halve(trials(2), (1,), stopped, ever())


def test_no_trial_is_begun_that_would_end_too_late() -> None:
    """A trial takes 20 ms at the full budget; 30 ms hold one, the second would end at 40."""

    def train(candidate: Candidate, share: float) -> Reached:
        time.sleep(0.02)
        return reached(0.5, share)

    found = trials(4)
    assert not halve(found, (1,), train, Clock(time.monotonic() + 0.03))
    assert [len(trial.rungs) for trial in found] == [1, 0, 0, 0]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Workspace, Artifact, sweep.Sweep, dict[str, Any]]:
    """Three settings on the tiny model. The test split is taken away before: a sweep must not open it."""
    path = write_project(tmp_path_factory.mktemp("sweep"), rows=90)
    project, workspace, data = opened(path)
    (data.path / "test.jsonl").unlink()
    advised = advice.advise(project, workspace, data, swept=None)
    done = sweep.run(advised, workspace, data, count=3, minutes=None)
    document = result.document(done, advised, data)
    result.write(document, picture.page(document, project.name), workspace)
    return project, workspace, data, done, document


def test_a_real_sweep_learns_the_rows(swept: tuple[Any, Workspace, Artifact, sweep.Sweep, dict[str, Any]]) -> None:
    _, workspace, _, done, document = swept
    assert done.complete and document["metric"] == "intent.accuracy"
    best = document["trials"][0]
    assert best["is_best"], "the table shows the trials as they stand here"
    last = best["budgets"][-1]
    assert last["share"] == 1
    assert last["score"]["low"] > 1 / 3, "three labels: chance is a third"
    assert last["score"]["n"] == len(list((workspace.root / "rows.jsonl").open())) // 4
    for trial in document["trials"]:
        for rung in trial["budgets"]:
            sealed = Artifact.open(workspace.root / rung["path"])
            assert sealed.manifest.facts["validation_loss"] == rung["validation_loss"]
            assert sealed.manifest.config["train"]["learning_rate"] == trial["learning_rate"]
    assert any(result.state(trial, document) == "stopped early" for trial in document["trials"])


def test_a_second_sweep_trains_nothing_and_finds_the_same(
    swept: tuple[Any, Workspace, Artifact, sweep.Sweep, dict[str, Any]],
) -> None:
    project, workspace, data, _, document = swept
    before = sweep.sweep_workspace(workspace).directories("train")
    advised = advice.advise(project, workspace, data, swept=None)
    again = result.document(sweep.run(advised, workspace, data, count=3, minutes=None), advised, data)
    assert sweep.sweep_workspace(workspace).directories("train") == before
    assert again["trials"] == document["trials"]
    assert workspace.directories("train") == [], "the project's own runs are not touched"


def test_later_advice_starts_from_the_sweep(
    swept: tuple[Any, Workspace, Artifact, sweep.Sweep, dict[str, Any]],
) -> None:
    project, workspace, data, _, document = swept
    read = result.read(workspace, data, project.model.path)
    assert read == json.loads(json.dumps(document))
    advised = advice.advise(project, workspace, data, swept=read)
    best = TrainConfig.model_validate(document["best_train"])
    assert advised.proposal.train.learning_rate == best.learning_rate
    assert advised.proposal.train.epochs == best.epochs
    line = next(line for line in advised.proposal.lines if line.key == "train.method")
    assert "best of 3 settings swept" in line.why and "halving" in line.sources
    assert result.read(workspace, data, "another model") is None


def test_the_page_is_one_file_and_shows_every_trial_at_its_place(
    swept: tuple[Any, Workspace, Artifact, sweep.Sweep, dict[str, Any]],
) -> None:
    document = swept[4]
    page = picture.page(document, "a <b> & c")
    assert "a &lt;b&gt; &amp; c" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|@import|url\(", page)
    drawn = picture.rate_chart(document, width=720)
    root = ElementTree.fromstring(drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    notes = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text") if node.get("class") == "note"]
    assert sorted(re.match(r"\d+", str(note))[0] for note in notes) == ["1", "2", "3"]  # type: ignore[index]
    assert sum(str(note).endswith("best") for note in notes) == 1
    assert "learning rate (log scale)" in drawn and "intent.accuracy (percent of rows)" in drawn


def test_ticks_of_a_log_axis() -> None:
    assert picture.rate_ticks(9e-4, 2.1e-2) == [1e-3, 2e-3, 5e-3, 1e-2, 2e-2]
