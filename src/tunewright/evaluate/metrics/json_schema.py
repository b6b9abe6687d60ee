"""Is the answer JSON, and does it follow a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.metrics.counts import rate
from tunewright.evaluate.metrics.json_answers import NOTHING, strict_json
from tunewright.evaluate.metrics.options import JsonSchemaOptions
from tunewright.evaluate.metrics.schema import faults, unknown_keywords
from tunewright.evaluate.rows import applying, matches, metadata_at

VERSION = 1


class JsonSchema:
    """`json_schema.valid` (JSON that follows its schema) and `json_schema.json` (JSON at all), 0 to 1."""

    def __init__(self, options: JsonSchemaOptions) -> None:
        """Raises ConfigError for a schema with a keyword that is not checked."""
        self.options = options
        _checked(options.accept if options.accept is not None else True, "evaluate.metrics.json_schema.accept")

    @staticmethod
    def metric_keys(options: JsonSchemaOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["json_schema.valid", "json_schema.json"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. Raises ConfigError for a row's own schema
        with a keyword that is not checked."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        found = [self._faults(row) for row in rows]
        bare = sum(self._schema(row) is True for row in rows)
        signature = f"draft:2020-12|fenced:{'yes' if self.options.fenced else 'no'}|rows without a schema:{bare}"
        return [
            rate("json_schema.valid", VERSION, [fault == "" for fault in found], signature=signature),
            rate("json_schema.json", VERSION, [fault != _NO_JSON for fault in found], signature=signature),
        ]

    def explain(self, samples: Sequence[Sample]) -> list[dict[str, Any] | None]:
        """For each sample whether it is valid and its first fault; None where the metric does not apply."""
        found = [self._faults(sample) if self.applies(sample.metadata) else None for sample in samples]
        return [None if fault is None else {"valid": fault == "", "fault": fault or None} for fault in found]

    def _schema(self, sample: Sample) -> Any:
        own = metadata_at(sample.metadata, self.options.key)
        if own is not None:
            return _checked(own, f"row {sample.id}: {self.options.key}")
        return True if self.options.accept is None else self.options.accept

    def _faults(self, sample: Sample) -> str:
        """The first fault, empty where there is none."""
        value = strict_json(sample.prediction, fenced=self.options.fenced)
        return _NO_JSON if value is NOTHING else next(faults(value, self._schema(sample)), "")


_NO_JSON = "this is no JSON"


def _checked(schema: Any, where: str) -> Any:
    if unknown := unknown_keywords(schema):
        raise ConfigError("\n".join(unknown), where=where, fix="leave the keyword out, or say the rule in another one")
    return schema
