"""The `evaluate:` section of the project file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tunewright.core.config import Section
from tunewright.core.registry import Chosen, Entry, PluginOptions, Registry
from tunewright.evaluate.metrics.options import RowMetricOptions
from tunewright.evaluate.rivals.options import RIVALS

_OPTIONS = "tunewright.evaluate.metrics.options"
_OF_MODEL = "tunewright.evaluate.metrics.model_options"
METRICS = Registry(
    "metrics",
    {
        "intent": Entry("tunewright.evaluate.metrics.intent:Intent", "tunewright.evaluate.config:IntentOptions"),
        "bleu": Entry("tunewright.evaluate.metrics.bleu:Bleu", "tunewright.evaluate.config:BleuOptions", "evaluate"),
        "rouge": Entry("tunewright.evaluate.metrics.rouge:Rouge", "tunewright.evaluate.config:RougeOptions"),
        "chrf": Entry("tunewright.evaluate.metrics.chrf:Chrf", f"{_OPTIONS}:ChrfOptions"),
        "exact": Entry("tunewright.evaluate.metrics.exact:Exact", f"{_OPTIONS}:ExactOptions"),
        "contains": Entry("tunewright.evaluate.metrics.contains:Contains", f"{_OPTIONS}:ContainsOptions"),
        "json_schema": Entry("tunewright.evaluate.metrics.json_schema:JsonSchema", f"{_OPTIONS}:JsonSchemaOptions"),
        "slots": Entry("tunewright.evaluate.metrics.slots:Slots", f"{_OPTIONS}:SlotsOptions"),
        "math": Entry("tunewright.evaluate.metrics.math:Math", f"{_OPTIONS}:MathOptions"),
        "refusal": Entry("tunewright.evaluate.metrics.refusal:Refusal", f"{_OPTIONS}:RefusalOptions"),
        "compat": Entry("tunewright.evaluate.metrics.compat:Compat", f"{_OPTIONS}:CompatOptions"),
        "toxicity": Entry(
            "tunewright.evaluate.metrics.toxicity:Toxicity",
            "tunewright.evaluate.metrics.toxicity_options:ToxicityOptions",
        ),
        "resolution": Entry(
            "tunewright.evaluate.metrics.resolution:Resolution",
            "tunewright.evaluate.metrics.resolution_options:ResolutionOptions",
        ),
        "handling_time": Entry(
            "tunewright.evaluate.metrics.handling_time:HandlingTime",
            "tunewright.evaluate.metrics.resolution_options:HandlingTimeOptions",
        ),
        "latency": Entry(
            "tunewright.evaluate.metrics.latency:Latency", "tunewright.evaluate.config:LatencyOptions", "train"
        ),
        "perplexity": Entry(
            "tunewright.evaluate.metrics.perplexity:Perplexity", f"{_OF_MODEL}:PerplexityOptions", "train"
        ),
        "forgetting": Entry(
            "tunewright.evaluate.metrics.forgetting:Forgetting", f"{_OF_MODEL}:ForgettingOptions", "train"
        ),
        "memorization": Entry(
            "tunewright.evaluate.metrics.memorization:Memorization", f"{_OF_MODEL}:MemorizationOptions", "train"
        ),
        "judge": Entry(
            "tunewright.evaluate.metrics.judge:Judge", "tunewright.evaluate.metrics.judge_options:JudgeOptions"
        ),
        "lm_eval": Entry("tunewright.evaluate.metrics.lm_eval:LmEval", f"{_OF_MODEL}:LmEvalOptions"),
    },
)


class IntentOptions(RowMetricOptions):
    """Share of rows whose answer is the right label, generated freely and by constrained choice."""

    name: Literal["intent"] = "intent"
    label: str = "metadata.intent"
    """The metadata key that holds the right label."""
    out_of_scope: tuple[str, ...] = ("out_of_scope", "out-of-scope", "oos")
    """Labels of questions that belong to no intent; measured apart where a row has one."""
    labels_in_prompt: Literal["none", "base", "all"] = "base"
    """Who is shown the list of labels: the base model needs it for a fair chance, the tuned one has learned them."""


class BleuOptions(RowMetricOptions):
    """sacrebleu corpus BLEU with effective order; `zh` tokens when the references are Chinese, else `13a`."""

    name: Literal["bleu"] = "bleu"


class RougeOptions(RowMetricOptions):
    """ROUGE-1, -2 and -L F1 over words and single Han characters."""

    name: Literal["rouge"] = "rouge"


class LatencyOptions(PluginOptions):
    """Time for a fixed number of generated tokens, one request at a time and several together, warm."""

    name: Literal["latency"] = "latency"
    new_tokens: int = Field(default=200, ge=1)
    repeats: int = Field(default=3, ge=1)
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 8), min_length=1)
    """Requests that come together. Those of 1 are `latency.p50_s` and so on, those of 8 `latency.batch8_p50_s`."""

    @field_validator("batch_sizes")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("name every batch size once")
        return value


class Gate(Section):
    """A condition that must hold before a model may go on."""

    metric: str
    """Flat metric key such as `intent.accuracy`."""
    when: str
    """A comparison with the base model, the promoted model or a number: `>= base + 0.05`, `<= promoted * 1.1`,
    `>= 0.8`. As long as nothing is promoted, the base stands in for it."""
    significant: bool = False
    """Also require that a difference from the base (or the promoted model) is shown: p < 0.05, by Holm's method where
    it is not the primary metric."""
    on: tuple[Literal["tuned", "quantized"], ...] = Field(default=("tuned",), min_length=1)
    undecidable: Literal["refuse", "warn"] = "refuse"
    """What happens when the test rows are too few to show the difference that a significant gate names."""

    @field_validator("when")
    @classmethod
    def _is_comparison(cls, value: str) -> str:
        if not GATE.fullmatch(value):
            raise ValueError("write a comparison such as '>= base + 0.05', '<= promoted * 1.1' or '>= 0.8'")
        return value

    @property
    def names_promoted(self) -> bool:
        """Whether it compares with the promoted model."""
        return "promoted" in self.when


GATE = re.compile(r"\s*(>=|<=|>|<)\s*(?:(base|promoted)\s*(?:([+\-*])\s*(\d+(?:\.\d+)?))?|(-?\d+(?:\.\d+)?))\s*")


class EvaluateConfig(Section):
    """Base against tuned on the test split."""

    metrics: tuple[Annotated[PluginOptions, Chosen(METRICS)], ...] = (IntentOptions(), LatencyOptions())
    primary: str = "intent.accuracy"
    """The metric that decides whether the tuned model is better."""
    gates: tuple[Gate, ...] = ()
    rivals: tuple[Annotated[PluginOptions, Chosen(RIVALS)], ...] = ()
    """Cheaper ways to the same answers, asked the same rows; they decide no gate."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest generated answer."""
    batch_size: int = Field(default=16, ge=1)
    max_rows: int | None = Field(default=None, ge=1)
    """At most this many test rows, drawn with the project's seed; default all."""
    cache: bool = True
    """Keep answers on disk, so that a second evaluation asks only what is new; off: everything is asked."""
