"""Rivals without a chat model: features of the question and logistic regression on the training labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Sample
from tunewright.evaluate.labels import has_label, normalize
from tunewright.evaluate.prompts import Prompt, prompt_of, shown_text
from tunewright.evaluate.rivals import features, logistic
from tunewright.evaluate.rivals.options import ClassifierOptions, EmbeddingOptions, TfidfOptions
from tunewright.evaluate.rivals.rival import Entrant, Ground, title_of
from tunewright.evaluate.rows import metadata_value
from tunewright.evaluate.scorer import intent_options
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache, digest, through
from tunewright.evaluate.systems.protocol import Answer, Asking, Kind, Logits, OnAnswer
from tunewright.evaluate.systems.samples import sample_of


class Features(Protocol):
    """From texts to rows of numbers."""

    def learn(self, texts: Sequence[str]) -> logistic.Rows:
        """Of the training texts, before any other."""
        ...

    def rows(self, texts: Sequence[str]) -> logistic.Rows:
        """Of other texts."""
        ...


class Classifier:
    """See `ChatModel`: it answers a question with one of the training labels. Trained at its first question."""

    kind: Kind = "classifier"
    gives_logits = False
    chooses = False
    tokenizer: Any = None
    max_length: int | None = None

    def __init__(
        self,
        name: str,
        makes: Features,
        examples: Sequence[tuple[str, str]],
        options: ClassifierOptions,
        *,
        seed: int,
        content: str = "",
        cache: AnswerCache = NO_CACHE,
    ) -> None:
        """examples: (question, label) of the training split; content: hash of whatever else decides the features."""
        self.name = name
        self.labels = sorted({label for _, label in examples})
        self.training_seconds = 0.0
        self._features, self._examples, self._options, self._seed = makes, examples, options, seed
        settings = options.model_dump(mode="json", exclude={"title"})
        self.sha256 = digest([features.VERSION, settings, seed, list(examples), content])
        self._cache = cache
        self._weights: logistic.Floats32 | None = None

    def train(self) -> logistic.Floats32:
        """Weights [features, labels], made once."""
        if self._weights is None:
            start = time.monotonic()
            rows = self._features.learn([text for text, _ in self._examples])
            place = {label: index for index, label in enumerate(self.labels)}
            self._weights = logistic.fit(
                rows,
                [place[label] for _, label in self._examples],
                len(self.labels),
                strength=self._options.strength,
                epochs=self._options.epochs,
                seed=self._seed,
            )
            self.training_seconds = time.monotonic() - start
        return self._weights

    def answer(self, prompts: Sequence[Prompt], asking: Asking) -> list[Sample]:
        """The most probable label of each question."""
        texts = [shown_text(prompt.conversation.prompt) for prompt in prompts]

        def ask(places: list[int], on_answer: OnAnswer) -> None:
            for place, label in zip(places, self._labels([texts[place] for place in places]), strict=True):
                on_answer(place, Answer(label, 0, "stop"))

        row_ids = [prompt.conversation.id for prompt in prompts]
        book = self._cache.book({"system": self.sha256, "kind": self.kind})
        answers, _ = through(book, [digest(text) for text in texts], row_ids, ask)
        return [sample_of(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _labels(self, texts: Sequence[str]) -> list[str]:
        weights = self.train()
        best = logistic.scores(self._features.rows(texts), weights).argmax(1)
        return [self.labels[index] for index in best]

    def choose(self, prompts: Sequence[Prompt], labels: Sequence[str], *, batch_size: int) -> list[str]:
        """Its answers are choices already."""
        raise NotImplementedError("a classifier has nothing but labels to choose from")

    def time_answer(self, prompt: Prompt, asking: Asking) -> float:
        """Features and scores of one question, after training."""
        self.train()
        start = time.monotonic()
        self._labels([shown_text(prompt.conversation.prompt)])
        return time.monotonic() - start

    def next_logits(self, ids: Sequence[Sequence[int]]) -> Logits:
        """A classifier has no next token."""
        raise NotImplementedError("a classifier has no next token")

    def close(self) -> None:
        """Small enough to stay."""


class Tfidf:
    """See `Rival`."""

    def __init__(self, options: TfidfOptions) -> None:
        self.options = options

    def enter(self, ground: Ground) -> Entrant:
        """Raises ConfigError where there is no intent metric."""
        options = self.options
        makes = features.TfidfFeatures(min_rows=options.min_rows)
        return _entrant(ground, options, makes, why="needs no chat model and no GPU")


class Embedding:
    """See `Rival`."""

    def __init__(self, options: EmbeddingOptions) -> None:
        self.options = options

    def enter(self, ground: Ground) -> Entrant:
        """Raises ConfigError where there is no intent metric, ArtifactError where the folder holds no model."""
        from tunewright.models import source
        from tunewright.models.embedding import check_folder

        options = self.options
        folder = (ground.root / options.path).expanduser()
        check_folder(folder, where=f"{ground.where}.path")
        makes = _Embedded(folder, options.batch_size)
        content = source.weights_sha256(folder)
        return _entrant(ground, options, makes, why="needs no chat model and no training of one", content=content)


class _Embedded:
    """Vectors of a model that is loaded when the first text comes."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        self._folder, self._batch_size = folder, batch_size
        self._centred = features.CentredFeatures()
        self._model: Any = None

    def learn(self, texts: Sequence[str]) -> logistic.Rows:
        """Of the training texts."""
        return self._centred.learn(self._vectors(texts))

    def rows(self, texts: Sequence[str]) -> logistic.Rows:
        """Of other texts."""
        return self._centred.rows(self._vectors(texts))

    def _vectors(self, texts: Sequence[str]) -> logistic.Floats32:
        from tunewright.models.embedding import EmbeddingModel

        if self._model is None:
            self._model = EmbeddingModel(self._folder, batch_size=self._batch_size)
        vectors: logistic.Floats32 = self._model.vectors(texts)
        return vectors


def _entrant(ground: Ground, options: ClassifierOptions, makes: Features, *, why: str, content: str = "") -> Entrant:
    exam = ground.exam
    intent = intent_options(exam.config)
    if intent is None:
        raise ConfigError(
            f"the rival {options.name} answers with labels, and no intent metric is chosen",
            where=ground.where,
            fix="add the metric `intent`, or leave this rival out",
        )
    spelled = {normalize(label): label for label in exam.labels}
    labelled = [row for row in ground.training if has_label(intent, row.metadata)]
    examples = [
        (shown_text(row.prompt), spelled[normalize(metadata_value(row.metadata, intent.label) or "")])
        for row in labelled
    ]
    name = title_of(options, options.name)
    system = Classifier(name, makes, examples, options, seed=exam.seed, content=content, cache=ground.cache)
    prompts = [
        prompt_of(exam.config, row, row.prompt, None, room=None, shows_labels=False)
        for row in exam.rows
        if has_label(intent, row.metadata)
    ]
    signature = f"|logistic regression:C={options.strength:g}|features:{options.name}|training rows:{len(examples)}"
    notes = {"training_rows": len(examples), "labels": len(system.labels)}
    return Entrant(name, options.name, system, prompts, why, f"{signature}|seed:{exam.seed}", notes)
