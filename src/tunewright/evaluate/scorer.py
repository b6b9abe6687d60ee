"""Metrics by name: which keys they produce, which rows they take, and the primary one as a function.

Loads no torch, so that `config check` can ask for keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.registry import PluginOptions
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.config import METRICS, EvaluateConfig, IntentOptions
from tunewright.evaluate.corpus import Corpus


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


@runtime_checkable
class CorpusMetric(Protocol):
    """A metric of the model itself over rows: one line of statistics a row, so that two systems are paired."""

    def measure_corpus(self, model: Any, tokenizer: Any, corpus: Corpus) -> list[Measured]:
        """Measures `model`; the rows and their order depend on `corpus` and the options alone, not on the system."""
        ...

    def foresee_corpus(self, corpus: Corpus) -> list[Measured]:
        """What `measure_corpus` will give, in kind and number, without a model. Raises ConfigError where a file that
        an option names is missing or of another form."""
        ...


@runtime_checkable
class FolderMetric(Protocol):
    """A metric that another program takes of a model's folder, when no model of ours is in memory."""

    def measure_folder(self, folder: Path, corpus: Corpus) -> list[Measured]:
        """Measures the model in `folder`, which is in transformers' form."""
        ...

    def check_folder(self, corpus: Corpus) -> None:
        """Raises MissingExtraError or ConfigError where the program or a file is missing, before anything runs."""
        ...


@runtime_checkable
class PairMetric(Protocol):
    """A metric that compares a system's answers with the base's, such as a judge. The base is measured against itself,
    so that every system has a number."""

    def measure_pair(self, base: Sequence[Sample], other: Sequence[Sample], corpus: Corpus) -> list[Measured]:
        """Statistics of `other`, which is the system of `corpus`; an empty list where no row applies."""
        ...

    def foresee_pair(self, rows: Sequence[Conversation], corpus: Corpus) -> list[Measured]:
        """What `measure_pair` will give, in kind and number, without asking anybody. Raises ConfigError where a key or
        file that an option names is missing, or no row applies."""
        ...


@runtime_checkable
class Detailed(Protocol):
    """A metric that has something to list beside its numbers."""

    def details(self, system: str) -> list[dict[str, Any]]:
        """Rows for a file of the artifact, of what was last measured for this system; never raw personal data."""
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
    _check_may_decide(config)


def _check_may_decide(config: EvaluateConfig) -> None:
    """Raises ConfigError for a `primary` or gate on a metric that says itself that it may decide nothing (its class
    has `why_no_gate(options) -> str`)."""
    faults = []
    for options in config.metrics:
        why = getattr(METRICS.target(options.name), "why_no_gate", lambda _: "")(options)
        keys = _keys(options)
        faults += [f"{place}: '{key}': {why}" for place, key in named_keys(config) if why and key in keys]
    if faults:
        raise ConfigError("\n".join(faults), fix="give the metric what it lacks, or name another metric here")


def intent_options(config: EvaluateConfig) -> IntentOptions | None:
    """The options of the intent metric, where it is chosen."""
    return next((options for options in config.metrics if isinstance(options, IntentOptions)), None)


def row_metrics(config: EvaluateConfig, labels: Sequence[str]) -> list[RowMetric]:
    """The chosen metrics over answers. `labels`: those of the training split."""
    chosen = [options for options in config.metrics if issubclass(METRICS.target(options.name), RowMetric)]
    return [_build(options, labels) for options in chosen]


def model_metrics(config: EvaluateConfig) -> list[ModelMetric]:
    """The chosen metrics of the model on one prompt."""
    return list(_of_kind(config, ModelMetric).values())


def corpus_metrics(config: EvaluateConfig) -> dict[str, CorpusMetric]:
    """The chosen metrics of the model over rows, by name."""
    return _of_kind(config, CorpusMetric)


def folder_metrics(config: EvaluateConfig) -> dict[str, FolderMetric]:
    """The chosen metrics of a model's folder, by name."""
    return _of_kind(config, FolderMetric)


def pair_metrics(config: EvaluateConfig) -> dict[str, PairMetric]:
    """The chosen metrics that compare two systems, by name."""
    return _of_kind(config, PairMetric)


def _of_kind(config: EvaluateConfig, kind: type[Any]) -> dict[str, Any]:
    """The chosen metrics of a Protocol by name; no other is made."""
    chosen = [options for options in config.metrics if issubclass(METRICS.target(options.name), kind)]
    return {options.name: _build(options, ()) for options in chosen}


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
    over_answers = [one for one in config.metrics if issubclass(METRICS.target(one.name), RowMetric)]
    keys = [key for one in over_answers for key in _keys(one) if not key.startswith("intent_choice.")]
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
