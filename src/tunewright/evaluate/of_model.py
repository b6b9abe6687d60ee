"""The chosen metrics of the model itself and of pairs of systems, made once for all systems of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.events import say
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.config import METRICS, EvaluateConfig
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.rows import drawn
from tunewright.evaluate.scorer import (
    CorpusMetric,
    Detailed,
    FolderMetric,
    PairMetric,
    corpus_metrics,
    folder_metrics,
    pair_metrics,
)
from tunewright.models.tokens import ChatTokenizer

LISTED = "{name}.json"
"""The artifact's file of what a metric lists: rows by system."""


class Weights(Protocol):
    """A system whose weights can be had; `systems.local.LocalModel` is one. Loads no torch before it is asked for them.

    load: gives a fresh model, as it was stored; model: the one that answers, opened where it was not; kind: see
    `systems.protocol`.
    """

    load: Callable[[], Any]
    tokenizer: ChatTokenizer

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def model(self) -> Any: ...


@dataclass(frozen=True)
class OfModel:
    """Metrics by name, and the rows and places that they read. max_length: `model.max_length` of the project file,
    None for the tokenizer's own."""

    over_corpus: Mapping[str, CorpusMetric]
    of_folder: Mapping[str, FolderMetric]
    of_pairs: Mapping[str, PairMetric]
    test: tuple[Conversation, ...]
    training: tuple[Conversation, ...]
    config: EvaluateConfig
    max_length: int | None
    seed: int
    root: Path

    @property
    def folder_keys(self) -> list[str]:
        """Keys of which nobody knows the number of rows before they are measured."""
        chosen = [options for options in self.config.metrics if options.name in self.of_folder]
        return [key for options in chosen for key in METRICS.target(options.name).metric_keys(options)]

    def foresee(self, rows: Sequence[Conversation]) -> list[Measured]:
        """What will be measured, in kind and number, without a model. rows: those that are answered. Raises ConfigError
        or MissingExtraError where a file, a key or a program is missing."""
        corpus = self._corpus("tuned", self.max_length or 1)
        for metric in self.of_folder.values():
            metric.check_folder(corpus)
        found = [one for metric in self.over_corpus.values() for one in metric.foresee_corpus(corpus)]
        return found + [one for pair in self.of_pairs.values() for one in pair.foresee_pair(rows, corpus)]

    def measure(self, candidate: Weights) -> list[Measured]:
        """The metrics over the corpus; the model is opened for them."""
        if not self.over_corpus:
            return []
        corpus = self._corpus(candidate.name, _longest(candidate.tokenizer, self.max_length))
        return [
            one
            for metric in self.over_corpus.values()
            for one in metric.measure_corpus(candidate.model, candidate.tokenizer, corpus)
        ]

    def measure_folder(self, candidate: Weights, *, home: Path, beside: Path) -> list[Measured]:
        """The metrics of a model's folder, when it is no longer in memory. home: the base model's folder, with the
        tokenizer; beside: where weights may be written for a moment."""
        if not self.of_folder:
            return []
        if candidate.kind not in ("base", "full", "merged"):
            names = ", ".join(self.of_folder)
            say(f"evaluate: the {candidate.name} model has no folder of whole weights, so {names} cannot measure it")
            return []
        corpus = self._corpus(candidate.name, _longest(candidate.tokenizer, self.max_length))
        with _folder(candidate, home, beside) as folder:
            return [one for metric in self.of_folder.values() for one in metric.measure_folder(folder, corpus)]

    def measure_pairs(self, answers: Mapping[str, Sequence[Sample]]) -> dict[str, list[Measured]]:
        """By system, its answers against those of `base`; the base against itself too. answers: by system."""
        return {
            system: [
                one
                for metric in self.of_pairs.values()
                for one in metric.measure_pair(answers["base"], samples, self._corpus(system, self.max_length or 1))
            ]
            for system, samples in answers.items()
        }

    def listed(self, systems: Sequence[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Name of a file of the artifact: what a metric lists, by system."""
        every: dict[str, Any] = {**self.over_corpus, **self.of_folder, **self.of_pairs}
        return {
            LISTED.format(name=name): {system: metric.details(system) for system in systems}
            for name, metric in every.items()
            if isinstance(metric, Detailed)
        }

    def _corpus(self, system: str, max_length: int) -> Corpus:
        return Corpus(
            test=self.test,
            training=self.training,
            system=system,
            max_length=max_length,
            seed=self.seed,
            batch_size=self.config.batch_size,
            root=self.root,
        )


def of_model(
    config: EvaluateConfig,
    test: Sequence[Conversation],
    training: Sequence[Conversation],
    *,
    seed: int,
    root: Path,
    max_length: int | None = None,
) -> OfModel:
    """The metrics that `config` chooses. test, training: all rows of the splits; at most `max_rows` test rows are
    measured. root: the project file's folder."""
    rows = test if config.max_rows is None else drawn(test, config.max_rows, seed=seed)
    return OfModel(
        over_corpus=corpus_metrics(config),
        of_folder=folder_metrics(config),
        of_pairs=pair_metrics(config),
        test=tuple(rows),
        training=tuple(training),
        config=config,
        max_length=max_length,
        seed=seed,
        root=root,
    )


def named_files(config: EvaluateConfig, root: Path) -> dict[str, str]:
    """Path in the project file to SHA-256, of every file that an option names and whose content decides a number; empty
    text for one that is missing, which `foresee` refuses. Belongs to what an evaluation is known by."""
    found = {}
    for options in config.metrics:
        for name in getattr(options, "named_files", ()):
            path = root / Path(name).expanduser()
            found[name] = files.sha256(path) if path.is_file() else ""
    return found


def _longest(tokenizer: ChatTokenizer, limit: int | None) -> int:
    """Tokens of a sequence as it is trained: a trained prefix takes none of them, so all systems read the same rows."""
    return min(tokenizer.max_length, limit or tokenizer.max_length)


@contextmanager
def _folder(candidate: Weights, home: Path, beside: Path) -> Iterator[Path]:
    """A folder with the candidate's weights in transformers' form; one that had to be written is gone afterwards."""
    if candidate.kind == "base":
        yield home
        return
    from tunewright.models.save import save_model

    with TemporaryDirectory(prefix=".weights-", dir=beside) as name:
        save_model(candidate.load(), Path(name), tokenizer_from=home)
        yield Path(name)
