"""Metrics by name: which keys they produce, which rows they take, and the primary one as a function.

Loads no torch, so that `config check` can ask for keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.registry import PluginOptions
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.config import METRICS, EvaluateConfig, IntentOptions


@runtime_checkable
class RowMetric(Protocol):
    """A metric over answers, made from its options; its class also has `metric_keys(options) -> list[str]`."""

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        ...

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Statistics of the rows that apply, in the order of `samples`; an empty list where none does."""
        ...


@runtime_checkable
class ModelMetric(Protocol):
    """A metric of the model itself, such as its speed."""

    def measure_model(self, model: Any, tokenizer: Any, prompt_ids: list[int], *, max_length: int) -> list[Measured]:
        """Measures `model` on one prompt; prompt and answer together have at most `max_length` tokens."""
        ...


def known_keys(config: EvaluateConfig) -> list[str]:
    """Every metric key that the chosen metrics produce."""
    return [key for options in config.metrics for key in _keys(options)]


def named_keys(config: EvaluateConfig) -> list[tuple[str, str]]:
    """(place in the project file, metric key) of the primary metric and of every gate."""
    gates = [(f"evaluate.gates.{index}.metric", gate.metric) for index, gate in enumerate(config.gates)]
    return [("evaluate.primary", config.primary), *gates]


def check_keys(config: EvaluateConfig) -> None:
    """Raises one ConfigError for every metric key in `primary` and `gates` that nothing produces, or that two do."""
    known = known_keys(config)
    faults = [f"{place}: no chosen metric produces '{key}'" for place, key in named_keys(config) if key not in known]
    faults += [f"evaluate.metrics: two metrics produce '{key}'" for key, count in Counter(known).items() if count > 1]
    if faults:
        raise ConfigError("\n".join(faults), fix=f"known: {', '.join(dict.fromkeys(known))}")


def intent_options(config: EvaluateConfig) -> IntentOptions | None:
    """The options of the intent metric, where it is chosen."""
    return next((options for options in config.metrics if isinstance(options, IntentOptions)), None)


def row_metrics(config: EvaluateConfig, labels: Sequence[str]) -> list[RowMetric]:
    """The chosen metrics over answers. `labels`: those of the training split."""
    built = [_build(options, labels) for options in config.metrics]
    return [metric for metric in built if isinstance(metric, RowMetric)]


def model_metrics(config: EvaluateConfig) -> list[ModelMetric]:
    """The chosen metrics of the model itself."""
    built = [_build(options, ()) for options in config.metrics]
    return [metric for metric in built if isinstance(metric, ModelMetric)]


def primary_scorer(config: EvaluateConfig, labels: Sequence[str]) -> Callable[[Sequence[Sample]], Measured]:
    """The primary metric as a function of samples, for other stages. Raises ConfigError when it is none of freely
    generated answers, and (the function) when no sample applies."""
    metric = _primary_metric(config, labels)

    def score(samples: Sequence[Sample]) -> Measured:
        for measured in metric.measure(samples):
            if measured.metric == config.primary:
                return measured
        raise ConfigError(
            f"'{config.primary}' applies to none of the {len(samples)} rows",
            where="evaluate.primary",
            fix="check the metric's `where` against the rows' metadata",
        )

    return score


def applies_to(config: EvaluateConfig, conversation: Conversation) -> bool:
    """Whether the primary metric scores this row."""
    return _primary_metric(config, ()).applies(conversation.metadata)


def _primary_metric(config: EvaluateConfig, labels: Sequence[str]) -> RowMetric:
    check_keys(config)
    metric = _build(next(options for options in config.metrics if config.primary in _keys(options)), labels)
    if isinstance(metric, RowMetric) and not config.primary.startswith("intent_choice."):
        return metric
    keys = [key for key in known_keys(config) if not key.startswith(("latency.", "intent_choice."))]
    raise ConfigError(
        f"'{config.primary}' cannot score freely generated answers, which other stages need",
        where="evaluate.primary",
        fix=f"choose one of: {', '.join(keys) or 'the keys of intent, bleu or rouge'}",
    )


def _keys(options: PluginOptions) -> list[str]:
    return list(METRICS.target(options.name).metric_keys(options))


def _build(options: PluginOptions, labels: Sequence[str]) -> Any:
    target = METRICS.target(options.name)
    return target(options, labels) if isinstance(options, IntentOptions) else target(options)
