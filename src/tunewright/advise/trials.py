"""The candidates of a sweep: the rules' proposal, the project as it is, and seeded draws around the proposal."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tunewright.advise.facts import Facts
from tunewright.advise.length import length_of
from tunewright.advise.rules import ALPHA, LARGEST_BATCH, RANKS, rate_for
from tunewright.core.registry import PluginOptions
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import METHODS, LoraOptions

SPREAD = 4.0
"""Learning rates are drawn from a fourth to four times the rule's, evenly on a log axis."""
LENGTHS = (0.67, 1.0, 1.0, 1.5)
BATCHES = (0.5, 1.0, 1.0, 2.0)
OTHER_METHODS = ("full", "ia3")
SMALL_MODEL = 500e6
"""Full fine-tuning is tried up to this many weights: every trial is written to disk."""
EVERY = 4
"""One draw in this many takes another method than the proposal's."""


@dataclass(frozen=True)
class Candidate:
    """origin: "rules", "project" or "drawn"."""

    number: int
    origin: str
    train: TrainConfig


def candidates(proposed: TrainConfig, now: TrainConfig, facts: Facts, *, count: int, seed: int) -> list[Candidate]:
    """`count` different settings, the rules' first, the project's own second; the same for the same seed."""
    generator = random.Random(seed)  # noqa: S311 (no secret)
    found = [Candidate(1, "rules", proposed)]
    if count > 1 and _identity(now) != _identity(proposed):
        found.append(Candidate(2, "project", now))
    drawn = _draws(proposed, facts, count - len(found), generator)
    return found + [Candidate(len(found) + index, "drawn", train) for index, train in enumerate(drawn, start=1)]


def _identity(train: TrainConfig) -> str:
    return train.model_dump_json()


def _draws(proposed: TrainConfig, facts: Facts, count: int, generator: random.Random) -> Iterator[TrainConfig]:
    """Learning rates are stratified: each draw has its own part of the range, in random order."""
    parts = generator.sample(range(count), count)
    others = other_methods(proposed, facts)
    for index, part in enumerate(parts):
        place = (part + generator.random()) / count
        method: PluginOptions = proposed.method
        if others and index % EVERY == EVERY - 1:
            name = others[(index // EVERY) % len(others)]
            method = METHODS.options(name)(name=name)
        elif isinstance(method, LoraOptions):
            ranks = [
                rank
                for rank in (method.rank // 2, method.rank, method.rank * 2, method.rank * 4)
                if 4 <= rank <= RANKS[-1]
            ]
            method = method.model_copy(update={"rank": generator.choice(ranks), "alpha": ALPHA})
        yield _drawn(proposed, facts, method, place, generator)


def _drawn(
    proposed: TrainConfig, facts: Facts, method: PluginOptions, place: float, generator: random.Random
) -> TrainConfig:
    """place: where in the range of learning rates, 0 to 1."""
    length = length_of(proposed, facts.data)
    epochs = round(max(0.25, length.epochs * generator.choice(LENGTHS)), 2)
    centre = proposed.learning_rate
    if method.name != proposed.method.name:
        centre = rate_for(facts, method.name, length.steps)[0]
    update = {
        "method": method,
        "epochs": epochs,
        "steps": None,
        "learning_rate": float(f"{min(0.5, centre * SPREAD ** (2 * place - 1)):.1e}"),
    }
    if not proposed.tokens_per_step:
        rows = (proposed.rows_per_step or LARGEST_BATCH) * generator.choice(BATCHES)
        update["rows_per_step"] = max(1, min(LARGEST_BATCH, round(rows)))
    return proposed.model_copy(update=update)


def other_methods(proposed: TrainConfig, facts: Facts) -> list[str]:
    """Methods worth a try beside the proposed one: registered, and small enough for this machine."""
    fits = facts.model.parameters <= SMALL_MODEL and facts.model.full_bytes() <= facts.machine.memory_bytes
    names = ["lora", *OTHER_METHODS]
    return [
        name for name in names if name in METHODS.entries and name != proposed.method.name and (name != "full" or fits)
    ]
