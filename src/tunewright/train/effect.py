"""Did it learn anything? The loss on held-out rows of the base, of what was saved, and of a random change of its size.

The rows are rendered as the server renders them, and the weights are opened from the folder, as the server opens them:
a training that ran to its end can still have no effect as served.
"""

from __future__ import annotations

import gc
import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tunewright.core.chat import Conversation
from tunewright.models.adapters import adapted
from tunewright.models.load import load_model
from tunewright.models.row_loss import row_losses
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.train.effect_options import MINIMUM_ROWS, EffectConfig
from tunewright.train.effect_random import randomize, write_random_adapter
from tunewright.train.effect_rendering import prove_rendering
from tunewright.train.method import Kind

Verdict = Literal["effect", "no effect shown", "harm shown", "too few rows to tell"]
RESOLUTION = 1e-4
"""Nats a token. Standard errors are not taken to be smaller: rounding alone moves every row a little the same way."""


@dataclass(frozen=True)
class Saved:
    """What training wrote, and how it is opened. base: the base model's folder; folder: the adapter's or the whole
    weights'; packed, tokens_per_batch: how the loss is computed, as in training."""

    base: Path
    folder: Path
    kind: Kind
    trust_remote_code: bool = False
    packed: bool = True
    tokens_per_batch: int = 2048


@dataclass(frozen=True)
class Against:
    """A paired difference of mean loss per trained token, in nats; its standard error over rows."""

    difference: float
    standard_error: float

    @property
    def z(self) -> float:
        """The difference in standard errors; negative is better."""
        return self.difference / self.standard_error


@dataclass(frozen=True)
class Effect:
    """Mean loss per trained token, in nats, on the same held-out rows. random: a change of the same shape and norm."""

    rows: int
    tokens: int
    base: float
    tuned: float
    random: float
    against_base: Against
    against_random: Against
    min_standard_errors: float
    left_out: int = 0
    """Rows whose prompt is too long for a server."""

    @property
    def verdict(self) -> Verdict:
        """An effect must beat the base and the random change."""
        if self.rows < MINIMUM_ROWS:
            return "too few rows to tell"
        if self.against_base.z >= self.min_standard_errors:
            return "harm shown"
        if max(self.against_base.z, self.against_random.z) <= -self.min_standard_errors:
            return "effect"
        return "no effect shown"

    def text(self) -> str:
        """One or two plain sentences."""
        losses = (
            f"on {self.rows} held-out rows, rendered as they are served, the loss per trained token is "
            f"{self.base:.4f} for the base, {self.tuned:.4f} tuned and {self.random:.4f} for a random change of the "
            f"same size; tuned minus base is {self.against_base.difference:+.4f}, "
            f"{abs(self.against_base.z):.1f} standard errors"
        )
        openings: dict[Verdict, str] = {
            "effect": "Training has an effect",
            "no effect shown": "NO EFFECT SHOWN",
            "harm shown": "HARM SHOWN: the tuned model is worse than the base",
            "too few rows to tell": f"Too few rows to tell whether training has an effect ({MINIMUM_ROWS} are needed)",
        }
        return f"{openings[self.verdict]}: {losses}{self._why()}."

    def _why(self) -> str:
        needed = f"{self.min_standard_errors:g} are needed"
        if self.verdict != "no effect shown":
            return ""
        if self.against_base.z > -self.min_standard_errors:
            return f" ({needed})"
        return f", but only {-self.against_random.z:.1f} below the random change ({needed})"

    def failure(self, *, required: bool) -> str | None:
        """Why the stage does not pass; None where it does. Too few rows are said, they fail nothing."""
        if not required or self.verdict in ("effect", "too few rows to tell"):
            return None
        return f"{self.text()} Check the data and the learning rate, or allow it with train.effect.required=false"

    def facts(self) -> dict[str, Any]:
        """What the manifest and the report need."""
        return {
            "verdict": self.verdict,
            "text": self.text(),
            "rows": self.rows,
            "left_out": self.left_out,
            "tokens": self.tokens,
            "base": self.base,
            "tuned": self.tuned,
            "random": self.random,
            "min_standard_errors": self.min_standard_errors,
            **{
                f"against_{name}": {"difference": a.difference, "standard_error": a.standard_error, "z": a.z}
                for name, a in (("base", self.against_base), ("random", self.against_random))
            },
        }


def measure_effect(
    saved: Saved,
    rows: Sequence[Conversation],
    *,
    rendered: Sequence[Example],
    dtype: torch.dtype,
    seed: int,
    options: EffectConfig,
) -> Effect:
    """rows: the validation split; rendered: its examples as training had them; dtype: that of serving.

    One model is in memory at a time, for whole weights two. Raises ArtifactError where the training rendering is not
    the served one (the row and the token are named), or where the saved weights cannot be opened.
    """
    whole = prove_rendering(rows, rendered, ChatTokenizer.load(saved.base))
    names = sorted(whole)
    drawn = sorted(random.Random(seed).sample(names, min(options.max_rows, len(names))))  # noqa: S311
    examples = [example for name in drawn for example in whole[name]]
    measure = _full if saved.kind == "full" else _adapter
    losses = measure(saved, examples, dtype, seed) if examples else ([], [], [])
    owner = [example.row_id for example in examples]
    by_row = [[sum(v for v, o in zip(part, owner, strict=True) if o == name) for name in drawn] for part in losses]
    tokens = [sum(example.trained for example in whole[name]) for name in drawn]
    return _effect(by_row, tokens, options, left_out=len(rows) - len(whole))


def _effect(
    losses: Sequence[Sequence[float]], tokens: Sequence[int], options: EffectConfig, *, left_out: int
) -> Effect:
    """losses: summed nats a row for base, tuned and random; tokens: trained tokens a row."""
    base, tuned, chance = losses
    total = max(1, sum(tokens))
    return Effect(
        rows=len(tokens),
        tokens=sum(tokens),
        base=sum(base) / total,
        tuned=sum(tuned) / total,
        random=sum(chance) / total,
        against_base=paired(tuned, base, tokens),
        against_random=paired(tuned, chance, tokens),
        min_standard_errors=options.min_standard_errors,
        left_out=left_out,
    )


def paired(first: Sequence[float], second: Sequence[float], tokens: Sequence[int]) -> Against:
    """first - second per trained token, with the standard error of a ratio of sums over rows: tokens of one row are
    not independent (Liang & Zeger 1986, the sandwich estimator with rows as clusters).

    first, second: summed nats a row; tokens: trained tokens a row.
    """
    n, total = len(tokens), max(1, sum(tokens))
    changes = [a - b for a, b in zip(first, second, strict=True)]
    difference = sum(changes) / total
    left = sum((change - difference * count) ** 2 for change, count in zip(changes, tokens, strict=True))
    error = math.sqrt(left * n / (n - 1)) / total if n > 1 else abs(difference)
    return Against(difference, max(error, RESOLUTION))


def _adapter(saved: Saved, examples: Sequence[Example], dtype: torch.dtype, seed: int) -> tuple[list[float], ...]:
    """Losses of base, tuned and random; the random adapter is a folder that is opened like the saved one."""
    with tempfile.TemporaryDirectory() as place:
        chance = Path(place) / "adapter"
        write_random_adapter(saved.folder, chance, seed=seed)
        base, tuned = _base_and_tuned(saved, examples, dtype)
        model = adapted(_whole(saved, saved.base, dtype), chance)
        return base, tuned, _losses(model, saved, examples, "random")


def _base_and_tuned(saved: Saved, examples: Sequence[Example], dtype: torch.dtype) -> tuple[list[float], list[float]]:
    """Losses of the base, then of the same copy with the saved adapter."""
    model = _whole(saved, saved.base, dtype)
    base = _losses(model, saved, examples, "base")
    return base, _losses(adapted(model, saved.folder), saved, examples, "tuned")


def _full(saved: Saved, examples: Sequence[Example], dtype: torch.dtype, seed: int) -> tuple[list[float], ...]:
    """Losses of base, tuned and random; the base's copy in memory becomes the random one."""
    base = _whole(saved, saved.base, dtype)
    base_losses = _losses(base, saved, examples, "base")
    tuned_losses = _tuned_losses(base, saved, examples, seed)
    return base_losses, tuned_losses, _losses(base, saved, examples, "random")


def _tuned_losses(base: Any, saved: Saved, examples: Sequence[Example], seed: int) -> list[float]:
    """Losses of the whole weights; then `base` is changed at random as much as they were changed."""
    tuned = _whole(saved, saved.folder, base.dtype)
    found = _losses(tuned, saved, examples, "tuned")
    randomize(base, tuned, seed=seed)
    return found


def _whole(saved: Saved, folder: Path, dtype: torch.dtype) -> Any:
    """The model in `folder`; one that nobody needs any more is let go first."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return load_model(folder, dtype=dtype, trust_remote_code=saved.trust_remote_code)


def _losses(model: Any, saved: Saved, examples: Sequence[Example], name: str) -> list[float]:
    return row_losses(
        model,
        examples,
        tokens_per_batch=saved.tokens_per_batch,
        packed=saved.packed,
        label=f"effect: loss of {name}",
    )
