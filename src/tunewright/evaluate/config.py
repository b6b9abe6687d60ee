"""The `evaluate:` section of the project file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tunewright.core.config import Section
from tunewright.core.registry import Chosen, Entry, PluginOptions, Registry

METRICS = Registry(
    "metrics",
    {
        "intent": Entry("tunewright.evaluate.metrics.intent:Intent", "tunewright.evaluate.config:IntentOptions"),
        "bleu": Entry("tunewright.evaluate.metrics.bleu:Bleu", "tunewright.evaluate.config:BleuOptions", "evaluate"),
        "rouge": Entry("tunewright.evaluate.metrics.rouge:Rouge", "tunewright.evaluate.config:RougeOptions"),
        "latency": Entry(
            "tunewright.evaluate.metrics.latency:Latency", "tunewright.evaluate.config:LatencyOptions", "train"
        ),
    },
)


class RowMetricOptions(PluginOptions):
    """A metric over answers; `where` keeps the rows it applies to."""

    where: dict[str, str] = {}
    """Only rows with these metadata values, for example `{metadata.task: answer}`."""


class IntentOptions(RowMetricOptions):
    """Share of rows whose answer is the right label, generated freely and by constrained choice."""

    name: Literal["intent"] = "intent"
    label: str = "metadata.intent"
    """The metadata key that holds the right label."""
    labels_in_prompt: Literal["none", "base", "all"] = "base"
    """Who is shown the list of labels: the base model needs it for a fair chance, the tuned one has learned them."""


class BleuOptions(RowMetricOptions):
    """sacrebleu corpus BLEU with effective order; `zh` tokens when the references are Chinese, else `13a`."""

    name: Literal["bleu"] = "bleu"


class RougeOptions(RowMetricOptions):
    """ROUGE-1, -2 and -L F1 over words and single Han characters."""

    name: Literal["rouge"] = "rouge"


class LatencyOptions(PluginOptions):
    """Time for a fixed number of generated tokens at batch 1, warm."""

    name: Literal["latency"] = "latency"
    new_tokens: int = Field(default=200, ge=1)
    repeats: int = Field(default=3, ge=1)


class Gate(Section):
    """A condition that must hold before a model may go on."""

    metric: str
    """Flat metric key such as `intent.accuracy`."""
    when: str
    """A comparison with the base model or a number: `>= base + 0.05`, `<= base * 1.1`, `>= 0.8`."""
    significant: bool = False
    """Also require that a difference from base is shown (p < 0.05)."""
    on: tuple[Literal["tuned", "quantized"], ...] = ("tuned",)

    @field_validator("when")
    @classmethod
    def _is_comparison(cls, value: str) -> str:
        if not GATE.fullmatch(value):
            raise ValueError("write a comparison such as '>= base + 0.05', '<= base * 1.1' or '>= 0.8'")
        return value


GATE = re.compile(r"\s*(>=|<=|>|<)\s*(?:(base)\s*(?:([+\-*])\s*(\d+(?:\.\d+)?))?|(-?\d+(?:\.\d+)?))\s*")


class EvaluateConfig(Section):
    """Base against tuned on the test split."""

    metrics: tuple[Annotated[PluginOptions, Chosen(METRICS)], ...] = (IntentOptions(), LatencyOptions())
    primary: str = "intent.accuracy"
    """The metric that decides whether the tuned model is better."""
    gates: tuple[Gate, ...] = ()
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest generated answer."""
    batch_size: int = Field(default=16, ge=1)
    max_rows: int | None = Field(default=None, ge=1)
    """At most this many test rows, drawn with the project's seed; default all."""
