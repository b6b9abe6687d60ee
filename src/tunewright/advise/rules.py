"""The rules: facts to proposed settings, each with its reason and its source. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright.advise import memory
from tunewright.advise.facts import Facts
from tunewright.advise.history import PastRun
from tunewright.advise.length import Length, length_of
from tunewright.advise.proposal import Line, Proposal, shown_value
from tunewright.core.registry import PluginOptions
from tunewright.train.config import EarlyStopping, TrainConfig
from tunewright.train.methods.options import METHODS, LoraOptions
from tunewright.train.plan import DEFAULT_EPOCHS

BASE_RATE, REFERENCE_HIDDEN = 5e-5, 2000
EXPONENTS = {"llama": 0.781, "qwen": 0.0775}
"""How the best learning rate falls with the hidden size (Tinker cookbook); other families take Llama's."""
LORA_FACTOR, SHORT_FACTOR, SHORT_STEPS = 10, 15, 100
IA3_RATE, PREFIX_RATE = 3e-3, 1e-2
RATED = ("lora", "full", "freeze", "ia3", "prefix")
ALPHA = 32.0
RANKS = (16, 32, 64, 128, 256)
FEW_ROWS, FEW_SHOT_PARAMETERS = 100, 2e9
"""IA3 was measured with 20 to 70 rows on 3 B and 11 B models: fewer rows than this, on a model no smaller."""
SMALLEST_BATCH, LARGEST_BATCH = 4, 32
MOST_EPOCHS, MANY_ROWS = 10, 100_000
ENOUGH_VALIDATION = 30
NEAR = 1.5
"""A learning rate within this factor of the rule's stays: the optimum is flat (U-shaped curves on a log axis)."""


@dataclass
class Draft:
    """The settings as they grow, and a line for every rule that spoke."""

    facts: Facts
    now: TrainConfig
    runs: Sequence[PastRun]
    train: TrainConfig
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def say(self, key: str, proposed: Any, why: str, *sources: str) -> None:
        """Sets `train.<key>` and notes why."""
        now = getattr(self.now, key)
        self.train = self.train.model_copy(update={key: proposed})
        self.lines.append(Line(f"train.{key}", shown_value(now), shown_value(proposed), why, sources))

    @property
    def length(self) -> Length:
        """How long the draft trains."""
        return length_of(self.train, self.facts.data)


def propose(facts: Facts, now: TrainConfig, runs: Sequence[PastRun]) -> Proposal:
    """What the rules make of the facts; `runs`: trainings on the same rows, read for over- and underfitting."""
    draft = Draft(facts, now, runs, now)
    for rule in (_method, _batch, _epochs, _learning_rate, _warmup, _weight_decay, _stopping):
        rule(draft)
    memory.fit(draft)
    _notes(draft)
    return Proposal(tuple(draft.lines), tuple(draft.notes), draft.train)


def _method(draft: Draft) -> None:
    before = draft.now.method
    name, why, sources = chosen_method(draft.facts, before.name, frozenset(METHODS.entries))
    options: PluginOptions = before if name == before.name else METHODS.options(name)(name=name)
    if not isinstance(options, LoraOptions):
        draft.say("method", options, why, *sources)
        return
    rank, reason = rank_for(draft.facts)
    if isinstance(before, LoraOptions) and before.rank > rank:
        rank, reason = before.rank, f"{reason}; more does not hurt"
    chosen: dict[str, Any] = {"rank": rank, "targets": "all-linear"}
    reasons: dict[str, tuple[str, tuple[str, ...]]] = {
        "rank": (reason, ("tinker-rank", "biderman")),
        "targets": ("adapters on attention alone learn less, whatever their rank", ("schulman", "biderman")),
    }
    if options.variant in ("plain", "dora"):  # the others scale by something else than alpha / rank
        chosen["alpha"] = ALPHA
        reasons["alpha"] = ("at 32 the best learning rate hardly depends on the rank", ("schulman",))
    draft.say("method", options.model_copy(update=chosen), why, *sources)
    for key, (because, cited) in reasons.items():
        old = shown_value(getattr(before, key, None))
        draft.lines.append(Line(f"train.method.{key}", old, chosen[key], because, cited))


def chosen_method(facts: Facts, now: str, available: frozenset[str]) -> tuple[str, str, tuple[str, ...]]:
    """(method, why, sources) from data size, model size and memory. A method that no rule knows stays."""
    data, model, free = facts.data, facts.model, facts.machine.memory_bytes
    fits = model.full_bytes() <= free
    capacity = model.lora_parameters(RANKS[-1])
    need = (
        f"all weights with AdamW need {model.full_bytes() / 1e9:.1f} GB before activations, {free / 1e9:.1f} are there"
    )
    if now == "full" and not fits:
        return "lora", need, ("zero",)
    if now in ("full", "lora") and data.trained_tokens > capacity:
        words = (
            f"{data.trained_tokens:,} trained tokens are more than LoRA of rank {RANKS[-1]} has weights ({capacity:,})"
        )
        return ("full", f"{words}, and full fine-tuning fits", ("schulman",)) if fits else ("lora", need, ("zero",))
    if now == "full":
        words = f"{data.trained_tokens:,} trained tokens: LoRA learns as much from so few, and keeps more of the base"
        return "lora", words, ("schulman", "biderman")
    is_few = data.rows < FEW_ROWS
    if "ia3" in available and is_few and model.parameters >= FEW_SHOT_PARAMETERS and now in ("lora", "ia3"):
        return "ia3", f"{data.rows} rows and a large model: the setting IA3 was made for", ("liu",)
    if now == "ia3":
        scope = f"{data.rows} rows" if not is_few else f"{model.parameters / 1e6:,.0f} M weights"
        return (
            "lora",
            f"IA3 was measured with 20 to 70 rows on models of 3 B and 11 B weights, here are {scope}",
            ("liu",),
        )
    if now.startswith("prefix"):
        return "lora", "today's models learn less from a prefix than from LoRA", ("prefix-limits", "li-liang")
    if now == "lora":
        return (
            now,
            "learns as much as full fine-tuning from data of this size, with less memory",
            ("schulman", "biderman"),
        )
    return now, "no rule knows this method", ("house",)


def rank_for(facts: Facts) -> tuple[int, str]:
    """The smallest usual rank whose adapter has at least as many weights as an epoch has trained tokens."""
    tokens = facts.data.trained_tokens
    fitting = next((rank for rank in RANKS if facts.model.lora_parameters(rank) >= tokens), RANKS[-1])
    weights = facts.model.lora_parameters(fitting)
    return fitting, f"{weights:,} adapter weights for {tokens:,} trained tokens"


def _batch(draft: Draft) -> None:
    rows, now = draft.facts.data.rows, draft.now
    wanted = batch_for(rows)
    if now.tokens_per_step:
        limit = round(LARGEST_BATCH * draft.facts.data.mean_tokens)
        kept = min(now.tokens_per_step, max(64, limit))
        draft.say("tokens_per_step", kept, f"at most about {LARGEST_BATCH} rows a step", "trl")
        return
    have = now.rows_per_step or LARGEST_BATCH
    is_near = have <= LARGEST_BATCH and 0.5 <= have / wanted <= 2
    kept = have if is_near else wanted
    per_epoch = math.ceil(rows / kept)
    draft.say(
        "rows_per_step", kept, f"{per_epoch} steps an epoch; LoRA pays for large batches", "schulman", "trl", "house"
    )


def batch_for(rows: int) -> int:
    """A power of two from 4 to 32 that gives at least 100 steps an epoch where the rows allow."""
    wanted = max(1.0, rows / 100)
    power = 2 ** math.floor(math.log2(wanted))
    return int(min(LARGEST_BATCH, max(SMALLEST_BATCH, power)))


def _epochs(draft: Draft) -> None:
    passes, why, sources = _wanted_epochs(draft)
    if draft.now.steps and math.isclose(passes, draft.length.epochs, rel_tol=0.01):
        draft.say("steps", draft.now.steps, f"{draft.length.epochs:.1f} passes: {why}", *sources)
        return
    if draft.now.steps:
        draft.say("steps", None, "the length is given in epochs", "house")
    now = draft.now.epochs
    is_default = now is None and not draft.now.steps and passes == DEFAULT_EPOCHS
    draft.say("epochs", None if is_default else passes, why, *sources)


def _wanted_epochs(draft: Draft) -> tuple[float, str, tuple[str, ...]]:
    rows, now = draft.facts.data.rows, draft.length.epochs
    measured = _measured_epochs(draft)
    if measured:
        return measured
    if rows >= MANY_ROWS:
        return min(now, 4.0) if now >= 1 else 2.0, f"{rows:,} rows: two to four passes", ("deepseek", "muennighoff")
    usual = now if 2 <= now <= 4 else DEFAULT_EPOCHS
    enough = min(MOST_EPOCHS, math.ceil(SHORT_STEPS / draft.length.per_epoch))
    if enough > usual:
        words = f"{draft.length.per_epoch} steps an epoch: fewer passes would end before {SHORT_STEPS} steps"
        return now if enough <= now <= MOST_EPOCHS else float(enough), words, ("zhang", "liu", "house")
    words = "one to three passes are usual, repeated rows are worth little after four"
    return usual, words, ("unsloth", "muennighoff")


def _measured_epochs(draft: Draft) -> tuple[float, str, tuple[str, ...]] | None:
    """What the newest run with this method says of its length; None without one, or where its end was flat."""
    run = next((run for run in reversed(draft.runs) if run.train.method.name == draft.train.method.name), None)
    if run is None:
        return None
    passes = length_of(run.train, draft.facts.data).epochs
    if run.overfitted:
        shorter = max(0.5, round(2 * passes * run.best_share) / 2)
        rise = run.losses[-1][1] / run.loss - 1
        words = f"{run.path}: best at {run.best_share:.0%} of the run, then {rise:.0%} worse"
        return shorter, words, ("measured", "article")
    if run.still_falling and passes < MOST_EPOCHS:
        words = f"{run.path}: the validation loss was still falling when it ended"
        return min(float(MOST_EPOCHS), math.ceil(passes * 1.5)), words, ("measured", "zhang")
    return None


def _learning_rate(draft: Draft) -> None:
    now, method = draft.now.learning_rate, draft.train.method.name
    if not method.startswith(RATED):
        draft.say("learning_rate", now, "no rule knows this method", "house")
        return
    rate, why, sources = rate_for(draft.facts, method, draft.length.steps)
    if method == draft.now.method.name and rate / NEAR <= now <= rate * NEAR:
        draft.say("learning_rate", now, f"near the rule's {rate:.2g}: {why}", *sources)
    else:
        draft.say("learning_rate", rate, why, *sources)


def rate_for(facts: Facts, method: str, steps: int) -> tuple[float, str, tuple[str, ...]]:
    """(learning rate, why, sources) of a method for a model of this hidden size and a run of `steps`."""
    if method == "ia3":
        return IA3_RATE, "IA3's recipe", ("liu",)
    if method.startswith("prefix"):
        return PREFIX_RATE, "the rate of PEFT's own example", ("peft-prefix",)
    family = next((name for name in EXPONENTS if facts.model.family.startswith(name)), "")
    exponent = EXPONENTS[family or "llama"]
    factor = 1 if method in ("full", "freeze") else SHORT_FACTOR if steps < SHORT_STEPS else LORA_FACTOR
    rate = BASE_RATE * factor * (REFERENCE_HIDDEN / max(1, facts.model.hidden)) ** exponent
    length = f"{steps} steps"
    words = f"hidden size {facts.model.hidden}, {length}" + (f", {factor} x full fine-tuning's" if factor > 1 else "")
    if not family:
        words += f"; fitted on Llama and Qwen, not on {facts.model.family}"
    return float(f"{rate:.1e}"), words, ("tinker-lr", "schulman") if factor > 1 else ("tinker-lr",)


def _warmup(draft: Draft) -> None:
    now = draft.now.warmup_ratio
    kept = now if 0.03 <= now <= 0.1 else 0.05
    draft.say("warmup_ratio", kept, f"{round(kept * draft.length.steps)} of {draft.length.steps} steps", "liu", "house")


def _weight_decay(draft: Draft) -> None:
    same = [run for run in draft.runs if run.train.method.name == draft.train.method.name]
    if same and same[-1].overfitted:
        draft.say(
            "weight_decay", max(0.1, draft.now.weight_decay), f"{same[-1].path} overfitted", "article", "measured"
        )
    else:
        draft.say("weight_decay", draft.now.weight_decay, "no overfitting was measured", "article", "biderman")


def _stopping(draft: Draft) -> None:
    rows, now = draft.facts.data.validation_rows, draft.now.early_stopping
    if now is None and rows >= ENOUGH_VALIDATION:
        draft.say("early_stopping", EarlyStopping(), f"{rows} validation rows are enough to stop on", "article")
    elif now is not None and rows < ENOUGH_VALIDATION:
        draft.say("early_stopping", None, f"{rows} validation rows: chance would stop it", "house")
    else:
        words = f"{rows} validation rows" + ("" if now else ": chance would stop it")
        draft.say("early_stopping", now, words, "article" if now else "house")


def _notes(draft: Draft) -> None:
    data = draft.facts.data
    if data.rows < FEW_ROWS:
        draft.notes.append(f"{data.rows} training rows are few: more rows help more than any setting here")
    if data.labels and data.fewest_rows_of_a_label < 5:
        draft.notes.append(f"a label has only {data.fewest_rows_of_a_label} training rows; add rows for it")
    if data.rows_cut:
        draft.notes.append(
            f"{data.rows_cut} rows are longer than the model takes and are cut; see `tunewright data show`"
        )
    if data.duplicates > data.rows * 0.1:
        draft.notes.append(f"{data.duplicates} duplicates were taken out: look at where they come from")
    if data.validation_rows < ENOUGH_VALIDATION:
        draft.notes.append(f"{data.validation_rows} validation rows tell settings apart only roughly")
