"""Options of the metrics over answers; imports core only, so that `evaluate.config` can import it."""

from __future__ import annotations

from typing import Any, Literal

from tunewright.core.registry import PluginOptions


class RowMetricOptions(PluginOptions):
    """A metric over answers; `where` keeps the rows it applies to."""

    where: dict[str, str] = {}
    """Only rows with these metadata values, for example `{metadata.task: answer}`."""


class ChrfOptions(RowMetricOptions):
    """chrF2: F-score of character n-grams of order 1 to 6, recall counted twice (Popović 2015), as sacrebleu has it."""

    name: Literal["chrf"] = "chrf"


class ExactOptions(RowMetricOptions):
    """Share of answers equal to the reference, apart from case, width, spaces and punctuation around it."""

    name: Literal["exact"] = "exact"
    answer: str = ""
    """The metadata key that holds the right answer; default the row's reference."""


class ContainsOptions(RowMetricOptions):
    """Share of answers in which the expected text stands, not as a part of a longer word or number."""

    name: Literal["contains"] = "contains"
    answer: str = ""
    """The metadata key that holds the expected text or a list of texts; default the row's reference."""
    wanted: Literal["all", "any"] = "all"
    """Whether every text of a list must stand in the answer or one is enough."""


class JsonSchemaOptions(RowMetricOptions):
    """Share of answers that are JSON and follow a JSON schema."""

    name: Literal["json_schema"] = "json_schema"
    accept: dict[str, Any] | None = None
    """The schema, for all rows. Without one an answer must only be JSON."""
    key: str = "metadata.json_schema"
    """The metadata key that holds a row's own schema, which wins over `accept`."""
    fenced: bool = False
    """Whether JSON in a Markdown code block counts; a program that reads the answer would fail on the fence."""


class SlotsOptions(RowMetricOptions):
    """Slot filling: micro-F1 over (slot, value) pairs of answers that are JSON objects."""

    name: Literal["slots"] = "slots"
    slots: str = "metadata.slots"
    """The metadata key that holds the right slots, an object of name and value or list of values."""


class MathOptions(RowMetricOptions):
    """Word problems: final answer, steps found, written equations that hold."""

    name: Literal["math"] = "math"
    answer: str = ""
    """The metadata key that holds the right final answer; default the one read from the row's reference."""


class RefusalOptions(RowMetricOptions):
    """Questions that must be refused and are, and questions that may be answered but are refused."""

    name: Literal["refusal"] = "refusal"
    must_refuse: Literal["reference", "all"] = "reference"
    """Which rows must be refused: those whose reference refuses (a sentence, 否, No), or all. A row without reference
    counts for neither."""


class CompatOptions(RowMetricOptions):
    """BLEU-4 and ROUGE as LLaMA-Factory prints them, only to compare with old runs; the ROUGE part needs jieba."""

    name: Literal["compat"] = "compat"
